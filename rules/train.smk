# Training: one job per run and semantics, all its seeds inside.


# Train a run. Its checkpoints are not outputs, which Snakemake would delete when a job fails: a killed job continues.
rule train:
    input:
        code=code("train.py"),
        dataset=DATASET_FILE,
    output:
        results=expand(
            "results/train/{{semantics}}/{{run}}/seed_{seed}/results_{{run}}.json",
            seed=STUDY.seeds,
        ),
        diagnostics=expand(
            "results/train/{{semantics}}/{{run}}/seed_{seed}/diagnostics.json",
            seed=STUDY.seeds,
        ),
        weights=expand(
            "results/train/{{semantics}}/{{run}}/seed_{seed}/{which}.safetensors",
            seed=STUDY.seeds,
            which=["best", "final"],
        ),
    log:
        "results/logs/train/{semantics}/{run}.log",
    benchmark:
        "results/benchmarks/train/{semantics}/{run}.tsv"
    conda:
        "../envs/afmp.yaml"
    # With a GPU, or looking for one, a job has the device to itself; CPU jobs run side by side, a core each.
    threads: lambda wildcards: 1 + 3 * gpus(STUDY.runs[wildcards.run].training.device)
    resources:
        gpu=lambda wildcards: gpus(STUDY.runs[wildcards.run].training.device),
    params:
        config=lambda wildcards: STUDY.runs[wildcards.run].to_dict(),
        seeds=STUDY.seeds,
        checkpoint_folder="results/checkpoints/{semantics}/{run}",
        # What other runs it may train beside its own. It takes `output`, so that their changes do not rerun this job.
        study=lambda wildcards, output: {
            run: config.to_dict() for run, config in STUDY.runs.items()
        },
        # A damaged dataset is prepared again.
        download_folder=rules.prepare_data.params.download_folder,
    script:
        "../workflow_scripts/train.py"


# Whatever reads the configuration again for a job is handed this call's. And on the one GPU of this machine the first
# training job trains all runs that are wanted, and the others find theirs finished: only this call knows which ones are
# wanted, and its jobs inherit the list. (Here because Snakemake has one such hook for all.) A training that starts is told
# in a line, among the epochs of others, without its source files; a dry run tells all of it. And an archive that is not there
# is refused before the job that would draw it starts, and with that deletes the figures of another.
onstart:
    workflow.get_rule("train").message = (
        "rule train: {wildcards.run} [{wildcards.semantics}], log: {log}"
    )
    workflow.config_settings.configfiles = [write_configuration()]
    if any(job.rule.name == "figures_from_archive" for job in workflow.dag.needrun_jobs()):
        refuse_no_archive(OLD_ARCHIVE)
    if workflow.local_exec and gpus_at_once() == 1:
        jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "train"]
        wanted = sorted((job.wildcards.semantics, job.wildcards.run) for job in jobs)
        os.environ.update({WANTED_RUNS: json.dumps(wanted)})


# Every number of every run: epochs, a summary with intervals, paired differences against each study's reference.
rule aggregate:
    input:
        code=code("aggregate.py"),
        results=[
            file for semantics in STUDY.semantics for file in result_files(STUDY.runs, semantics)
        ],
    output:
        epochs=report(
            "results/aggregate/epochs.csv",
            caption="../report/epochs.rst",
            category="Tables",
            labels={"table": "every epoch of every run"},
        ),
        epochs_caption="results/aggregate/epochs.rst",
        summary="results/aggregate/summary.csv",
        summary_page=report(
            "results/aggregate/summary.html",
            caption="../report/summary.rst",
            category="Tables",
            labels={"table": "summary of every run"},
        ),
        summary_caption="results/aggregate/summary.rst",
        differences="results/aggregate/differences.csv",
        differences_page=report(
            "results/aggregate/differences.html",
            caption="../report/differences.rst",
            category="Tables",
            labels={"table": "paired differences"},
        ),
        differences_caption="results/aggregate/differences.rst",
    log:
        "results/logs/aggregate/aggregate.log",
    benchmark:
        "results/benchmarks/aggregate/aggregate.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        studies=STUDY.studies,
        captions=captions,
    script:
        "../workflow_scripts/aggregate.py"
