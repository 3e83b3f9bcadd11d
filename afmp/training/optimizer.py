"""AdamW and the learning rate schedule, and their state in a checkpoint.

Both semantics take optimizer and schedule from the original notebook.
"""

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from afmp.study.run_config import TrainingConfig

SCHEDULE_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")  # attributes of ReduceLROnPlateau


def build_optimizer(model: nn.Module, training: TrainingConfig, device: torch.device) -> torch.optim.AdamW:
    """Return AdamW. On CUDA the learning rate is a tensor, because a CUDA graph reads its value from memory."""
    options = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    if device.type == "cuda":
        options |= {"lr": torch.tensor(training.learning_rate, device=device), "capturable": True}
    return torch.optim.AdamW(model.parameters(), fused=device.type in ("cuda", "cpu"), **options)


def build_schedule(optimizer: torch.optim.Optimizer, training: TrainingConfig) -> ReduceLROnPlateau:
    """Return the schedule: the learning rate falls when validation accuracy has not improved for some epochs."""
    return ReduceLROnPlateau(optimizer, "max", patience=training.plateau_patience, factor=training.plateau_factor)


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


def schedule_state(schedule: ReduceLROnPlateau) -> dict:
    """Return the state of the schedule as plain JSON values."""
    return {key: getattr(schedule, key) for key in SCHEDULE_STATE}


def load_schedule(schedule: ReduceLROnPlateau, state: dict, *, learning_rate: float) -> None:
    """Load the saved state of a schedule, and set the learning rate of its optimizer."""
    for key, value in state.items():
        setattr(schedule, key, value)
    for group in schedule.optimizer.param_groups:
        if torch.is_tensor(group["lr"]):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate
