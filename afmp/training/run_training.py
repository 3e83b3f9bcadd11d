"""The training of whole runs: a run with all its seeds, alone or side by side with other runs.

On a GPU the seeds of a run train together, as one stack of models. Each random seed ends with the same numbers as if
trained alone, up to rounding. Whole runs can train side by side there, each on its own CUDA stream, and each gets the
same bits as alone. Training can resume after any epoch: everything random in an epoch depends only on (seed, epoch),
and the checkpoint contains the rest.
"""

import gc
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from afmp.data.dataset import PreparedDataset, load_dataset
from afmp.data.split import Split, split_dataset
from afmp.machine.device import resolve_device, set_matmul_precision
from afmp.provenance import device_record, versions
from afmp.study.semantics import SEMANTICS
from afmp.training.loop import SeedGroup, set_up_group, train_group
from afmp.training.out_of_memory import claim_memory, name_sizes_when_out_of_memory
from afmp.training.run import Run
from afmp.training.seed_files import write_seed
from afmp.training.seed_state import SeedTraining, start_seed
from afmp.training.side_by_side import train_side_by_side
from afmp.training.step_cost import measure_step

log = logging.getLogger("afmp")

# The lock is held while a run or a group of its seeds is set up. Initial weights come from the random state of the
# process, and GPU memory is counted for the whole process.
SETTING_UP = threading.Lock()


@name_sizes_when_out_of_memory()
def train_run(
    run: Run, *, dataset_path: Path, side_by_side: Sequence[Run] = (), stack_seeds: bool | None = None
) -> None:
    """Train every seed of a run and write the files of each (seed_files.py) into its folder.

    side_by_side: other runs of the same semantics, device and precision, which train at the same time. If one of them
    fails, the log says so, and its own job trains it later.
    stack_seeds: True trains seeds as one stack, False one after another. None means True on CUDA and False on a CPU.
    On a CPU a stack is not faster, so seeds train one after another, and no result depends on another seed. Those of a
    rival, whose layers have no model axis, always do.
    Raises AfmpError with epoch and step if the loss of a seed is not finite, and then writes no result of that seed.
    """
    device = resolve_device(run.config.training.device)
    set_matmul_precision(run.config.training.precision)
    torch.backends.cudnn.deterministic = True  # the convolutions of rivals
    gc.collect()
    allocated_before = _allocated_bytes(device)
    data = load_dataset(dataset_path, device=device)
    split_once = cache(partial(split_dataset, data, validate_on_test=SEMANTICS[run.semantics].validates_on_test))
    splits = {}
    for each in (run, *side_by_side):
        training = each.config.training
        splits[each.name] = split_once(fraction=training.validation_fraction, padding=training.crop_padding)
    shared = Shared(
        data=data,
        splits=splits,
        data_bytes=_allocated_bytes(device) - allocated_before,
        stack_seeds=(device.type == "cuda" if stack_seeds is None else stack_seeds) and not run.config.model.is_rival,
    )
    claim_memory(run, images=len(data.train_images), device=device, stack_seeds=shared.stack_seeds)
    if side_by_side:
        train_side_by_side({each.name: partial(set_up_run, each, shared) for each in (run, *side_by_side)}, device)
    else:
        set_up_run(run, shared).train()


@dataclass(frozen=True)
class Shared:
    """Data shared by all runs of one process."""

    data: PreparedDataset
    splits: dict[str, Split]  # by the name of the run
    data_bytes: int  # GPU memory of the dataset and its splits
    stack_seeds: bool

    @property
    def device(self) -> torch.device:
        return self.data.train_images.device


@dataclass
class RunTraining:
    """A run that is set up, and the group of its seeds that trains next, if any."""

    run: Run
    shared: Shared
    seeds: list[SeedTraining]
    group: SeedGroup | None = None

    def train(self) -> None:
        """Train one group of seeds after another until every seed has finished, and write their files."""
        while self.group is not None:
            train_group(self.group)
            self.write_finished(self.group.seeds)
            self.group = None  # free its memory before the next group is set up
            with SETTING_UP:
                self.set_up_next_group()

    def write_finished(self, seeds: list[SeedTraining]) -> None:
        """Write the files of those seeds that have finished their last epoch."""
        split = self.shared.splits[self.run.name]
        for seed in seeds:
            if seed.progress.epoch == self.run.config.training.epochs:
                write_seed(self.run, seed, data=self.shared.data, split=split)

    def set_up_next_group(self) -> None:
        """Set up the seeds that train next. The caller must hold SETTING_UP."""
        shared = self.shared
        following = next_group(self.seeds, epochs=self.run.config.training.epochs, stack_seeds=shared.stack_seeds)
        if following is None:
            return
        seeds, last_epoch = following
        for seed in seeds:
            _record_device(seed, shared.device)
            seed.progress.trained_together = [other.seed for other in seeds]
            seed.progress.trained_beside = [name for name in shared.splits if name != self.run.name]
        self.group = set_up_group(
            self.run,
            seeds,
            last_epoch=last_epoch,
            data=shared.data,
            split=shared.splits[self.run.name],
            other_bytes=_allocated_bytes(shared.device) - shared.data_bytes - sum(seed.num_bytes for seed in seeds),
        )


def set_up_run(run: Run, shared: Shared) -> RunTraining:
    """Start or resume every seed of a run, write the files of finished ones, and set up the group that trains first.

    Nothing trains on the device in the meantime: all runs of a process are set up before the first of them trains.
    """
    with SETTING_UP:
        seeds = [start_seed(run, seed, data=shared.data) for seed in run.seed_folders]
        if run.config.training.measure_step:
            for seed in seeds:
                if seed.progress.step is None:
                    split = shared.splits[run.name]
                    seed.progress.step = measure_step(seed, data=shared.data, split=split, training=run.config.training)
        training = RunTraining(run, shared, seeds)
        training.write_finished(seeds)
        training.set_up_next_group()
    return training


def next_group(seeds: list[SeedTraining], *, epochs: int, stack_seeds: bool) -> tuple[list[SeedTraining], int] | None:
    """Return the seeds that train next, and their last epoch before the next group; None if every seed has finished.

    The seeds with the fewest epochs train first, until they reach the next seed's epoch. Without `stack_seeds` one seed
    trains, until its last epoch.
    """
    unfinished = [seed for seed in seeds if seed.progress.epoch < epochs]
    if not unfinished:
        return None
    if not stack_seeds:
        return unfinished[:1], epochs
    fewest, *others = sorted({seed.progress.epoch for seed in unfinished})
    return [seed for seed in unfinished if seed.progress.epoch == fewest], others[0] if others else epochs


def _record_device(seed: SeedTraining, device: torch.device) -> None:
    """Add device, versions and CPU threads to `trained_by` unless its last entry has the same."""
    progress = seed.progress
    # On a CPU, the number of threads decides how sums are split, and so their last bits.
    threads = torch.get_num_threads() if device.type == "cpu" else None
    current = {"device": device_record(device), "versions": versions(), "cpu_threads": threads}
    last = progress.trained_by[-1] if progress.trained_by else None
    if last is None or {key: last.get(key) for key in current} != current:
        progress.trained_by.append({"from_epoch": progress.epoch + 1, **current})
        if last is not None:
            log.info("%s: resumes on another device or with other versions; the result lists both", seed.label)


def _allocated_bytes(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
