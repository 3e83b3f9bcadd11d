"""The seed's training loop for one run and all its seeds: AdamW, plateau schedule, best epoch, history, diagnostics.

Resumable at any epoch: everything random in an epoch is drawn from (seed, epoch) alone (afmp/augmentation.py), and the
checkpoint carries the rest.
"""

import copy
import gc
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from afmp.augmentation import epoch_plan
from afmp.checkpoint import identity_key, other_checkpoints, remove_leftovers, save_weights
from afmp.datasets import PreparedDataset, load_dataset, stratified_holdout
from afmp.device import resolve_device, set_matmul_precision
from afmp.diagnostics import describe_gates
from afmp.errors import AfmpError
from afmp.model import AFMP
from afmp.provenance import device_record, import_closure, source_hash, versions
from afmp.records import write_diagnostics, write_result
from afmp.scaffold import scaffold_hash
from afmp.study import RunConfig
from afmp.training_state import HISTORY, Progress, load_progress, save_progress, set_random_states
from afmp.training_step import GraphedStep, TrainingStep, build_optimizer, count_correct

log = logging.getLogger("afmp")

# Files of the import closure that cannot change a number of a run: an edit there reruns the job, which then finds its
# finished checkpoint and only writes its results again.
NOT_NUMBERS = (
    "records",
    "errors",
    "provenance",
    "checkpoint",
    "download",
    "cifar",
    "image_folder",
    "study",
    "config_errors",
    "log",
)


@dataclass
class Split:
    """Which images a semantics trains and validates on, on the device, and how a result calls it."""

    train_index: torch.Tensor
    val_images: torch.Tensor
    val_labels: torch.Tensor
    validation_set: str


def train_run(
    config: RunConfig,
    *,
    run: str,
    semantics: str,
    seeds: list[int],
    dataset_path: Path,
    seed_folders: dict[int, Path],
    checkpoint_folder: Path,
) -> None:
    """Train every seed of one run and write, in each seed's folder, results_<run>.json, best.safetensors,
    final.safetensors and diagnostics.json.

    Raises AfmpError with epoch and step if the loss stops being finite, and leaves no result of that seed.
    """
    device = resolve_device(config.training.device)
    set_matmul_precision(config.training.precision)
    data = load_dataset(dataset_path, device=device)
    split = split_dataset(data, semantics=semantics, fraction=config.training.validation_fraction)
    for number, seed in enumerate(seeds, start=1):
        log.info("%s [%s] seed %d (%d of %d) on %s, %s", run, semantics, seed, number, len(seeds), device, data.name)
        train_seed(
            config, run=run, semantics=semantics, seed=seed, data=data, split=split,
            folder=seed_folders[seed], checkpoint_folder=checkpoint_folder,
        )  # fmt: skip


def split_dataset(data: PreparedDataset, *, semantics: str, fraction: float) -> Split:
    """What a semantics validates on: `paper` holds out part of the training images, `notebook` takes the test set."""
    device = data.train_images.device
    if semantics == "notebook":
        every = torch.arange(len(data.train_labels), device=device)
        return Split(every, data.test_images, data.test_labels, "test")
    train_index, val_index = (index.to(device) for index in stratified_holdout(data.train_labels.cpu(), fraction))
    return Split(train_index, data.train_images[val_index], data.train_labels[val_index], "train_holdout")


def build_model(config: RunConfig, *, semantics: str, num_classes: int) -> AFMP:
    """The model of one run, with weights from torch's global random state."""
    model = config.model
    return AFMP(
        num_layers=model.num_layers,
        d_model=model.d_model,
        num_classes=num_classes,
        img_size=config.dataset.image_size,
        patch_size=model.patch_size,
        sparsity=model.sparsity,
        is_sparse=model.is_sparse,
        use_top_down=model.use_top_down,
        lambda_sparse=model.lambda_sparse,
        semantics=semantics,
        scaffold=model.scaffold,
        window_size=model.window_size,
        batch_size=config.training.batch_size,
    )


