# AFMP: a paper's claim, made checkable. Dataset in, every figure of the paper out.
#
# The grammar of result paths: results/<rule>/<semantics>/<what>, semantics is paper or notebook.
#   results/prepare_data/<dataset>.safetensors
#   results/train/<semantics>/<run>/seed_<seed>/{results_<run>.json,best.safetensors,final.safetensors,diagnostics.json}
#   results/benchmark_resolution/<semantics>/<resolution>.json
#   results/benchmark_scalability/<semantics>/scalability.json
#   results/count_parameters/parameters.json
#   results/aggregate/{epochs,summary,differences,scalability,scalability_ratios,scalability_fits,parameters}.{csv,rst}
#   results/aggregate/{summary,differences,scalability,scalability_ratios,scalability_fits,parameters}.html   the table as a page of the report
#   results/figures/<semantics>/<figure>.{png,pdf,rst}
#   results/figures/notebook_vs_paper.{png,pdf,rst}        with both semantics only
#   results/plot_diagnostics/<semantics>/<run>/epoch_<epoch>.{png,rst}
#   results/report/report.html
#   results/figures_from_archive/...                       as results/: figures/, and the last epochs of plot_diagnostics/
#   An .rst is the caption, with the runs' numbers, of the figure or table beside it.
#   results/download/...                                   not declared: archives as they were fetched
#   results/checkpoints/<semantics>/<run>/...              not declared: what a killed run continues from
#   results/checkpoints/benchmark_resolution/<resolution>.jsonl   not declared: the same for a size of the sweep
#   results/checkpoints/<semantics>/<run>/seed_<seed>_<key>/   not declared: files of a seed finished in another run's job
#   results/logs/<rule>/..., results/benchmarks/<rule>/...

from snakemake.utils import min_version

min_version("9.20")


# A `complete` configuration needs nothing from config.yaml. Whatever reads this file again for a job, on a cluster or for
# the report, is handed one: that of the run it belongs to, though config.yaml be edited meanwhile.
COMPLETE = config.pop("complete", False)


include: "rules/config.smk"


if not COMPLETE:

    configfile: f"{workflow.basedir}/config.yaml"


# No part of the study: it only says which archive rules/archive.smk works on.
ARCHIVE = config.pop("archive", None)


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/scalability.smk"
include: "rules/figures.smk"
include: "rules/report.smk"
include: "rules/archive.smk"
include: "rules/verify.smk"


# Every figure, table and diagnostic of every semantics that config.yaml lists.
rule all:
    default_target: True
    input:
        ALL_FIGURES,
        ALL_TABLES,
        ALL_DIAGNOSTICS,


# Only the dataset: after this the rest needs no network.
rule download:
    input:
        DATASET_FILE,


# Only the tables.
rule tables:
    input:
        ALL_TABLES,
