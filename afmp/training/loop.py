"""The training loop: the epochs of a group of seeds that train as one stack of models.

An epoch consists of the optimisation steps, validation, learning rate schedule, best epoch, diagnostics and history.
If enough time has passed, it ends with a checkpoint.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from afmp.data.augmentation import EpochPlan
from afmp.data.dataset import PreparedDataset
from afmp.data.split import Split
from afmp.errors import AfmpError
from afmp.machine.stopping import Stopped, stop_requested
from afmp.model.stack import stack_models
from afmp.training.evaluation import GraphedCount, count_correct, score_best
from afmp.training.gates import describe_gates
from afmp.training.plan import draw_plan, seed_dropout
from afmp.training.run import Run
from afmp.training.seed_state import HISTORY, SeedTraining
from afmp.training.step import EpochSums, GraphedStep, TrainingStep

log = logging.getLogger("afmp")

# The largest share of the training time that may go into checkpoints. Five seeds on a GPU finish an epoch faster than
# the disk writes their weights, so some epochs have no checkpoint. On a CPU an epoch is slow, and every epoch writes a
# checkpoint.
CHECKPOINT_SHARE = 0.05


@dataclass
class SeedGroup:
    """Seeds of one run at the same epoch, set up to train as one stack until `last_epoch`.

    `step` trains the stack on one batch. `count_correct` counts the correct answers of each model in validation.
    """

    run: Run
    seeds: list[SeedTraining]
    last_epoch: int
    data: PreparedDataset
    split: Split
    step: TrainingStep | GraphedStep
    count_correct: Callable[[], torch.Tensor]

    @property
    def labels(self) -> str:
        return ", ".join(seed.label for seed in self.seeds)


def set_up_group(
    run: Run,
    seeds: list[SeedTraining],
    *,
    last_epoch: int,
    data: PreparedDataset,
    split: Split,
    other_bytes: int,
) -> SeedGroup:
    """Stack the models of some seeds, and on CUDA capture their training step as a graph.

    other_bytes: GPU memory of other runs and of other seeds, which does not count as peak memory of these seeds.
    """
    training, device = run.config.training, split.train_index.device
    models = [seed.model for seed in seeds]
    stack = stack_models(models)
    optimizers = [seed.optimizer for seed in seeds]
    average = stack_models([seed.average for seed in seeds]) if training.ema_decay else None
    step = TrainingStep(stack, models, optimizers, data=data, split=split, training=training, average=average)
    evaluated = stack if average is None else average
    count = partial(count_correct, evaluated, split.val_images, split.val_labels, data=data, training=training)
    group = SeedGroup(run, seeds, last_epoch, data, split, step, count)
    log.info("%s, on %s, %s", group.labels, device, data.name)
    if device.type == "cuda":
        # After the weights are loaded: a captured graph keeps reading the tensors that it was captured with.
        group.step, group.count_correct = GraphedStep(step), GraphedCount(count)
        peak_mb = (group.step.peak_memory_bytes - other_bytes) / 2**20
        for seed in seeds:
            seed.progress.peak_memory_mb = max(seed.progress.peak_memory_mb or 0.0, peak_mb)
    for seed in seeds:
        seed.progress.message_passing = seed.model.implementation
    return group


def train_group(group: SeedGroup) -> None:
    """Train a group of seeds until its last epoch. Each seed keeps its own history and checkpoints.

    Raises AfmpError if a seed diverges, after the other seeds have finished the epoch and are saved. Raises Stopped
    after SIGTERM, at the end of the epoch, with every seed saved.
    """
    training, seeds = group.run.config.training, group.seeds
    last_lap = time.perf_counter()
    saved_at, saving_s = 0.0, 0.0
    first_epoch = seeds[0].progress.epoch + 1
    plans = _draw_plans(group, first_epoch)
    stopping = stop_requested()
    for epoch in range(first_epoch, group.last_epoch + 1):
        if stopping:
            raise Stopped(f"{group.labels}: SIGTERM came, training ends before epoch {epoch}; run again to resume it.")
        started = time.perf_counter()
        # A rival beside other runs has no dropout. The random state is that of the whole process.
        if group.run.config.model.is_rival and not seeds[0].progress.trained_beside:
            seed_dropout(seeds[0].seed, epoch)
        group.step.begin(plans, epoch=epoch)
        for batch_size in group.step.batch_sizes:
            group.step(batch_size)
        correct = group.count_correct()
        if epoch < group.last_epoch:
            plans = _draw_plans(group, epoch + 1)  # while the device computes
        sums = group.step.read()
        val_accs = [100.0 * count / len(group.split.val_labels) for count in correct.tolist()]
        seconds = (time.perf_counter() - started) / len(seeds)
        finite = []
        for seed, epoch_sums, val_acc in zip(seeds, sums, val_accs, strict=True):
            if epoch_sums.bad_step is None:
                finite.append(seed)
                _finish_epoch(group, seed, epoch_sums, val_acc=val_acc, seconds=seconds)
        if epoch == training.epochs:
            score_best(finite, data=group.data, training=training)
        now = time.perf_counter()
        for seed in finite:
            seed.progress.wall_time_s += (now - last_lap) / len(seeds)
        last_lap = now
        stopping = stop_requested()
        is_last = stopping or epoch == group.last_epoch or len(finite) < len(seeds)
        if is_last or saving_s <= CHECKPOINT_SHARE * (now - saved_at):
            for seed in finite:
                seed.save()
            saved_at = time.perf_counter()
            saving_s = saved_at - now
        _raise_if_diverged(seeds, sums, epoch)


def _draw_plans(group: SeedGroup, epoch: int) -> list[EpochPlan]:
    training, num_images = group.run.config.training, len(group.split.train_index)
    options = {"num_images": num_images, "image_shape": tuple(group.data.train_images.shape[-2:]), "epoch": epoch}
    return [draw_plan(training, seed=seed.seed, **options) for seed in group.seeds]


def _finish_epoch(group: SeedGroup, seed: SeedTraining, sums: EpochSums, *, val_acc: float, seconds: float) -> None:
    """Update schedule, best epoch, diagnostics and history of one seed, and log its epoch."""
    training, progress = group.run.config.training, seed.progress
    progress.epoch += 1
    if seed.schedule is not None:
        seed.schedule.step(val_acc)
    if val_acc > progress.best_accuracy:
        progress.best_accuracy, progress.best_epoch = val_acc, progress.epoch
        seed.keep_best()
    if progress.epoch in group.run.config.visualized_epochs:
        progress.diagnostics[str(progress.epoch)] = describe_gates(seed.evaluated, group.data, image_index=0)
    values = (sums.loss, sums.accuracy, val_acc, sums.sparsity_loss, seconds)
    for key, value in zip(HISTORY, values, strict=True):
        progress.history[key].append(value)
    left = (training.epochs - progress.epoch) * sum(progress.history["time"]) / progress.epoch
    log.info(
        "%s: epoch %d/%d  loss %.4f  train %.2f %%  val %.2f %% (best %.2f)  %.2f s  left %s",
        seed.label, progress.epoch, training.epochs, sums.loss, sums.accuracy, val_acc, progress.best_accuracy,
        seconds, f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min",
    )  # fmt: skip


def _raise_if_diverged(seeds: list[SeedTraining], sums: list[EpochSums], epoch: int) -> None:
    """Raise AfmpError with the step of each seed whose loss or weights were not finite in this epoch."""
    diverged = [(seed.label, one) for seed, one in zip(seeds, sums, strict=True) if one.bad_step is not None]
    if diverged:
        where = "; ".join(
            f"{label} diverged: the loss or a weight was not finite in epoch {epoch}, "
            f"step {one.bad_step + 1} of {one.num_steps}"
            for label, one in diverged
        )
        raise AfmpError(f"{where}. Lower training/learning_rate, or use precision fp32; no result was written.")
