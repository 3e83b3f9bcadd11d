"""The identity of a seed: the settings, dataset, device and code that decide its numbers; its checkpoint's name.

A checkpoint is used only by a training of the same identity. The code is every file that `afmp.training.run_training`
imports, directly or indirectly, except NOT_NUMBERS. This module does not import PyTorch.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

from afmp.errors import AfmpError
from afmp.sources import PROJECT, import_closure, source_hash
from afmp.study.paths import seed_checkpoint_file
from afmp.tensors import json_entry, read_header
from afmp.training.run import Run

# Imported files that cannot change a run's numbers, as paths below afmp/. After an edit in one of them Snakemake starts
# the training job again. The job finds its finished checkpoint, and only writes the results again.
NOT_NUMBERS = (
    "records",
    "errors",
    "files",
    "provenance",
    "sources",
    "tensors",
    "training/checkpoint",
    "training/identity",
    "training/run",
    "training/out_of_memory",
    "training/seed_files",
    "training/step_cost",
    "training/side_by_side",
    "machine/memory",
    "machine/stopping",
    "machine/timing",
    "study/memory",
    "study/paths",
    "study/run_config",
)


def number_files() -> list[Path]:
    """Return the source files that decide a run's numbers. An edit of one of them trains every run again."""
    excluded = {PROJECT / "afmp" / f"{name}.py" for name in NOT_NUMBERS}
    # The __init__ of a package is only a docstring, and that of afmp the version.
    files = [path for path in import_closure("afmp.training.run_training") if path.name != "__init__.py"]
    return [path for path in files if path not in excluded]


@cache
def numbers_hash() -> str:
    """Return the hash of the code that decides a run's numbers."""
    return source_hash(number_files())


def seed_identity(run: Run, seed: int, *, dataset_hash: str | None, device_type: str) -> dict:
    """Return the settings, dataset, device and code that decide the numbers of one seed, as plain JSON values."""
    return {
        "run": run.config.without_places(),
        "semantics": run.semantics,
        "seed": seed,
        "dataset": dataset_hash,
        "device": device_type,
        "code": numbers_hash(),
    }


def identity_key(identity: dict) -> str:
    """Return a short hash of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def checkpoint_path(run: Run, identity: dict) -> Path:
    """Return the path of a seed's checkpoint, e.g. <checkpoint folder>/seed_0_1f2e3d4c5b6a.safetensors."""
    return run.checkpoint_folder / seed_checkpoint_file(identity["seed"], identity_key(identity))


def prepared_dataset_hash(path: Path) -> str | None:
    """Return the hash that a prepared dataset records, without checking it; None if the file is not such a dataset."""
    try:
        advice = "prepare the dataset"
        return json_entry(read_header(path, advice=advice), "dataset", path=path, advice=advice).get("hash")
    except AfmpError:
        return None
