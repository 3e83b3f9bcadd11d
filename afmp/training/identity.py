"""A run to be trained, what decides its numbers, and a short name for that. Without PyTorch: asking costs nothing."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from afmp.sources import PROJECT, import_closure, source_hash
from afmp.study.study import RunConfig

# Files of the import closure that cannot change a number of a run: an edit there reruns the job, which then finds its
# finished checkpoint and only writes its results again.
NOT_NUMBERS = (
    "records",
    "errors",
    "log",
    "provenance",
    "sources",
    "training/checkpoint",
    "training/identity",
    "training/job",
    "training/seed_files",
    "training/side_by_side",
    "machine/isolation",
    "machine/locks",
    "machine/stopping",
    "data/cifar",
    "data/download",
    "data/image_folder",
    "study/config_file",
    "study/config_schema",
    "study/study",
)


@dataclass(frozen=True)
class Run:
    """One run to be trained: where each seed's files go, and its checkpoints."""

    name: str
    config: RunConfig
    seed_folders: dict[int, Path]
    checkpoint_folder: Path


@cache
def numbers_hash() -> str:
    """Hash of the code that decides a run's numbers."""
    without = {PROJECT / "afmp" / f"{name}.py" for name in NOT_NUMBERS}
    return source_hash([path for path in import_closure("afmp.training.loop") if path not in without])


def seed_identity(
    config: RunConfig, *, semantics: str, seed: int, dataset_hash: str, device_type: str, code: str
) -> dict:
    """All that decides the numbers of one seed; code: the `numbers_hash`."""
    return {
        "run": config.to_dict(),
        "semantics": semantics,
        "seed": seed,
        "dataset": dataset_hash,
        "device": device_type,
        "code": code,
    }


def identity_key(identity: dict) -> str:
    """Short content hash of an identity; part of the checkpoint's file name."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def checkpoint_path(folder: Path, identity: dict) -> Path:
    """Where the checkpoint of a seed lies. The same path without its suffix is the folder of a seed that was finished
    ahead of its job."""
    return folder / f"seed_{identity['seed']}_{identity_key(identity)}.safetensors"


def prepared_dataset_hash(path: Path) -> str | None:
    """The hash that a prepared dataset carries, unchecked; None if it is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["dataset"])["hash"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
