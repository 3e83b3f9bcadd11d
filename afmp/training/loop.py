"""The seed's training loop for one run and all its seeds: AdamW, plateau schedule, best epoch, history, diagnostics.

On a GPU the seeds train together, as a stack of models; each ends as it would alone, to rounding. Whole runs can train
beside each other there, each on a stream of its own, with the same bits as alone. Resumable at any epoch: everything
random in an epoch is drawn from (seed, epoch) alone (afmp/augmentation.py), and the checkpoint carries the rest.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import torch

from afmp.data.augmentation import epoch_plan
from afmp.data.dataset import PreparedDataset, load_dataset
from afmp.data.split import Split, split_dataset
from afmp.machine.device import resolve_device, set_matmul_precision, sizes_named_when_out_of_memory
from afmp.machine.stopping import Stopped, stop_asked
from afmp.model.sizes import build_model
from afmp.model.stack import stack_models
from afmp.provenance import device_record, versions
from afmp.study.study import RunConfig, TrainingConfig
from afmp.training.checkpoint import other_checkpoints
from afmp.training.gates import describe_gates
from afmp.training.identity import Run, checkpoint_path, numbers_hash, seed_identity
from afmp.training.seed_files import write_seed
from afmp.training.seed_state import HISTORY, SeedTraining, next_group, refuse_divergence, score_best
from afmp.training.side_by_side import train_side_by_side
from afmp.training.step import EpochSums, GraphedCount, GraphedStep, TrainingStep, build_optimizer, count_correct

log = logging.getLogger("afmp")

# Checkpoints are written after an epoch only once training has gone on for so long that writing takes at most this
# share of the time: five seeds on a GPU finish an epoch faster than the disk takes their weights. Where an epoch takes
# its time, as on a CPU, every one is written.
CHECKPOINT_SHARE = 0.05

# Random weights come from one state of the process, and what is allocated is counted for all of it.
SETTING_UP = threading.Lock()


@sizes_named_when_out_of_memory()
def train_run(
    config: RunConfig,
    *,
    run: str,
    semantics: str,
    seeds: list[int],
    dataset_path: Path,
    seed_folders: dict[int, Path],
    checkpoint_folder: Path,
    together: bool | None = None,
    beside: Sequence[Run] = (),
) -> None:
    """Train every seed of one run and write, in each seed's folder, results_<run>.json, best.safetensors,
    final.safetensors and diagnostics.json.

    together: seeds train as one stack, or one after the other. Without it they do so on CUDA, where it pays; a CPU is
    no faster for it, and a seed's bits there do not depend on its company.
    beside: further runs of the same device and precision, trained at the same time. What goes wrong with one of them is
    logged, and left to whoever trains it next.
    Raises AfmpError with epoch and step if the loss of a seed stops being finite, and leaves no result of that seed.
    """
    device = resolve_device(config.training.device)
    set_matmul_precision(config.training.precision)
    gc.collect()
    allocated_before = _allocated(device)
    data = load_dataset(dataset_path, device=device)
    split_of = cache(partial(split_dataset, data, semantics=semantics))
    own = Run(run, config, {seed: seed_folders[seed] for seed in seeds}, checkpoint_folder)
    runs = [own, *beside]
    for each in runs:
        split_of(fraction=each.config.training.validation_fraction, padding=each.config.training.crop_padding)
    together = device.type == "cuda" if together is None else together
    shared = {
        "semantics": semantics,
        "data": data,
        "split_of": split_of,
        "code": numbers_hash(),
        "together": together,
        "data_bytes": _allocated(device) - allocated_before,
    }
    trainings = [train_seeds(each, beside=[r.name for r in runs if r is not each], **shared) for each in runs]
    if not beside:
        for _ in trainings[0]:
            pass
        return
    train_side_by_side(dict(zip([each.name for each in runs], trainings, strict=True)), device)


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def train_seeds(
    run: Run,
    *,
    beside: list[str],
    semantics: str,
    data: PreparedDataset,
    split_of: Callable[..., Split],
    code: str,
    together: bool,
    data_bytes: int,
) -> Iterator[None]:
    """Train every seed of one run and write its files; pauses, by yielding, where a group of seeds is set up.

    beside: the runs that train meanwhile; data_bytes: what images and labels take of a GPU.
    """
    config, training = run.config, run.config.training
    split = split_of(fraction=training.validation_fraction, padding=training.crop_padding)
    others_bytes = _allocated(split.train_index.device) - data_bytes
    trainings = [
        start_seed(
            config,
            run=run.name,
            semantics=semantics,
            seed=seed,
            data=data,
            code=code,
            checkpoint_folder=run.checkpoint_folder,
        )
        for seed in run.seed_folders
    ]

    def write_finished(members: list[SeedTraining]) -> None:
        for member in members:
            if member.progress.epoch == training.epochs:
                folder = run.seed_folders[member.seed]
                write_seed(config, member, run=run.name, semantics=semantics, data=data, split=split, folder=folder)

    write_finished(trainings)
    while found := next_group(trainings, epochs=training.epochs, together=together):
        for member in found[0]:
            member.progress.trained_beside = beside
        yield from train_together(*found, config=config, data=data, split=split, others_bytes=others_bytes)
        write_finished(found[0])


def start_seed(
    config: RunConfig,
    *,
    run: str,
    semantics: str,
    seed: int,
    data: PreparedDataset,
    code: str,
    checkpoint_folder: Path,
) -> SeedTraining:
    """One seed at its last checkpoint, or at the start. code: the `numbers_hash`."""
    training = config.training
    device = data.train_images.device
    identity = seed_identity(
        config, semantics=semantics, seed=seed, dataset_hash=data.hash, device_type=device.type, code=code
    )
    checkpoint = checkpoint_path(checkpoint_folder, identity)
    torch.manual_seed(seed)
    model = build_model(config, semantics=semantics, num_classes=data.num_classes).to(device)
    optimizer = build_optimizer(model, training, device)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", patience=training.plateau_patience, factor=training.plateau_factor
    )
    what = f"{run} [{semantics}] seed {seed}"
    started = SeedTraining(seed, what, checkpoint, identity, model, optimizer, scheduler)
    started.load()
    if started.progress.epoch:
        log.info("%s: continues after epoch %d of %d", what, started.progress.epoch, training.epochs)
    else:
        for path, differences in other_checkpoints(checkpoint, seed=seed, identity=identity):
            log.info("%s: starts anew; not used, since it is another run's: %s (%s)", what, path, differences)
    return started


def train_together(
    group: list[SeedTraining],
    until: int,
    *,
    config: RunConfig,
    data: PreparedDataset,
    split: Split,
    others_bytes: int,
) -> Iterator[None]:
    """Train seeds that have had the same epochs, as one stack, `until` an epoch; each keeps its own files.

    Pauses once, when all is set up. others_bytes: what other runs had allocated on the GPU before.
    Raises AfmpError if a seed diverges, after the epoch was written for the others, and Stopped, with every seed saved,
    before the next epoch once SIGTERM came.
    """
    training, device = config.training, split.train_index.device
    with SETTING_UP:
        models = [member.model for member in group]
        stack = stack_models(models)
        step = TrainingStep(stack, models, [m.optimizer for m in group], data=data, split=split, training=training)
        count = partial(count_correct, stack, split.val_images, split.val_labels, data=data, training=training)
        names = ", ".join(member.what for member in group)
        log.info("%s, on %s, %s", names, device, data.name)
        if device.type == "cuda":
            # After the weights are loaded: a captured graph keeps reading the tensors that it was captured with.
            step, count = GraphedStep(step), GraphedCount(count)
            peak_mb = (step.peak_memory_bytes - others_bytes) / 2**20
            for member in group:
                member.progress.peak_memory_mb = max(member.progress.peak_memory_mb or 0.0, peak_mb)
    yield
    lap = time.perf_counter()
    for member in group:
        _note_who_trains(member, device)
        member.progress.trained_together = [other.seed for other in group]
        member.progress.message_passing = member.model.implementation

    def draw_plans(epoch: int) -> list:
        options = {"padding": training.crop_padding, "flip": training.horizontal_flip}
        return [epoch_plan(len(split.train_index), seed=m.seed, epoch=epoch, **options) for m in group]

    written, writing_s = 0.0, 0.0
    first = group[0].progress.epoch + 1
    plans = draw_plans(first)
    stopping = stop_asked()
    for epoch in range(first, until + 1):
        if stopping:
            raise Stopped(f"{names}: SIGTERM came, so it ends before epoch {epoch}; started again, it goes on there.")
        started = time.perf_counter()
        step.begin(plans)
        for batch_size in step.batch_sizes:
            step(batch_size)
        correct = count()
        if epoch < until:
            plans = draw_plans(epoch + 1)  # while the device computes
        sums = step.read()
        val_accs = [100.0 * right / len(split.val_labels) for right in correct.tolist()]
        seconds = (time.perf_counter() - started) / len(group)
        finite = []
        for member, epoch_sums, val_acc in zip(group, sums, val_accs, strict=True):
            if epoch_sums.bad_step is None:
                finite.append(member)
                _finish_epoch(member, epoch_sums, val_acc, seconds, data=data, training=training)
        if epoch == training.epochs:
            score_best(finite, data=data, training=training)
        now = time.perf_counter()
        for member in finite:
            member.progress.wall_time_s += (now - lap) / len(group)
        lap = now
        stopping = stop_asked()
        if stopping or epoch == until or len(finite) < len(group) or writing_s <= CHECKPOINT_SHARE * (now - written):
            for member in finite:
                member.save()
            written = time.perf_counter()
            writing_s = written - now
        refuse_divergence(group, sums, epoch)


def _note_who_trains(member: SeedTraining, device: torch.device) -> None:
    """Add this process to `trained_by` unless the one before it was like it."""
    progress = member.progress
    now = {"device": device_record(device), "versions": versions()}
    before = progress.trained_by[-1] if progress.trained_by else None
    if before is None or {key: before[key] for key in now} != now:
        progress.trained_by.append({"from_epoch": progress.epoch + 1, **now})
        if before is not None:
            log.info("%s: continues on another device or with other versions; its result lists both", member.what)


def _finish_epoch(
    member: SeedTraining,
    sums: EpochSums,
    val_acc: float,
    seconds: float,
    *,
    data: PreparedDataset,
    training: TrainingConfig,
) -> None:
    """Schedule, best epoch, diagnostics, history and log of one seed's epoch."""
    progress = member.progress
    progress.epoch += 1
    member.scheduler.step(val_acc)
    if val_acc > progress.best_accuracy:
        progress.best_accuracy, progress.best_epoch = val_acc, progress.epoch
        member.keep_best()
    if progress.epoch in training.visualized_epochs:
        progress.diagnostics[str(progress.epoch)] = describe_gates(member.model, data, image_index=0)
    values = (sums.loss, sums.accuracy, val_acc, sums.sparsity_loss, seconds)
    for key, value in zip(HISTORY, values, strict=True):
        progress.history[key].append(value)
    left = (training.epochs - progress.epoch) * sum(progress.history["time"]) / progress.epoch
    log.info(
        "%s: epoch %d/%d  loss %.4f  train %.2f %%  val %.2f %% (best %.2f)  %.2f s  left %s",
        member.what, progress.epoch, training.epochs, sums.loss, sums.accuracy, val_acc, progress.best_accuracy,
        seconds, f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min",
    )  # fmt: skip
