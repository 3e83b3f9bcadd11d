# Start and end: the steps before the first job and after the last one. Snakemake has one hook of each kind for all rules.

# Of files that are set aside: the records that Snakemake had of them.
REPLACED = {}

if workflow.is_main_process and workflow.modifier.is_main_snakefile():
    keep_metadata_with_results()


onstart:
    # Executors of clusters put paths into a command within a command, which only a part of them quotes.
    if not workflow.local_exec:
        for path in (PROJECT, shlex.split(sys.executable)[0], os.getcwd()):
            if found := re.search(r"""["'$`\\!\n]""", path):
                raise WorkflowError(
                    f"{path}: found {found[0]!r} in this path, which cannot be in the command of a cluster job; "
                    "move this folder to one without it."
                )
    # One short line when a training job starts; Snakemake's own message would list every output.
    workflow.get_rule("train").message = (
        "rule train: {wildcards.run} [{wildcards.semantics}], log: {log}"
    )
    # Cluster jobs and the report read the configuration again. They get that of this call.
    workflow.config_settings.configfiles = [write_configuration()]
    waiting = list(workflow.dag.needrun_jobs())
    # Parts of files that killed jobs were writing; a file that no job writes again would keep them.
    remove_leftovers(RESULTS)
    # A job says this too, of the device that it finds, but only after the dataset has been downloaded and prepared.
    training = sorted({job.wildcards.run for job in waiting if job.rule.name == "train"})
    if workflow.local_exec:
        refuse_too_little_memory(training)
    refuse_wrong_rivals(training)
    set_aside(waiting)
    # On the only GPU of this machine, the first training job trains all runs of this call, and the other training jobs find
    # their runs already trained. Only this call knows its runs. Its jobs inherit the list.
    if workflow.local_exec and gpus_at_once() == 1:
        jobs = [job.wildcards for job in waiting if job.rule.name == "train"]
        wanted = sorted((job.semantics, job.run) for job in jobs)
        os.environ.update({WANTED_RUNS: json.dumps(wanted)})
    show_progress(waiting)


onsuccess:
    end_progress()
    put_back()


onerror:
    end_progress()
    put_back()