def train_seed(
    config: RunConfig,
    *,
    run: str,
    semantics: str,
    seed: int,
    data: PreparedDataset,
    split: Split,
    folder: Path,
    checkpoint_folder: Path,
) -> None:
    """Train one seed from its last checkpoint, or from the start, and write its files."""
    training = config.training
    device = data.train_images.device
    identity = {
        "run": config.to_dict(),
        "semantics": semantics,
        "seed": seed,
        "dataset": data.hash,
        "device": device.type,
        "code": numbers_hash(),
    }
    checkpoint = checkpoint_folder / f"seed_{seed}_{identity_key(identity)}.safetensors"
    remove_leftovers(checkpoint)
    what = f"{run} [{semantics}] seed {seed}"
    gc.collect()
    allocated_before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    began = time.perf_counter()

    torch.manual_seed(seed)
    model = build_model(config, semantics=semantics, num_classes=data.num_classes).to(device)
    optimizer = build_optimizer(model, training, device)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", patience=training.plateau_patience, factor=training.plateau_factor
    )
    progress, best_weights, random_states = load_progress(
        checkpoint, model=model, optimizer=optimizer, scheduler=scheduler, identity=identity
    )
    if progress.epoch:
        log.info("%s: continues after epoch %d of %d", what, progress.epoch, training.epochs)
    else:
        for path, differences in other_checkpoints(checkpoint, seed=seed, identity=identity):
            log.info("%s: starts anew; not used, since it is another run's: %s (%s)", what, path, differences)
    already_s = progress.wall_time_s
    step = TrainingStep(model, optimizer, data, training=training)
    if progress.epoch < training.epochs:
        _note_who_trains(progress, device, what)
        if device.type == "cuda":
            # After the weights are loaded: a captured graph keeps reading the tensors that it was captured with.
            num_train = len(split.train_index)
            sizes = {min(training.batch_size, num_train - start) for start in range(0, num_train, training.batch_size)}
            step = GraphedStep(step, sizes)
            # The dataset, and what this seed added: workspaces that earlier seeds left behind are not its own.
            peak = data.num_bytes + step.peak_memory_bytes - allocated_before
            progress.peak_memory_mb = max(progress.peak_memory_mb or 0.0, peak / 2**20)
    set_random_states(random_states, device)

    while progress.epoch < training.epochs:
        started = time.perf_counter()
        epoch = progress.epoch + 1
        train_loss, train_acc, sparsity_loss = train_epoch(step, split=split, seed=seed, epoch=epoch, what=what)
        model.eval()
        correct = count_correct(model, split.val_images, split.val_labels, data=data, training=training)
        val_acc = 100.0 * correct.item() / len(split.val_labels)
        seconds = time.perf_counter() - started
        scheduler.step(val_acc)
        if val_acc > progress.best_accuracy:
            progress.best_accuracy, progress.best_epoch = val_acc, epoch
            best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        if epoch in training.visualized_epochs:
            progress.diagnostics[str(epoch)] = describe_gates(model, data, image_index=0)
        for key, value in zip(HISTORY, (train_loss, train_acc, val_acc, sparsity_loss, seconds), strict=True):
            progress.history[key].append(value)
        progress.epoch = epoch
        if epoch == training.epochs:
            progress.test_accuracy = _test_accuracy(model, best_weights, data=data, training=training)
        progress.wall_time_s = already_s + time.perf_counter() - began
        save_progress(
            checkpoint, progress, best_weights, model=model, optimizer=optimizer, scheduler=scheduler, identity=identity
        )
        left = (training.epochs - epoch) * sum(progress.history["time"]) / epoch
        log.info(
            "%s: epoch %d/%d  loss %.4f  train %.2f %%  val %.2f %% (best %.2f)  %.2f s  left %s",
            what, epoch, training.epochs, train_loss, train_acc, val_acc, progress.best_accuracy,
            seconds, f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min",
        )  # fmt: skip

    write_seed(
        config, progress, best_weights=best_weights, run=run, semantics=semantics, seed=seed,
        model=model, data=data, split=split, folder=folder,
    )  # fmt: skip


def _note_who_trains(progress: Progress, device: torch.device, what: str) -> None:
    """Add this process to `progress.trained_by` unless the one before it was like it."""
    now = {"device": device_record(device), "versions": versions()}
    before = progress.trained_by[-1] if progress.trained_by else None
    if before is None or {key: before[key] for key in now} != now:
        progress.trained_by.append({"from_epoch": progress.epoch + 1, **now})
        if before is not None:
            log.info("%s: continues on another device or with other versions; its result lists both", what)


