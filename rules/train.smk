# Training: one job per run and semantics. It trains all random seeds.

from afmp.study.paths import (
    DOWNLOAD_FOLDER,
    SET_ASIDE,
    WEIGHTS,
    checkpoint_folder,
    diagnostics_file,
    result_files,
    tensorboard_folder,
    train_folder,
    weights_file,
)


# Train a run. Checkpoints are not outputs, because Snakemake deletes the outputs of a failed job.
rule train:
    input:
        warn_of_other_study,
        dataset=ancient(DATASET_FILE),
        hash=DATASET_HASH,
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
    # A job that may use a GPU (any device but `cpu`) has 4 cores. CPU jobs have one core each and run in parallel.
    threads: lambda wildcards: 1 + 3 * gpus(STUDY.runs[wildcards.run].training.device)
    resources:
        gpu=lambda wildcards: gpus(STUDY.runs[wildcards.run].training.device),
    params:
        code=code("train.py"),
        settings=lambda wildcards: STUDY.runs[wildcards.run].without_places(),
        seeds=STUDY.seeds,
        checkpoint_folder=on_disk(checkpoint_folder("{semantics}", "{run}")),
        set_aside=on_disk(f"{SET_ASIDE}/{train_folder('{semantics}', '{run}')}"),
        # This run, and those that this job may train in parallel with it. Snakemake does not rerun a job for a changed
        # parameter whose function takes `output`.
        study=lambda wildcards, output: {
            run: config.to_dict() for run, config in STUDY.runs.items()
        },
        # Where scalars for TensorBoard go, if at all. To ask for them starts no job, as for `study`.
        tensorboard=lambda wildcards, output: (
            on_disk(tensorboard_folder(wildcards.semantics, wildcards.run))
            if STUDY.tensorboard
            else None
        ),
        # A damaged dataset is prepared again from the archives in this folder.
        download_folder=on_disk(DOWNLOAD_FOLDER),
    script:
        "../workflow_scripts/train.py"
