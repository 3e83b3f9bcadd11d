# Shared parts of the rules: the checked study, the targets, helper functions, and the source files that a job depends on.

import hashlib
import json
import os
import re
from dataclasses import asdict
from glob import iglob
from pathlib import Path

from afmp.figures.catalogue import COMPARED_SEMANTICS, figures
from afmp.finished.manifest import MANIFEST
from afmp.machine.memory import host_bytes
from afmp.records import remove_leftovers, write_text
from afmp.sources import import_closure
from afmp.study.paths import (
    RESULTS,
    TABLE_ENDINGS,
    TABLE_PAGE_ENDING,
    TABLES,
    benchmark_file,
    dataset_file,
    in_results,
    log_file,
    plot_diagnostics_folder,
    table_file,
)
from afmp.study.memory import check_memory, training_bytes
from afmp.study.study import resolve_study
from afmp.training.job import WANTED_RUNS

try:
    # A complete configuration was put together from files that have been checked.
    for path in [] if COMPLETE else workflow.configfiles:
        read_config(path)
    if not isinstance(ARCHIVE, str | None):
        raise AfmpError(f"config: archive: found {ARCHIVE!r}; allowed: text, the path of a folder.")
    # An overlay's studies come first in `config`. A run that is also in config.yaml keeps its name from config.yaml.
    if isinstance(config.get("studies"), dict) and isinstance(own_config.get("studies"), dict):
        order = [name for name in own_config["studies"] if name in config["studies"]]
        config["studies"] = {name: config["studies"][name] for name in [*order, *config["studies"]]}
    STUDY = resolve_study(config)
    # An overlay in JSON gives ordered dictionaries, which YAML cannot write for the report and the archive.
    config.update(json.loads(json.dumps(config)))
except AfmpError as error:
    raise WorkflowError(str(error)) from None

DATASET_FILE = in_results(dataset_file(STUDY.dataset.source))
COMPARE_SEMANTICS = set(COMPARED_SEMANTICS) <= set(STUDY.semantics)

ALL_FIGURES = in_results(file for drawing in figures(asdict(STUDY)) for file in drawing.files)
ALL_TABLES = in_results(table_file(table, ending) for table in TABLES for ending in TABLE_ENDINGS)
ALL_DIAGNOSTICS = in_results(
    plot_diagnostics_folder(semantics, run) for semantics in STUDY.semantics for run in STUDY.runs
)


wildcard_constraints:
    semantics="|".join(STUDY.semantics),
    run="|".join(re.escape(run) for run in STUDY.runs),
    resolution=r"\d+",


# Source files whose edits cannot change an output: log.py only writes progress, process.py only ends a process, and a job
# whose paths change runs anyway, because its files are missing.
UNWATCHED = ("afmp/log.py", "afmp/process.py", "afmp/study/paths.py")


# The source files that a script imports, as inputs of its rule, because Snakemake itself watches only the script. `modules`
# are those that the script imports by a name in a string.
def code(script, *modules):
    closure = import_closure(Path(PROJECT, "workflow_scripts", script), *modules)
    return [os.path.relpath(path) for path in closure if not path.as_posix().endswith(UNWATCHED)]


# Outputs for one table: as CSV, as a page of the report, and its caption.
def table_files(table, *, category, labels):
    page = report(
        in_results(table_file(table, TABLE_PAGE_ENDING)),
        caption=f"../report/{table}.rst",
        category=category,
        labels=labels,
    )
    return {
        table: in_results(table_file(table)),
        f"{table}_page": page,
        f"{table}_caption": in_results(table_file(table, "rst")),
    }


# The same for a table of both semantics' sweeps.
def sweep_table_files(table, label):
    labels = {"figure": label, "semantics": " and ".join(STUDY.semantics)}
    return table_files(table, category="Scalability", labels=labels)


# Refuse notebook_vs_paper. SystemExit, because Snakemake adds a traceback to other exceptions of an input function.
def needs_both_semantics(wildcards):
    raise SystemExit(
        f"Error: config: semantics: found {STUDY.semantics}, but notebook_vs_paper draws the same runs under both; "
        "allowed with it: [paper, notebook]."
    )


# Digest of the names, sizes and modification times of the files that source `folder` reads; None for other sources.
# Snakemake itself compares only the folder's time, which stays the same when an image in it changes.
def folder_digest(wildcards):
    if STUDY.dataset.source != "folder":
        return None
    folder = STUDY.dataset.path
    digest = hashlib.sha256()
    for split in ("train", "test", "val"):
        # As in afmp/data/image_folder.py: classes are one level deep, and names that start with a dot do not count.
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


# Write this call's configuration to a file and return its path. Its name contains a hash of the content, because jobs of
# two calls may wait in one queue.
def write_configuration():
    content = json.dumps(config | {"complete": True})
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    path = Path(f".snakemake/afmp-configuration-{digest}.json").absolute()
    try:
        write_text(path, content)
    except AfmpError as error:
        raise WorkflowError(str(error)) from None
    return path


# GPUs that a job needs: a job that trains or measures times needs one, unless its device is `cpu`.
def gpus(device):
    return 0 if device == "cpu" else 1


# Number of GPU jobs that may run at once; None if the command line does not say.
def gpus_at_once():
    gpu = workflow.global_resources.get("gpu")
    return getattr(gpu, "value", gpu)


# Cores of a job that measures times: all of them, so that nothing runs in parallel with it. With --resources gpu=N, N sizes
# are timed at once, each on its own GPU with its share of the cores. On a cluster the number of cores is unknown, so 4, as
# for training.
def timing_threads(wildcards):
    at_once = gpus_at_once() if gpus(STUDY.scalability["device"]) else 1
    return max(1, (workflow.resource_settings.cores or 4) // max(1, at_once or 1))


# Raise a WorkflowError if one of these runs, which trains on the CPU of this machine, does not fit its memory.
def refuse_too_little_memory(runs):
    for run, config in ((run, STUDY.runs[run]) for run in runs):
        needed = training_bytes(config, seeds=len(STUDY.seeds), together=1, images=1)
        if config.training.device == "cpu":
            try:
                check_memory(run, config, needed, available=host_bytes(), where="this machine has")
            except AfmpError as error:
                raise WorkflowError(str(error)) from None


# The captions of a rule's figures and tables by file name without .rst. Jobs write them, and the report reads them.
# Snakemake does not rerun a job for a changed parameter whose function takes `output`.
def captions(wildcards, output):
    found = [Path(path) for path in output if path.endswith(".rst")]
    for path in map(Path, output):
        found += path.glob("*.rst") if path.is_dir() else []
    return {path.stem: path.read_text(encoding="utf-8") for path in found if path.exists()}


# The manifest of the archive to draw. A wrong archive ends the calls that need it, before any job, and disturbs no other.
# SystemExit, because Snakemake adds a traceback to other exceptions of an input function.
def old_manifest(wildcards):
    if ARCHIVE_ERROR:
        raise SystemExit(f"Error: {ARCHIVE_ERROR}")
    return [f"{OLD_ARCHIVE}/{MANIFEST}"]