def train_epoch(
    step: TrainingStep | GraphedStep, *, split: Split, seed: int, epoch: int, what: str
) -> tuple[float, float, float]:
    """One pass over the training images, the last smaller batch too: mean loss, accuracy in percent, mean regulariser.

    The device is read once, at the end. Raises AfmpError if a loss, or at the end a weight, was not finite; `what`
    names the run there.
    """
    training = step.training
    step.model.train()
    step.reset()
    plan = epoch_plan(
        len(split.train_index),
        seed=seed,
        epoch=epoch,
        padding=training.crop_padding,
        flip=training.horizontal_flip,
    )
    device = split.train_index.device
    index = split.train_index[plan.order.to(device)]
    offsets, flips = plan.offsets.to(device), plan.flips.to(device)
    for start in range(0, len(index), training.batch_size):
        batch = slice(start, start + training.batch_size)
        step(index[batch], offsets[batch], flips[batch])
    loss, correct, sparsity_loss, steps, bad_step = step.read()
    if bad_step is not None:
        raise AfmpError(
            f"{what} diverged: the loss or a weight was not finite in epoch {epoch}, "
            f"step {bad_step + 1} of {steps:.0f}. "
            "Lower training/learning_rate, or use precision fp32; no result was written."
        )
    return loss / steps, 100.0 * correct / len(index), sparsity_loss / steps


def _test_accuracy(model, best_weights: dict, *, data, training) -> float:
    """Accuracy in percent of the best epoch's weights on the test set; in a copy, whose weights no graph reads."""
    evaluated = copy.deepcopy(model)
    evaluated.load_state_dict(best_weights)
    correct = count_correct(evaluated, data.test_images, data.test_labels, data=data, training=training)
    return 100.0 * correct.item() / len(data.test_labels)


def numbers_hash() -> str:
    """Hash of the code that decides a run's numbers."""
    return source_hash([path for path in import_closure("afmp.training") if path.stem not in NOT_NUMBERS])


def write_seed(
    config: RunConfig,
    progress: Progress,
    *,
    best_weights: dict,
    run: str,
    semantics: str,
    seed: int,
    model: AFMP,
    data: PreparedDataset,
    split: Split,
    folder: Path,
) -> None:
    """Write the four files of a finished seed; the result last, so that it never stands without the others."""
    about = {"run": run, "semantics": semantics, "seed": str(seed)}
    save_weights(folder / "best.safetensors", best_weights, metadata=about | {"epoch": str(progress.best_epoch)})
    save_weights(folder / "final.safetensors", model.state_dict(), metadata=about | {"epoch": str(progress.epoch)})
    write_diagnostics(
        folder / "diagnostics.json",
        {
            "format_version": 1,
            "run": run,
            "semantics": semantics,
            "seed": seed,
            "image_index": 0,
            "patch_size": config.model.patch_size,
            "positions": model.static_positions.tolist(),
            "edge_index": model.directed_edge_index.tolist(),
            "epochs": progress.diagnostics,
        },
    )
    write_result(
        folder / f"results_{run}.json",
        {
            "format_version": 1,
            "model_type": run,
            "best_val_accuracy": progress.best_accuracy,
            "peak_memory_mb": progress.peak_memory_mb,
            "training_history": progress.history,
            "test_accuracy": progress.test_accuracy,
            "best_epoch": progress.best_epoch,
            "validation_set": split.validation_set,
            "run": run,
            "semantics": semantics,
            "seed": seed,
            "config": config.to_dict(),
            "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
            "scaffold_hash": scaffold_hash(model.static_positions, model.edge_index),
            "dataset": {
                "name": data.name,
                "hash": data.hash,
                "num_classes": data.num_classes,
                "num_train": len(split.train_index),
                "num_val": len(split.val_labels),
                "num_test": len(data.test_labels),
            },
            "device": progress.trained_by[-1]["device"],
            "versions": progress.trained_by[-1]["versions"],
            "trained_by": progress.trained_by,
            "wall_time_s": progress.wall_time_s,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
