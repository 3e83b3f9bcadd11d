# Training: one job per run and semantics, which trains all random seeds.

from afmp.study.paths import (
    DOWNLOAD_FOLDER,
    WEIGHTS,
    checkpoint_folder,
    diagnostics_file,
    result_files,
    weights_file,
)


# Train a run. Checkpoints are not outputs, because Snakemake deletes the outputs of a failed job.
rule train:
    input:
        code=code("train.py"),
        dataset=DATASET_FILE,
    output:
        results=in_results(result_files("{semantics}", ["{run}"], STUDY.seeds)),
        diagnostics=in_results(
            diagnostics_file("{semantics}", "{run}", seed) for seed in STUDY.seeds
        ),
        weights=in_results(
            weights_file("{semantics}", "{run}", seed, which)
            for seed in STUDY.seeds
            for which in WEIGHTS
        ),
    log:
        in_results(log_file("train", "{semantics}/{run}")),
    benchmark:
        in_results(benchmark_file("train", "{semantics}/{run}"))
    conda:
        "../envs/afmp.yaml"
    # With a GPU, or looking for one, a job has the device to itself. CPU jobs run in parallel, on one core each.
    threads: lambda wildcards: 1 + 3 * gpus(STUDY.runs[wildcards.run].training.device)
    resources:
        gpu=lambda wildcards: gpus(STUDY.runs[wildcards.run].training.device),
    params:
        config=lambda wildcards: STUDY.runs[wildcards.run].to_dict(),
        seeds=STUDY.seeds,
        checkpoint_folder=in_results(checkpoint_folder("{semantics}", "{run}")),
        # The runs that it may train along with its own. With `output` as an argument it is no reason to rerun this job.
        study=lambda wildcards, output: {
            run: config.to_dict() for run, config in STUDY.runs.items()
        },
        # For a damaged dataset, which is prepared again.
        download_folder=in_results(DOWNLOAD_FOLDER),
    script:
        "../workflow_scripts/train.py"
