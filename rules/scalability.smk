# Scalability: AFMP-Small against DeiT-Tiny over image sizes, and how many parameters each has.


# Time and memory of forward and backward at every size; a point that runs out of memory is recorded as such.
rule benchmark_scalability:
    input:
        code=code("afmp.benchmark"),
    output:
        scalability="results/benchmark_scalability/{semantics}/scalability.json",
    log:
        "results/logs/benchmark_scalability/{semantics}.log",
    benchmark:
        "results/benchmarks/benchmark_scalability/{semantics}.tsv"
    conda:
        "../envs/afmp.yaml"
    # All cores (Snakemake lowers this to what --cores gives), so that nothing else runs beside a timing.
    threads: 16
    resources:
        gpu=gpus(STUDY.scalability["device"]),
    params:
        sweep=STUDY.scalability,
    script:
        "../workflow_scripts/benchmark_scalability.py"


# Parameters of the models that the paper compares.
rule count_parameters:
    input:
        code=code("afmp.benchmark"),
    output:
        parameters="results/count_parameters/parameters.json",
    log:
        "results/logs/count_parameters/count_parameters.log",
    benchmark:
        "results/benchmarks/count_parameters/count_parameters.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        num_classes=STUDY.scalability["num_classes"],
    script:
        "../workflow_scripts/count_parameters.py"


# Sweep and parameters as tables.
rule tabulate_scalability:
    input:
        code=code("afmp.tables"),
        scalability=expand(
            "results/benchmark_scalability/{semantics}/scalability.json",
            semantics=STUDY.semantics,
        ),
        parameters="results/count_parameters/parameters.json",
    output:
        scalability="results/aggregate/scalability.csv",
        scalability_page=report(
            "results/aggregate/scalability.html",
            caption="../report/scalability.rst",
            category="Scalability",
            labels={"figure": "table of the sweep", "semantics": "both"},
        ),
        parameters="results/aggregate/parameters.csv",
        parameters_page=report(
            "results/aggregate/parameters.html",
            caption="../report/parameters.rst",
            category="Scalability",
            labels={"figure": "table of parameters", "semantics": "both"},
        ),
    log:
        "results/logs/tabulate_scalability/tabulate_scalability.log",
    benchmark:
        "results/benchmarks/tabulate_scalability/tabulate_scalability.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    script:
        "../workflow_scripts/tabulate_scalability.py"
