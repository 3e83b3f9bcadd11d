# What the other files share: the checked study, the paths it leads to, and the source files that a job depends on.

import os
import re
import sys

from snakemake.exceptions import WorkflowError

# The code that is watched is the code that runs, whatever else is installed; scripts inherit this.
sys.path.insert(0, str(workflow.basedir))
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [str(workflow.basedir), os.environ.get("PYTHONPATH")]))
)

from afmp.errors import AfmpError
from afmp.figures import figure_module
from afmp.provenance import import_closure
from afmp.study import refuse_duplicate_keys, resolve_study

try:
    for path in workflow.configfiles:
        refuse_duplicate_keys(path)
    STUDY = resolve_study(config)
except AfmpError as error:
    raise WorkflowError(str(error)) from None

DATASET_FILE = f"results/prepare_data/{STUDY.dataset.source}.safetensors"
FIGURE_FILES = ["png", "pdf"]
STUDY_FIGURES = [study["figure"] for study in STUDY.studies]
COMPARE_SEMANTICS = set(STUDY.semantics) == {"paper", "notebook"}

ALL_FIGURES = expand(
    "results/figures/{semantics}/{figure}.{ending}",
    semantics=STUDY.semantics,
    figure=[*STUDY_FIGURES, "scalability_results"],
    ending=FIGURE_FILES,
) + expand(
    "results/figures/notebook_vs_paper.{ending}",
    ending=FIGURE_FILES if COMPARE_SEMANTICS else [],
)
ALL_TABLES = expand(
    "results/aggregate/{table}.csv",
    table=["epochs", "summary", "differences", "scalability", "parameters"],
)
ALL_DIAGNOSTICS = expand(
    "results/plot_diagnostics/{semantics}/{run}",
    semantics=STUDY.semantics,
    run=STUDY.runs,
)


wildcard_constraints:
    semantics="|".join(STUDY.semantics),
    run="|".join(re.escape(run) for run in STUDY.runs),
    seed=r"\d+",


# Source files of the package as inputs. Snakemake watches a script, but nothing that it imports.
def code(*modules):
    return [os.path.relpath(path) for path in import_closure(*modules)]


# Result files of the runs named, every seed, of one semantics (a wildcard unless given).
def result_files(runs, semantics="{semantics}"):
    return [
        f"results/train/{semantics}/{run}/seed_{seed}/results_{run}.json"
        for run in runs
        for seed in STUDY.seeds
    ]


# The folders that source `folder` reads; the other sources have none.
def dataset_folders():
    if STUDY.dataset.source != "folder":
        return []
    splits = [os.path.join(STUDY.dataset.path, split) for split in ("train", "test", "val")]
    return [folder for folder in splits if os.path.isdir(folder)]


# A job that trains or times needs a GPU unless its configuration says cpu.
def gpus(device):
    return 0 if device == "cpu" else 1


# The caption that was written with a figure from its runs' numbers, read when the report is made. It takes `output`,
# so Snakemake does not count it among the parameters whose change reruns a job.
def caption(wildcards, output):
    if os.path.exists(output.caption):
        with open(output.caption, encoding="utf-8") as file:
            return file.read()
    return ""
