# What the other files share: the checked study, the paths it leads to, and the source files that a job depends on.

import hashlib
import json
import os
import re
from glob import iglob
from pathlib import Path

from afmp.finished.archive import manifest_of
from afmp.figures.catalogue import figure_modules
from afmp.sources import import_closure
from afmp.records import write_text
from afmp.study.study import resolve_study
from afmp.training.job import WANTED_RUNS

try:
    for path in workflow.configfiles:
        read_config(path)
    if not isinstance(ARCHIVE, str | None):
        raise AfmpError(f"config: archive: found {ARCHIVE!r}; allowed: text, the path of a folder.")
    # An overlay's studies come first in `config`; a run shared with one of the project's own keeps the project's name.
    if isinstance(config.get("studies"), dict) and isinstance(own_config.get("studies"), dict):
        order = [name for name in own_config["studies"] if name in config["studies"]]
        config["studies"] = {name: config["studies"][name] for name in [*order, *config["studies"]]}
    STUDY = resolve_study(config)
    # An overlay in JSON brings ordered mappings, which the YAML of the report and of the archive has no word for.
    config.update(json.loads(json.dumps(config)))
except AfmpError as error:
    raise WorkflowError(str(error)) from None

DATASET_FILE = f"results/prepare_data/{STUDY.dataset.source}.safetensors"
FIGURE_FILES = ["png", "pdf", "rst"]
STUDY_FIGURES = [study["figure"] for study in STUDY.studies]
COMPARE_SEMANTICS = set(STUDY.semantics) == {"paper", "notebook"}

ALL_FIGURES = expand(
    "results/figures/{semantics}/{figure}.{ending}",
    semantics=STUDY.semantics,
    figure=[*STUDY_FIGURES, "scalability_results", "scalability_fits"],
    ending=FIGURE_FILES,
)
if COMPARE_SEMANTICS:
    ALL_FIGURES += expand("results/figures/notebook_vs_paper.{ending}", ending=FIGURE_FILES)
ALL_TABLES = expand(
    "results/aggregate/{table}.{ending}",
    table=[
        "epochs",
        "summary",
        "differences",
        "scalability",
        "scalability_ratios",
        "scalability_fits",
        "parameters",
    ],
    ending=["csv", "rst"],
)
ALL_DIAGNOSTICS = expand(
    "results/plot_diagnostics/{semantics}/{run}",
    semantics=STUDY.semantics,
    run=STUDY.runs,
)


wildcard_constraints:
    semantics="|".join(STUDY.semantics),
    run="|".join(re.escape(run) for run in STUDY.runs),
    resolution=r"\d+",


# What a script of workflow_scripts/ imports of the package, and the modules it is told only by name, as inputs: Snakemake
# watches the script itself, but nothing that it imports. afmp/log.py is left out on purpose: it only says what goes on,
# and a change there must not train everything again.
def code(script, *modules):
    closure = import_closure(Path(workflow.basedir, "workflow_scripts", script), *modules)
    return [os.path.relpath(path) for path in closure if path.name != "log.py"]


# Result files of the runs named, every seed, of one semantics (a wildcard unless given).
def result_files(runs, semantics="{semantics}"):
    return [
        f"results/train/{semantics}/{run}/seed_{seed}/results_{run}.json"
        for run in runs
        for seed in STUDY.seeds
    ]


# Why there is no figure of both meanings. By SystemExit: Snakemake adds a traceback to whatever else is raised for an input.
def needs_both_semantics(wildcards):
    raise SystemExit(
        f"Error: config: semantics: found {STUDY.semantics}, but notebook_vs_paper draws the same runs under both; "
        "allowed with it: [paper, notebook]."
    )


# Digest of the names, sizes and times of the files that source `folder` reads; the other sources have none. Snakemake
# itself would look at no more than the time of the folder, which a changed image leaves as it was.
def folder_digest(wildcards):
    if STUDY.dataset.source != "folder":
        return None
    folder = STUDY.dataset.path
    digest = hashlib.sha256()
    for split in ("train", "test", "val"):
        # As for the reader, names that start with a dot do not count, and classes are one level deep.
        names = [
            name for depth in ("*", "*/*") for name in iglob(f"{split}/{depth}", root_dir=folder)
        ]
        for name in sorted(names):
            path = os.path.join(folder, name)
            status = os.stat(path) if os.path.isfile(path) else None
            digest.update(
                os.fsencode(f"{name}\0{status and (status.st_size, status.st_mtime_ns)}\0")
            )
    return digest.hexdigest()


# The configuration of this run as a file to hand on, named by its content: jobs of two runs may wait in one queue.
def write_configuration():
    content = json.dumps(config | {"complete": True})
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    path = Path(f".snakemake/afmp-configuration-{digest}.json").absolute()
    try:
        write_text(path, content)
    except AfmpError as error:
        raise WorkflowError(str(error)) from None
    return path


# A job that trains or times needs a GPU unless its configuration says cpu.
def gpus(device):
    return 0 if device == "cpu" else 1


# How many GPU jobs may run at once, None where nobody said.
def gpus_at_once():
    gpu = workflow.global_resources.get("gpu")
    return getattr(gpu, "value", gpu)


# All cores, so that nothing else runs beside a timing; with --resources gpu=N, N sizes are timed at once, each on a GPU of
# its own with its share of the cores. How many a cluster has is not known here: as many as train takes.
def timing_threads(wildcards):
    at_once = gpus_at_once() if gpus(STUDY.scalability["device"]) else 1
    return max(1, (workflow.resource_settings.cores or 4) // max(1, at_once or 1))


# The captions that jobs wrote beside figures and tables from their runs' numbers, by the file's name without .rst, read
# when the report is made. It takes `output`, so Snakemake does not count it among the parameters whose change reruns.
def captions(wildcards, output):
    found = [Path(path) for path in output if path.endswith(".rst")]
    for path in map(Path, output):
        found += path.glob("*.rst") if path.is_dir() else []
    return {path.stem: path.read_text(encoding="utf-8") for path in found if path.exists()}


# Before any job starts, as a job's start deletes what it made before.
def refuse_no_archive(archive):
    try:
        manifest_of(archive)
    except AfmpError as error:
        raise WorkflowError(str(error)) from None
