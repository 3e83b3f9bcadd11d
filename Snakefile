# AFMP: the claim of the original notebook, made checkable. The workflow goes from a dataset to every figure of the notebook.
#
# Result paths are results/<rule>/<semantics>/..., where semantics is paper, notebook or refined, or timm for a model of timm that
# is compared with AFMP. afmp/study/paths.py defines them.
#   results/prepare_data/<dataset>.{safetensors,sha256}
#   results/train/<semantics>/<run>/seed_<seed>/{results_<run>.json,best.safetensors,final.safetensors,diagnostics.json}
#   results/benchmark_resolution/<semantics>/<resolution>.json
#   results/benchmark_scalability/<semantics>/scalability.json
#   results/count_parameters/parameters.json
#   results/aggregate/{epochs,summary,differences,scalability,scalability_ratios,scalability_fits,parameters}.{csv,rst}
#   results/aggregate/<table>.html                         all tables but epochs, as pages of the report
#   results/aggregate/{summary,differences}.{tex,md}       for publication
#   results/claims.{yaml,csv,rst,html,tex,md}              claims.yaml as it was answered, and the answers
#   results/figures/<semantics>/<figure>.{png,pdf,rst}
#   results/figures/notebook_vs_paper.{png,pdf,rst}        only with both semantics
#   results/plot_diagnostics/<semantics>/<run>/epoch_<epoch>.{png,rst}
#   results/manifest.json                                  the hash of every file above, written last
#   results/report/{index,report}.html                     the page to open first, and the report of Snakemake
#   results/figures_from_archive/...                       laid out as results/: figures/ and plot_diagnostics/
#   results/page_from_archive/index.html
#   results/tables_from_archive/aggregate/{summary,differences}.{csv,rst,html,tex,md}
#   results/claims_from_archive/claims.{yaml,csv,rst,html,tex,md}
#   results/logs/<rule>/..., results/benchmarks/<rule>/...
# An .rst file is the caption of the figure or table of the same name.
#
# Files that no rule declares as output, so that Snakemake never deletes them:
#   results/download/...                                   archives as they were fetched
#   results/checkpoints/<semantics>/<run>/...              from which an interrupted run resumes
#   results/checkpoints/<semantics>/<run>/seed_<seed>_<key>/       files of a random seed, trained by another run's job
#   results/checkpoints/benchmark_resolution/<resolution>.jsonl    measured points of a size of the sweep
#   results/checkpoints/figures_from_archive/...           figures of an archived study that are drawn already
#   results/checkpoints/verify/...                         checks that the study passed before it is archived or reported
#   results/tensorboard/<semantics>/<run>/seed_<seed>/...   scalars of trainings, if `training/tensorboard` is true
#   results/prepare_data/folder_digest.json                digest of an image folder, as it was last read
#   results/set_aside/...                                  during a call: files that its jobs replace
#   results/snakemake_metadata/...                         Snakemake's records of finished jobs

from snakemake.utils import min_version

min_version("9.20")


# A `complete` configuration needs nothing from config.yaml. Cluster jobs and the report parse this Snakefile again. They get
# the configuration of the `snakemake` call that started them, even if config.yaml has changed.
COMPLETE = config.pop("complete", False)

# Where this Snakefile is. (`workflow.basedir` is that of another workflow which uses this one as a module.)
SOURCE = workflow.current_basedir


include: SOURCE.join("rules/project.smk")
# From the folder: Snakemake's `gitfile` does not find files next to a Snakefile at the top of a repository.
include: f"{PROJECT}/rules/config.smk"


if not COMPLETE:

    configfile: f"{PROJECT}/config.yaml"


# Not part of the study: the archive that rules/archive.smk writes or draws.
ARCHIVE = config.pop("archive", None)

# Not part of the study: how deep rules/verify.smk checks it.
DEPTH_OPTIONS = {key: config.pop(key) for key in ("deep", "spot", "draw") if key in config}


report: f"{PROJECT}/report/workflow.rst"


include: f"{PROJECT}/rules/common.smk"
include: f"{PROJECT}/rules/labels.smk"
include: f"{PROJECT}/rules/data.smk"
include: f"{PROJECT}/rules/train.smk"


if STUDY.scalability:

    include: f"{PROJECT}/rules/scalability.smk"


include: f"{PROJECT}/rules/tables.smk"
include: f"{PROJECT}/rules/figures.smk"
include: f"{PROJECT}/rules/report.smk"
include: f"{PROJECT}/rules/archive.smk"
include: f"{PROJECT}/rules/claims.smk"
include: f"{PROJECT}/rules/verify.smk"
include: f"{PROJECT}/rules/messages.smk"
include: f"{PROJECT}/rules/progress.smk"
include: f"{PROJECT}/rules/start.smk"


# Every figure, table and diagnostics figure of the semantics in config.yaml, and the files that they are made from: one that
# is deleted is made again.
rule all:
    default_target: True
    input:
        STUDY_FILES,


# Only the dataset. Everything after it works without a network.
rule download:
    input:
        DATASET_FILE,


# Only the tables.
rule tables:
    input:
        ALL_TABLES,
