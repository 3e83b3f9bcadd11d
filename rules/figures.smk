# Figures: one rule per figure, each with a short name as its target; a study of config.yaml is a figure.

for study in STUDY.studies:

    # The study's figure under one semantics.
    rule:
        name:
            f"plot_{study['figure']}"
        input:
            code=code("plot_study.py", figure_module(study["figure"])),
            results=result_files([member["run"] for member in study["members"]]),
        output:
            png=report(
                f"results/figures/{{semantics}}/{study['figure']}.png",
                caption="../report/figure.rst",
                category=f"{study['section']} {study['title']}",
                labels={"figure": study["figure"], "semantics": "{semantics}"},
            ),
            pdf=f"results/figures/{{semantics}}/{study['figure']}.pdf",
            caption=f"results/figures/{{semantics}}/{study['figure']}.rst",
        log:
            f"results/logs/plot_{study['figure']}/{{semantics}}.log",
        benchmark:
            f"results/benchmarks/plot_{study['figure']}/{{semantics}}.tsv"
        localrule: True
        conda:
            "../envs/afmp.yaml"
        params:
            study=study,
            captions=captions,
        script:
            "../workflow_scripts/plot_study.py"

    # Its short name.
    rule:
        name:
            study["figure"]
        input:
            expand(
                "results/figures/{semantics}/{figure}.{ending}",
                semantics=STUDY.semantics,
                figure=study["figure"],
                ending=FIGURE_FILES,
            ),


# Time and memory over image sizes; the other semantics' AFMP-Small is one more line.
rule plot_scalability_results:
    input:
        code=code("plot_scalability_results.py"),
        scalability="results/benchmark_scalability/{semantics}/scalability.json",
        others=other_sweeps,
    output:
        png=report(
            "results/figures/{semantics}/scalability_results.png",
            caption="../report/figure.rst",
            category="Scalability",
            labels={"figure": "scalability_results", "semantics": "{semantics}"},
        ),
        pdf="results/figures/{semantics}/scalability_results.pdf",
        caption="results/figures/{semantics}/scalability_results.rst",
    log:
        "results/logs/plot_scalability_results/{semantics}.log",
    benchmark:
        "results/benchmarks/plot_scalability_results/{semantics}.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        captions=captions,
    script:
        "../workflow_scripts/plot_scalability_results.py"


# Its short name.
rule scalability_results:
    input:
        expand(
            "results/figures/{semantics}/scalability_results.{ending}",
            semantics=STUDY.semantics,
            ending=FIGURE_FILES,
        ),


# How time and memory grow with the number of patches; the other semantics' AFMP-Small is one more line.
rule plot_scalability_fits:
    input:
        code=code("plot_scalability_fits.py"),
        scalability="results/benchmark_scalability/{semantics}/scalability.json",
        others=other_sweeps,
    output:
        png=report(
            "results/figures/{semantics}/scalability_fits.png",
            caption="../report/figure.rst",
            category="Scalability",
            labels={"figure": "scalability_fits", "semantics": "{semantics}"},
        ),
        pdf="results/figures/{semantics}/scalability_fits.pdf",
        caption="results/figures/{semantics}/scalability_fits.rst",
    log:
        "results/logs/plot_scalability_fits/{semantics}.log",
    benchmark:
        "results/benchmarks/plot_scalability_fits/{semantics}.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        captions=captions,
    script:
        "../workflow_scripts/plot_scalability_fits.py"


# Its short name.
rule scalability_fits:
    input:
        expand(
            "results/figures/{semantics}/scalability_fits.{ending}",
            semantics=STUDY.semantics,
            ending=FIGURE_FILES,
        ),


if COMPARE_SEMANTICS:

    # The same runs under both meanings.
    rule plot_notebook_vs_paper:
        input:
            code=code("plot_notebook_vs_paper.py"),
            paper=result_files(STUDY.runs, "paper"),
            notebook=result_files(STUDY.runs, "notebook"),
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
            studies=STUDY.studies,
            captions=captions,
        script:
            "../workflow_scripts/plot_notebook_vs_paper.py"

    # Its short name.
    rule notebook_vs_paper:
        input:
            expand("results/figures/notebook_vs_paper.{ending}", ending=FIGURE_FILES),

else:

    # Asked for all the same, it ends in a sentence.
    rule notebook_vs_paper:
        input:
            needs_both_semantics,


# What the gates of a run did over training, for its first seed.
rule plot_diagnostics:
    input:
        code=code("plot_diagnostics.py"),
        diagnostics=f"results/train/{{semantics}}/{{run}}/seed_{STUDY.seeds[0]}/diagnostics.json",
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
        captions=captions,
    script:
        "../workflow_scripts/plot_diagnostics.py"
