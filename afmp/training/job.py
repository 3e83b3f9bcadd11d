"""One training job of the workflow, and on a single GPU the other wanted runs that it takes along.

A small model leaves most of a GPU idle, and a process there takes longer to start than an epoch: so the first job
trains all runs that are wanted, side by side, and finishes them ahead of their own jobs. Those find them finished,
and only put the files into their place. Every run keeps its job, its files and its reasons to be trained again.
"""

import json
import logging
import os
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from afmp.machine.locks import lock_if_free
from afmp.study.study import RunConfig
from afmp.training.identity import Run, checkpoint_path, numbers_hash, prepared_dataset_hash, seed_identity

log = logging.getLogger("afmp")

WANTED_RUNS = "AFMP_WANTED_RUNS"  # set by the workflow where one GPU is to be shared: JSON, [[semantics, run], ...]
MOST_SIDE_BY_SIDE = 12  # runs of one job; the study's nine take less than 6 GB of a GPU


def train_job(
    own: Run,
    *,
    semantics: str,
    dataset_path: Path,
    study: dict[str, dict],
    checkpoint_root: Path,
    download_folder: Path,
) -> None:
    """Put a finished run into its place, or train it, on CUDA together with the other wanted runs of the study.

    study: the configuration of each of its runs as plain values; checkpoint_root: the folder of all runs' checkpoints,
    <root>/<semantics>/<run>. A damaged dataset is prepared again, from the archives in download_folder. Raises
    AfmpError as `train_run` does, for the job's own run alone.
    """
    found = _ahead(own, semantics, dataset_path)
    if all((folder / file).is_file() for folder in found.values() for file in _files(own)):
        for seed, folder in found.items():
            _move(_files(own), folder, own.seed_folders[seed])
        log.info("%s [%s]: was trained beside another run, in its job", own.name, semantics)
        return

    from afmp.data.dataset import repair_dataset
    from afmp.machine.device import resolve_device
    from afmp.training.loop import train_run

    repair_dataset(dataset_path, vars(own.config.dataset), download_folder=download_folder)

    beside = []
    with ExitStack() as locks:
        if resolve_device(own.config.training.device).type == "cuda":
            for name in _wanted(semantics):
                folder = checkpoint_root / semantics / name
                run = Run(name, RunConfig.from_dict(study[name]), own.seed_folders, folder)
                places = _ahead(run, semantics, dataset_path)
                is_done = all(place.exists() for place in places.values())
                if name == own.name or is_done or not _alike(run, own) or len(beside) == MOST_SIDE_BY_SIDE - 1:
                    continue
                if lock_if_free(folder, locks):
                    beside.append(replace(run, seed_folders=places))
        train_run(
            own.config,
            run=own.name,
            semantics=semantics,
            seeds=list(own.seed_folders),
            dataset_path=dataset_path,
            seed_folders=own.seed_folders,
            checkpoint_folder=own.checkpoint_folder,
            beside=beside,
        )


def _wanted(semantics: str) -> list[str]:
    return [name for wanted, name in json.loads(os.environ.get(WANTED_RUNS, "[]")) if wanted == semantics]


def _alike(one: Run, other: Run) -> bool:
    """Whether one process can train both: it has one arithmetic for its products, and one device."""
    keys = ("precision", "device")
    return all(getattr(one.config.training, key) == getattr(other.config.training, key) for key in keys)


def _ahead(run: Run, semantics: str, dataset_path: Path) -> dict[int, Path]:
    """Where the seeds of a run lie if another job finished them, which is done on CUDA only; empty folders once its own
    job took them."""
    about = {
        "semantics": semantics,
        "dataset_hash": prepared_dataset_hash(dataset_path),
        "device_type": "cuda",
        "code": numbers_hash(),
    }
    return {
        seed: checkpoint_path(run.checkpoint_folder, seed_identity(run.config, seed=seed, **about)).with_suffix("")
        for seed in run.seed_folders
    }


def _files(run: Run) -> list[str]:
    """What a seed leaves, the result last, so that it never stands without the others."""
    return ["best.safetensors", "final.safetensors", "diagnostics.json", f"results_{run.name}.json"]


def _move(files: list[str], source: Path, destination: Path) -> None:
    destination.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.move(source / file, destination / file)
