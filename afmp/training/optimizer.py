"""AdamW and the learning rate schedule, and their state in a checkpoint.

The default of both, for all semantics, is that of the original notebook.
"""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from afmp.model.rival import Rival
from afmp.study.run_config import TrainingConfig

SCHEDULE_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")  # attributes of ReduceLROnPlateau


def build_optimizer(model: nn.Module, training: TrainingConfig, device: torch.device) -> torch.optim.AdamW:
    """Return AdamW. On CUDA the learning rate is a tensor, because a CUDA graph reads its value from memory.

    Without `decay_vectors`, all parameters with fewer than two dimensions are a group without weight decay, and so are
    those that a rival names itself, as its position embedding.
    """
    parts = [(list(model.parameters()), training.weight_decay)]
    if not training.decay_vectors:
        named = model.no_weight_decay() if isinstance(model, Rival) else set()
        decays = {name: p.dim() >= 2 and name not in named for name, p in model.named_parameters()}
        matrices, vectors = (
            [p for name, p in model.named_parameters() if decays[name] is wanted] for wanted in (True, False)
        )
        parts = [(matrices, training.weight_decay), (vectors, 0.0)]
    rate, on_cuda = training.learning_rate, device.type == "cuda"
    groups = [
        {"params": params, "weight_decay": decay, "lr": torch.tensor(rate, device=device) if on_cuda else rate}
        for params, decay in parts
    ]
    return torch.optim.AdamW(groups, fused=device.type in ("cuda", "cpu"), capturable=on_cuda)


def build_schedule(optimizer: torch.optim.Optimizer, training: TrainingConfig) -> ReduceLROnPlateau | None:
    """Return the schedule: the learning rate falls when validation accuracy has not improved for some epochs.

    None for a cosine, whose rates depend on nothing but the step: `learning_rates` gives them.
    """
    if training.schedule == "cosine":
        return None
    return ReduceLROnPlateau(optimizer, "max", patience=training.plateau_patience, factor=training.plateau_factor)


def learning_rates(training: TrainingConfig, *, epoch: int, num_steps: int) -> list[float]:
    """Return the learning rate of each of the `num_steps` steps of an epoch (1-based) with schedule cosine.

    It rises linearly over the warm-up, and reaches `learning_rate` with its last step. Then it falls along half a
    cosine, and would be 0 in the step after the last.
    """
    warmup, total = training.warmup_epochs * num_steps, training.epochs * num_steps

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (total - warmup))

    first = (epoch - 1) * num_steps
    return [training.learning_rate * factor(step) for step in range(first, first + num_steps)]


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], rate: torch.Tensor) -> None:
    """Set the learning rate of every parameter group to `rate`, a scalar. On CUDA nothing waits for the device."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    on_device = [group["lr"] for group in groups if torch.is_tensor(group["lr"])]
    if on_device:
        torch._foreach_copy_(on_device, [rate] * len(on_device))  # one launch
        return
    value = rate.item()
    for group in groups:
        group["lr"] = value


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return AdamW's state by parameter name, e.g. `embed.weight/exp_avg`. These are its own tensors, not copies."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict) -> None:
    """Load saved AdamW state into an optimizer that has made no step yet."""
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        # AdamW keeps the step count on the CPU unless it is fused or capturable.
        on_device = key != "step" or optimizer.defaults["fused"] or optimizer.defaults["capturable"]
        optimizer.state[parameter][key] = value.to(parameter.device if on_device else "cpu", copy=True)


def schedule_state(schedule: ReduceLROnPlateau | None) -> dict:
    """Return the state of the schedule as plain JSON values."""
    return {} if schedule is None else {key: getattr(schedule, key) for key in SCHEDULE_STATE}


def load_schedule(schedule: ReduceLROnPlateau | None, state: dict, *, learning_rate: float) -> None:
    """Load the saved state of a schedule, and set the learning rate of its optimizer. A cosine has no state."""
    if schedule is None:
        return
    for key, value in state.items():
        setattr(schedule, key, value)
    for group in schedule.optimizer.param_groups:
        if torch.is_tensor(group["lr"]):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate
