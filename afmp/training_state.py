"""What a seed has so far, and its way into a checkpoint and back."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from afmp.checkpoint import load_checkpoint, save_checkpoint
from afmp.training_step import load_optimizer_tensors, optimizer_tensors

HISTORY = ("train_loss", "train_acc", "val_acc", "sparsity_loss", "time")
SCHEDULE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")  # of torch's ReduceLROnPlateau


@dataclass
class Progress:
    """What a seed has so far, as plain JSON values; weights, optimiser and random states travel beside it.

    `trained_by` lists what computed it: {from_epoch, device, versions}, a new entry where a resumed run found another
    device or other versions than the entry before.
    """

    epoch: int = 0
    history: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in HISTORY})
    best_epoch: int = 0
    best_accuracy: float = -1.0
    schedule: dict = field(default_factory=dict)
    learning_rate: float = 0.0
    diagnostics: dict = field(default_factory=dict)
    trained_by: list[dict] = field(default_factory=list)
    wall_time_s: float = 0.0
    peak_memory_mb: float | None = None
    test_accuracy: float | None = None


def save_progress(path: Path, progress: Progress, best_weights: dict, *, model, optimizer, scheduler, identity) -> None:
    """Write everything that a run goes on from as one checkpoint."""
    progress.learning_rate = float(optimizer.param_groups[0]["lr"])
    progress.schedule = {key: getattr(scheduler, key) for key in SCHEDULE}
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best_weights.items()}
    tensors |= {f"optimizer/{name}": tensor for name, tensor in optimizer_tensors(model, optimizer).items()}
    tensors["random/cpu"] = torch.get_rng_state()
    if model.embed.weight.is_cuda:
        tensors["random/cuda"] = torch.cuda.get_rng_state(model.embed.weight.device)
    save_checkpoint(path, tensors=tensors, state=vars(progress), identity=identity)


def load_progress(path: Path, *, model, optimizer, scheduler, identity) -> tuple[Progress, dict, dict]:
    """Progress, weights of the best epoch, and random states (for `set_random_states`); all empty without a checkpoint.

    Model, optimiser and schedule are set to where they were. Raises AfmpError as `load_checkpoint` does.
    """
    saved = load_checkpoint(path, identity=identity)
    if saved is None:
        return Progress(), {}, {}
    tensors, state = saved
    parts: dict[str, dict] = {"model": {}, "best": {}, "optimizer": {}, "random": {}}
    for name, tensor in tensors.items():
        part, rest = name.split("/", 1)
        parts[part][rest] = tensor
    progress = Progress(**state)
    model.load_state_dict(parts["model"])
    load_optimizer_tensors(model, optimizer, parts["optimizer"])
    for key, value in progress.schedule.items():
        setattr(scheduler, key, value)
    for group in optimizer.param_groups:
        if torch.is_tensor(group["lr"]):
            group["lr"].fill_(progress.learning_rate)
        else:
            group["lr"] = progress.learning_rate
    return progress, parts["best"], parts["random"]


def set_random_states(states: dict, device: torch.device) -> None:
    """Put torch's random states back; nothing without any."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
