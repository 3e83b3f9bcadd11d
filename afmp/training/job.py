"""One training job of the workflow, which on a single GPU also trains the other wanted runs.

A small model leaves most of a GPU idle, and a process takes longer to start there than to train one epoch. So the first
job trains all wanted runs side by side. It leaves the files of the other runs in handover folders, next to their
checkpoints. The job of such a run then only moves the files. Every run keeps its own job and its own files, and
Snakemake still decides for each run separately whether to retrain it.
"""

import json
import logging
import os
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from afmp.errors import AfmpError
from afmp.study import paths
from afmp.study.run_config import RunConfig
from afmp.training.checkpoint_lock import lock_checkpoints_if_free
from afmp.training.identity import checkpoint_path, prepared_dataset_hash, seed_identity
from afmp.training.reuse import link_files, reusable_files
from afmp.training.run import Run

log = logging.getLogger("afmp")

WANTED_RUNS = "AFMP_WANTED_RUNS"  # set by the workflow if jobs share one GPU: JSON, [[semantics, run], ...]
MOST_SIDE_BY_SIDE = 12  # runs in one job; the nine runs of the study need less than 6 GB of GPU memory


def train_job(run: Run, *, dataset_path: Path, study: dict[str, dict], download_folder: Path, set_aside: Path) -> None:
    """Train the seeds of a run that are not finished.

    Files of a seed that another run's job has trained are moved into place. Files that this job replaces are used again
    if nothing that decides them has changed. On CUDA the other wanted runs of the study train side by side with this
    one. A damaged dataset is prepared again.

    run: its checkpoint_folder must be <checkpoints>/<semantics>/<run>, as for every run of the study.
    study: the configuration of each run of the study, as plain values.
    download_folder: contains the archives from which the dataset was prepared.
    set_aside: the files of this run that the job replaces, as for `reusable_files`. Those of other runs lie beside it.
    Raises AfmpError as `train_run` does, for errors of this run, not of the others.
    """
    dataset_hash = prepared_dataset_hash(dataset_path)
    handover = _handover_folders(run, dataset_hash)
    names = paths.seed_file_names(run.name)  # the result last: where it exists, so do the others
    left = {}
    for seed, folder in run.seed_folders.items():
        if all((handover[seed] / name).is_file() for name in names):
            _move(names, handover[seed], folder)
            log.info("%s seed %d: was trained in the job of another run", run, seed)
        elif finished := reusable_files(run, seed, set_aside=set_aside, dataset_hash=dataset_hash):
            link_files(names, finished, folder)
            log.info("%s seed %d: is finished, and nothing that decides its numbers has changed", run, seed)
        else:
            left[seed] = folder
    if not left:
        return

    from afmp.data.preparation import repair_dataset
    from afmp.machine.device import resolve_device
    from afmp.training.run_training import train_run

    repair_dataset(dataset_path, vars(run.config.dataset), download_folder=download_folder)
    dataset_hash = prepared_dataset_hash(dataset_path)
    with ExitStack() as locks:
        others = []
        if resolve_device(run.config.training.device).type == "cuda":
            others = _lock_other_runs(run, study, dataset_hash=dataset_hash, set_aside=set_aside, locks=locks)
        train_run(replace(run, seed_folders=left), dataset_path=dataset_path, side_by_side=others)


def _lock_other_runs(
    run: Run, study: dict[str, dict], *, dataset_hash: str | None, set_aside: Path, locks: ExitStack
) -> list[Run]:
    """Return the other wanted runs that can train side by side with this one, locked until `locks` is closed.

    Each has the seeds that are neither trained nor reusable by its own job.
    """
    others: list[Run] = []
    for name in _wanted_runs(run.semantics):
        config, folder = RunConfig.from_dict(study[name]), run.checkpoint_folder.with_name(name)
        other = replace(run, name=name, config=config, checkpoint_folder=folder)
        if name == run.name or not _fit_one_process(run, other):
            continue
        beside = set_aside.with_name(name)
        left = {
            seed: handover
            for seed, handover in _handover_folders(other, dataset_hash).items()
            if not handover.exists() and not reusable_files(other, seed, set_aside=beside, dataset_hash=dataset_hash)
        }
        if left and len(others) < MOST_SIDE_BY_SIDE - 1 and lock_checkpoints_if_free(folder, locks):
            others.append(replace(other, seed_folders=left))
    return others


def _wanted_runs(semantics: str) -> list[str]:
    return [name for wanted, name in json.loads(os.environ.get(WANTED_RUNS, "[]")) if wanted == semantics]


def _fit_one_process(one: Run, other: Run) -> bool:
    """Return True if one process can train both runs: device and precision of products are settings of the process.

    So is the random state from which a rival's dropout draws.
    """
    keys = ("precision", "device")
    same = all(getattr(one.config.training, key) == getattr(other.config.training, key) for key in keys)
    return same and not _draws_random_numbers(one) and not _draws_random_numbers(other)


def _draws_random_numbers(run: Run) -> bool:
    if not run.config.model.is_rival:
        return False
    from afmp.model.rival import draws_random_numbers

    try:
        return draws_random_numbers(run.config)
    except AfmpError:  # its own job says why it cannot be built
        return True


def _handover_folders(run: Run, dataset_hash: str | None) -> dict[int, Path]:
    """Return the folder in which another run's job leaves the files of each seed.

    Such jobs exist on CUDA only. After the run's own job has moved the files, the empty folder remains.
    """
    identities = {
        seed: seed_identity(run, seed, dataset_hash=dataset_hash, device_type="cuda") for seed in run.seed_folders
    }
    return {seed: checkpoint_path(run, identity).with_suffix("") for seed, identity in identities.items()}


def _move(names: list[str], source: Path, destination: Path) -> None:
    destination.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.move(source / name, destination / name)
