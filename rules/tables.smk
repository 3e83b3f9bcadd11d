# Tables: every number of the study as CSV, as a page of the report, and with a caption.

from afmp.study.paths import (
    PARAMETERS_FILE,
    SWEEP_TABLES,
    result_files,
    scalability_file,
    table_file,
)


# Tables of all runs: every epoch, a summary with intervals, and paired differences from each study's reference.
rule aggregate:
    input:
        results=in_results(
            file
            for semantics, run in STUDY.trainings
            for file in result_files(semantics, [run], STUDY.seeds)
        ),
    output:
        **table_files("summary", category="Tables", labels=run_table_labels("summary")),
        **table_files("differences", category="Tables", labels=run_table_labels("differences")),
        # The only table without a page, as it is too long for one.
        epochs=report(
            in_results(table_file("epochs")),
            caption="../report/epochs.rst",
            category=in_menu("Tables"),
            labels=run_table_labels("epochs"),
        ),
        epochs_caption=in_results(table_file("epochs", "rst")),
    log:
        in_results(log_file("aggregate")),
    benchmark:
        in_results(benchmark_file("aggregate"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        code=code("aggregate.py"),
        studies=STUDY.studies,
        captions=captions,
    script:
        "../workflow_scripts/aggregate.py"


if STUDY.scalability:

    # Tables of the sweep, its ratios and its fits, and of the parameter counts.
    rule tabulate_scalability:
        input:
            scalability=in_results(map(scalability_file, STUDY.semantics)),
            parameters=in_results(PARAMETERS_FILE),
        output:
            **{
                name: file
                for table in SWEEP_TABLES
                for name, file in table_files(
                    table,
                    category="Scalability",
                    labels=sweep_labels(TABULATED[table], " and ".join(STUDY.semantics)),
                ).items()
            },
        log:
            in_results(log_file("tabulate_scalability")),
        benchmark:
            in_results(benchmark_file("tabulate_scalability"))
        localrule: True
        conda:
            "../envs/afmp.yaml"
        params:
            code=code("tabulate_scalability.py"),
            captions=captions,
        script:
            "../workflow_scripts/tabulate_scalability.py"
