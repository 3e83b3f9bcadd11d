# Report: Snakemake's own, every figure and table with a caption of the runs' numbers, in one HTML file.


# `snakemake report` makes it together with all that it shows; `snakemake --report report.html` makes it from what is there.
rule report:
    input:
        ALL_FIGURES,
        ALL_TABLES,
        ALL_DIAGNOSTICS,
        code=code("report.py"),
        templates=[os.path.relpath(path) for path in Path(workflow.basedir, "report").glob("*.rst")],
    output:
        "results/report/report.html",
    log:
        "results/logs/report/report.log",
    benchmark:
        "results/benchmarks/report/report.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    script:
        "../workflow_scripts/report.py"
