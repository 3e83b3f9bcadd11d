# Figures: one rule per figure, each with a short name as its target. afmp/figures/catalogue.py lists them all.

from dataclasses import asdict

from afmp.figures import catalogue
from afmp.study import paths

# Every figure by its path, in plain values: Snakemake compares them, and draws again what has changed.
DRAWINGS = {drawing.path: drawing for drawing in catalogue.figures(asdict(STUDY))}

# The figures of each semantics, and their categories in the report.
CATEGORIES = {study["figure"]: f"{study['section']} {study['title']}" for study in STUDY.studies}
CATEGORIES |= dict.fromkeys(catalogue.SWEEP_FIGURES, "Scalability")

for figure, category in CATEGORIES.items():

    # One figure under one semantics.
    rule:
        name:
            f"plot_{figure}"
        input:
            code=code("plot_figure.py", catalogue.figure_module(figure)),
            records=lambda wildcards, figure=figure: paths.in_results(
                DRAWINGS[paths.figure_path(wildcards.semantics, figure)].sources
            ),
        output:
            png=report(
                f"results/figures/{{semantics}}/{figure}.png",
                caption="../report/figure.rst",
                category=category,
                labels={"figure": figure, "semantics": "{semantics}"},
            ),
            pdf=f"results/figures/{{semantics}}/{figure}.pdf",
            caption=f"results/figures/{{semantics}}/{figure}.rst",
        log:
            f"results/logs/plot_{figure}/{{semantics}}.log",
        benchmark:
            f"results/benchmarks/plot_{figure}/{{semantics}}.tsv"
        localrule: True
        conda:
            "../envs/afmp.yaml"
        params:
            drawing=lambda wildcards, figure=figure: asdict(
                DRAWINGS[paths.figure_path(wildcards.semantics, figure)]
            ),
            captions=captions,
        script:
            "../workflow_scripts/plot_figure.py"

    # Its short name.
    rule:
        name:
            figure
        input:
            [
                paths.in_results(DRAWINGS[paths.figure_path(semantics, figure)].files)
                for semantics in STUDY.semantics
            ],


if COMPARE_SEMANTICS:

    # The same runs under both semantics.
    rule plot_notebook_vs_paper:
        input:
            code=code("plot_figure.py", "afmp.figures.notebook_vs_paper"),
            records=paths.in_results(DRAWINGS[paths.NOTEBOOK_VS_PAPER].sources),
        output:
            png=report(
                "results/figures/notebook_vs_paper.png",
                caption="../report/figure.rst",
                category="Notebook and paper",
                labels={"figure": "notebook_vs_paper", "semantics": "both"},
            ),
            pdf="results/figures/notebook_vs_paper.pdf",
            caption="results/figures/notebook_vs_paper.rst",
        log:
            "results/logs/plot_notebook_vs_paper/plot_notebook_vs_paper.log",
        benchmark:
            "results/benchmarks/plot_notebook_vs_paper/plot_notebook_vs_paper.tsv"
        localrule: True
        conda:
            "../envs/afmp.yaml"
        params:
            drawing=asdict(DRAWINGS[paths.NOTEBOOK_VS_PAPER]),
            captions=captions,
        script:
            "../workflow_scripts/plot_figure.py"

    # Its short name.
    rule notebook_vs_paper:
        input:
            paths.in_results(DRAWINGS[paths.NOTEBOOK_VS_PAPER].files),

else:

    # Its short name ends in a sentence that says what it needs.
    rule notebook_vs_paper:
        input:
            needs_both_semantics,


# The gates of a run over training, for its first random seed.
rule plot_diagnostics:
    input:
        code=code("plot_diagnostics.py", "afmp.figures.diagnostics"),
        diagnostics=paths.in_results(paths.diagnostics_file("{semantics}", "{run}", STUDY.seeds[0])),
        dataset=DATASET_FILE,
    output:
        folder=report(
            directory("results/plot_diagnostics/{semantics}/{run}"),
            patterns=["epoch_{epoch}.png"],
            caption="../report/diagnostics.rst",
            category="Diagnostics",
            subcategory="{semantics}",
            labels={"run": "{run}", "epoch": "{epoch}"},
        ),
    log:
        "results/logs/plot_diagnostics/{semantics}/{run}.log",
    benchmark:
        "results/benchmarks/plot_diagnostics/{semantics}/{run}.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        drawings=lambda wildcards: [
            asdict(drawing)
            for drawing in catalogue.diagnostics_figures(
                asdict(STUDY),
                semantics=wildcards.semantics,
                run=wildcards.run,
                epochs=STUDY.runs[wildcards.run].training.visualized_epochs,
            )
        ],
        captions=captions,
    script:
        "../workflow_scripts/plot_diagnostics.py"
