# Scalability: the models of the sweep over image sizes, and the number of parameters of each model.

from afmp.study.paths import (
    PARAMETERS_FILE,
    benchmark_checkpoint,
    resolution_file,
    scalability_file,
)


# Measure time and memory at one size: AFMP-Small under each semantics, and the other models once. A point that runs out
# of memory is recorded.
rule benchmark_resolution:
    output:
        scalability=in_results(
            resolution_file(semantics, "{resolution}") for semantics in STUDY.semantics
        ),
    log:
        in_results(log_file("benchmark_resolution", "{resolution}")),
    benchmark:
        in_results(benchmark_file("benchmark_resolution", "{resolution}"))
    conda:
        "../envs/afmp.yaml"
    threads: timing_threads
    resources:
        gpu=gpus(STUDY.scalability["device"]),
    params:
        # This module runs in its own process. It is named in a string, so no import statement shows it.
        code=code("benchmark_resolution.py", "afmp.benchmark.measurement"),
        sweep={key: value for key, value in STUDY.scalability.items() if key != "resolutions"},
        semantics=STUDY.semantics,
        # The points that were measured before.
        measured=on_disk(benchmark_checkpoint("{resolution}")),
        # Snakemake does not rerun a job for a changed parameter whose function takes `output`, so a new size measures only
        # itself.
        part_of=lambda wildcards, output: STUDY.scalability["resolutions"],
    script:
        "../workflow_scripts/benchmark_resolution.py"


# Join the sizes into one sweep per semantics.
rule benchmark_scalability:
    input:
        **{
            semantics: in_results(
                resolution_file(semantics, resolution)
                for resolution in STUDY.scalability["resolutions"]
            )
            for semantics in STUDY.semantics
        },
    output:
        scalability=in_results(map(scalability_file, STUDY.semantics)),
    log:
        in_results(log_file("benchmark_scalability")),
    benchmark:
        in_results(benchmark_file("benchmark_scalability"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        code=code("benchmark_scalability.py"),
        semantics=STUDY.semantics,
    script:
        "../workflow_scripts/benchmark_scalability.py"


# Count the parameters of the compared models, and of those that the study trains: its dataset decides their readout.
rule count_parameters:
    input:
        dataset=ancient(DATASET_FILE),
        hash=DATASET_HASH,
    output:
        parameters=in_results(PARAMETERS_FILE),
    log:
        in_results(log_file("count_parameters")),
    benchmark:
        in_results(benchmark_file("count_parameters"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        code=code("count_parameters.py"),
        num_classes=STUDY.scalability["num_classes"],
        models=STUDY.models,
    script:
        "../workflow_scripts/count_parameters.py"
