# Scalability: AFMP-Small against DeiT-Tiny over image sizes, and how many parameters each has.


# Time and memory at one size in every configuration, AFMP under each semantics beside one DeiT; a point that runs out of
# memory is recorded as such. What is measured when the job is killed is kept: the next one goes on from there.
rule benchmark_resolution:
    input:
        # What runs in a process of its own is named by a string, in which no import can be seen.
        code=code("benchmark_resolution.py", "afmp.benchmark.measurement"),
    output:
        scalability=expand(
            "results/benchmark_resolution/{semantics}/{{resolution}}.json",
            semantics=STUDY.semantics,
        ),
    log:
        "results/logs/benchmark_resolution/{resolution}.log",
    benchmark:
        "results/benchmarks/benchmark_resolution/{resolution}.tsv"
    conda:
        "../envs/afmp.yaml"
    threads: timing_threads
    resources:
        gpu=gpus(STUDY.scalability["device"]),
    params:
        sweep={key: value for key, value in STUDY.scalability.items() if key != "resolutions"},
        semantics=STUDY.semantics,
        unfinished="results/checkpoints/benchmark_resolution/{resolution}.jsonl",
        # It takes `output`, so that a size more does not measure the others again.
        part_of=lambda wildcards, output: STUDY.scalability["resolutions"],
    script:
        "../workflow_scripts/benchmark_resolution.py"


# The sweep of all sizes.
rule benchmark_scalability:
    input:
        **{
            semantics: expand(
                "results/benchmark_resolution/{semantics}/{resolution}.json",
                semantics=semantics,
                resolution=STUDY.scalability["resolutions"],
            )
            for semantics in STUDY.semantics
        },
        code=code("benchmark_scalability.py"),
    output:
        scalability=expand(
            "results/benchmark_scalability/{semantics}/scalability.json",
            semantics=STUDY.semantics,
        ),
    log:
        "results/logs/benchmark_scalability/benchmark_scalability.log",
    benchmark:
        "results/benchmarks/benchmark_scalability/benchmark_scalability.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        semantics=STUDY.semantics,
    script:
        "../workflow_scripts/benchmark_scalability.py"


# Parameters of the models that the paper compares.
rule count_parameters:
    input:
        code=code("count_parameters.py"),
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


# Sweep, its ratios and fits, and parameters as tables.
rule tabulate_scalability:
    input:
        code=code("tabulate_scalability.py"),
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
            labels={"figure": "table of the sweep", "semantics": " and ".join(STUDY.semantics)},
        ),
        scalability_caption="results/aggregate/scalability.rst",
        scalability_ratios="results/aggregate/scalability_ratios.csv",
        scalability_ratios_page=report(
            "results/aggregate/scalability_ratios.html",
            caption="../report/scalability_ratios.rst",
            category="Scalability",
            labels={"figure": "table of ratios", "semantics": " and ".join(STUDY.semantics)},
        ),
        scalability_ratios_caption="results/aggregate/scalability_ratios.rst",
        scalability_fits="results/aggregate/scalability_fits.csv",
        scalability_fits_page=report(
            "results/aggregate/scalability_fits.html",
            caption="../report/scalability_fits.rst",
            category="Scalability",
            labels={"figure": "table of fits", "semantics": " and ".join(STUDY.semantics)},
        ),
        scalability_fits_caption="results/aggregate/scalability_fits.rst",
        parameters="results/aggregate/parameters.csv",
        parameters_page=report(
            "results/aggregate/parameters.html",
            caption="../report/parameters.rst",
            category="Scalability",
            labels={"figure": "table of parameters", "semantics": " and ".join(STUDY.semantics)},
        ),
        parameters_caption="results/aggregate/parameters.rst",
    log:
        "results/logs/tabulate_scalability/tabulate_scalability.log",
    benchmark:
        "results/benchmarks/tabulate_scalability/tabulate_scalability.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        captions=captions,
    script:
        "../workflow_scripts/tabulate_scalability.py"
