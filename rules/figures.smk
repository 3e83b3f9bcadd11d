# Figures: one rule per figure, and one target with the figure's short name. afmp/figures/catalogue.py lists them all.

from afmp.figures.catalogue import SWEEP_FIGURES, diagnostics_figures, figure_module
from afmp.study.paths import NOTEBOOK_VS_PAPER, figure_files, figure_path, plot_diagnostics_path

# Every figure by its path, in plain values. Snakemake compares these values, and draws a changed figure again.
DRAWINGS = {drawing.path: drawing for drawing in figures(STUDY.to_dict())}

# The figures under one semantics each: the category and the labels of each in the report, and its semantics.
IN_REPORT = {
    study["figure"]: (category_of(study), study_labels(study), study["semantics"])
    for study in STUDY.studies
}
if STUDY.scalability:
    IN_REPORT |= {
        figure: ("Scalability", sweep_labels(SWEPT[figure]), STUDY.semantics)
        for figure in SWEEP_FIGURES
    }

for figure, (category, labels, figure_semantics) in IN_REPORT.items():

    # One figure under one semantics.
    rule:
        name:
            f"plot_{figure}"
        input:
            records=lambda wildcards, figure=figure: in_results(
                DRAWINGS[figure_path(wildcards.semantics, figure)].sources
            ),
        output:
            png=report(
                in_results(f"{figure_path('{semantics}', figure)}.png"),
                caption="../report/figure.rst",
                category=in_menu(category),
                labels=labels,
            ),
            pdf=in_results(f"{figure_path('{semantics}', figure)}.pdf"),
            caption=in_results(f"{figure_path('{semantics}', figure)}.rst"),
        log:
            in_results(log_file(f"plot_{figure}", "{semantics}")),
        benchmark:
            in_results(benchmark_file(f"plot_{figure}", "{semantics}"))
        localrule: True
        conda:
            "../envs/afmp.yaml"
        params:
            code=code("plot_figure.py", figure_module(figure)),
            drawing=lambda wildcards, figure=figure: asdict(
                DRAWINGS[figure_path(wildcards.semantics, figure)]
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
                in_results(figure_files(figure_path(semantics, figure)))
                for semantics in figure_semantics
            ],


for figure in () if STUDY.scalability else SWEEP_FIGURES:

    # Without a sweep, its figures fail with an error that says so.
    rule:
        name:
            figure
        input:
            needs_a_sweep,


if COMPARE_SEMANTICS:

    # The same runs under both semantics.
    rule plot_notebook_vs_paper:
        input:
            records=in_results(DRAWINGS[NOTEBOOK_VS_PAPER].sources),
        output:
            png=report(
                in_results(f"{NOTEBOOK_VS_PAPER}.png"),
                caption="../report/figure.rst",
                category=in_menu("Paper and notebook"),
                labels={
                    "semantics": "paper and notebook",
                    "quantity": "test accuracy",
                    "random seeds": NUM_SEEDS,
                },
            ),
            pdf=in_results(f"{NOTEBOOK_VS_PAPER}.pdf"),
            caption=in_results(f"{NOTEBOOK_VS_PAPER}.rst"),
        log:
            in_results(log_file("plot_notebook_vs_paper")),
        benchmark:
            in_results(benchmark_file("plot_notebook_vs_paper"))
        localrule: True
        conda:
            "../envs/afmp.yaml"
        params:
            code=code("plot_figure.py", DRAWINGS[NOTEBOOK_VS_PAPER].module),
            drawing=asdict(DRAWINGS[NOTEBOOK_VS_PAPER]),
            captions=captions,
        script:
            "../workflow_scripts/plot_figure.py"

    # Its short name.
    rule notebook_vs_paper:
        input:
            in_results(figure_files(NOTEBOOK_VS_PAPER)),

else:

    # Without both semantics, this target fails with an error that says so.
    rule notebook_vs_paper:
        input:
            needs_both_semantics,


# The runs by the epochs of their diagnostics. Every picture is an output of its own, so a deleted one is drawn again. Outputs
# cannot depend on the run, so runs with other epochs have a rule of their own. A rival has no gates to draw.
RUNS_BY_EPOCHS = {}
for run in STUDY.runs:
    if epochs := tuple(STUDY.runs[run].visualized_epochs):
        RUNS_BY_EPOCHS.setdefault(epochs, []).append(run)

for number, (epochs, runs) in enumerate(RUNS_BY_EPOCHS.items()):

    # The gates of a run at several epochs, for its first random seed.
    rule:
        name:
            f"plot_diagnostics_{number}" if number else "plot_diagnostics"
        input:
            diagnostics=in_results(diagnostics_file("{semantics}", "{run}", STUDY.seeds[0])),
            dataset=ancient(DATASET_FILE),
            hash=DATASET_HASH,
        output:
            [
                report(
                    in_results(f"{plot_diagnostics_path('{semantics}', '{run}', epoch)}.png"),
                    caption=diagnostics_template(epoch),
                    category=in_menu("Diagnostics"),
                    subcategory=diagnostics_group,
                    labels=diagnostics_labels(epoch, epochs),
                )
                for epoch in epochs
            ],
            captions=[
                in_results(f"{plot_diagnostics_path('{semantics}', '{run}', epoch)}.rst")
                for epoch in epochs
            ],
        log:
            in_results(log_file("plot_diagnostics", "{semantics}/{run}")),
        benchmark:
            in_results(benchmark_file("plot_diagnostics", "{semantics}/{run}"))
        wildcard_constraints:
            run="|".join(map(re.escape, runs)),
        localrule: True
        conda:
            "../envs/afmp.yaml"
        params:
            code=code("plot_diagnostics.py", "afmp.figures.diagnostics"),
            drawings=lambda wildcards, epochs=epochs: [
                asdict(drawing)
                for drawing in diagnostics_figures(
                    STUDY.to_dict(),
                    semantics=wildcards.semantics,
                    run=wildcards.run,
                    epochs=epochs,
                )
            ],
            captions=captions,
        script:
            "../workflow_scripts/plot_diagnostics.py"
