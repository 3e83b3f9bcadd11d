# Start: what happens once, before the first job. Snakemake has one hook for all rules.


onstart:
    # One line per training job that starts, between the epochs of others: Snakemake's own message lists every source file.
    workflow.get_rule("train").message = (
        "rule train: {wildcards.run} [{wildcards.semantics}], log: {log}"
    )
    # Jobs on a cluster, and the report, read the configuration again: they get that of this call.
    workflow.config_settings.configfiles = [write_configuration()]
    waiting = list(workflow.dag.needrun_jobs())
    # Refused here because the job, once started, would delete the figures of another archive.
    if any(job.rule.name == "figures_from_archive" for job in waiting):
        refuse_no_archive(OLD_ARCHIVE)
    # On the only GPU of this machine, the first training job trains all wanted runs, and the others find theirs finished.
    # Only this call knows which runs are wanted. Its jobs inherit the list.
    if workflow.local_exec and gpus_at_once() == 1:
        jobs = [job.wildcards for job in waiting if job.rule.name == "train"]
        wanted = sorted((job.semantics, job.run) for job in jobs)
        os.environ.update({WANTED_RUNS: json.dumps(wanted)})
