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
        # A damaged dataset is prepared again.
        download_folder=rules.prepare_data.params.download_folder,
    script:
        "../workflow_scripts/train.py"


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
