"""Reuse: a finished seed is not trained again, even if its checkpoint is gone. Does not import PyTorch.

The workflow deletes the outputs of a job before it starts, for whatever reason it starts. So it sets them aside first.
What is set aside is used again if it is intact and of the same training.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from afmp.errors import AfmpError
from afmp.files import sha256_of
from afmp.records import atomic_path, read_diagnostics, read_result, with_checksum
from afmp.study.paths import (
    DIAGNOSTICS_NAME,
    WEIGHTS,
    previous_checkpoint_name,
    result_name,
    seed_name,
    weights_name,
)
from afmp.study.run_config import without_places
from afmp.tensors import json_entry, read_header
from afmp.training.identity import checkpoint_path, numbers_hash, seed_identity
from afmp.training.run import Run

DEVICE_TYPES = ("cpu", "cuda", "mps")


def reusable_files(run: Run, seed: int, *, set_aside: Path, dataset_hash: str | None) -> Path | None:
    """Return the folder with the files of a seed that the job of this run can use again; None if it has to train.

    set_aside: contains the files that the job replaces, laid out as the folder of the run.
    A seed with a finished checkpoint is left to it, because the training job writes its files again from there: code
    that writes them may have changed.
    """
    folder = set_aside / seed_name(seed)
    if _has_finished_checkpoint(run, seed, dataset_hash=dataset_hash):
        return None
    try:
        result = read_result(folder / result_name(run.name))
    except AfmpError:
        return None
    found = {key: result[key] for key in ("run", "semantics", "seed")} | {
        "config": without_places(result["config"]),
        "dataset": result["dataset"]["hash"],
        "code": result.get("code"),
    }
    expected = {
        "run": run.name,
        "semantics": run.semantics,
        "seed": seed,
        "config": run.config.without_places(),
        "dataset": dataset_hash,
        "code": numbers_hash(),
    }
    return folder if found == expected and _is_whole(folder, result) else None


def link_files(names: list[str], source: Path, destination: Path) -> None:
    """Give the files of one folder the same names in another. Both folders keep them, so an interruption loses none."""
    destination.mkdir(parents=True, exist_ok=True)
    for name in names:
        (destination / name).unlink(missing_ok=True)
        try:
            os.link(source / name, destination / name)
        except OSError:  # another disk, or a file system without hard links
            with atomic_path(destination / name) as part:
                shutil.copy2(source / name, part)


def _is_whole(folder: Path, result: dict) -> bool:
    """Return whether the other files of a seed are those that its result was written with."""
    try:
        files = {"diagnostics": with_checksum(read_diagnostics(folder / DIAGNOSTICS_NAME))["checksum"]}
        for which in WEIGHTS:
            files[which] = sha256_of(folder / weights_name(which))
    except AfmpError:
        return False
    return files == result.get("files")


def _has_finished_checkpoint(run: Run, seed: int, *, dataset_hash: str | None) -> bool:
    for device_type in DEVICE_TYPES:
        path = checkpoint_path(run, seed_identity(run, seed, dataset_hash=dataset_hash, device_type=device_type))
        for candidate in (path, path.with_name(previous_checkpoint_name(path.name))):
            with suppress(AfmpError):
                state = json_entry(read_header(candidate, advice=""), "state", path=candidate, advice="")
                if state.get("epoch") == run.config.training.epochs:
                    return True
    return False
