"""The exponential moving average (EMA) of a model's weights, which is evaluated and saved in place of the last ones."""

import torch

from afmp.study.run_config import TrainingConfig


def average_shares(training: TrainingConfig, *, epoch: int, num_steps: int) -> list[float]:
    """Return the share 1 - decay of the current weights in the average, for each step of an epoch (1-based).

    In the first steps the decay is smaller than `ema_decay`, so that the initial weights are soon forgotten.
    """
    first = (epoch - 1) * num_steps
    return [1 - min(training.ema_decay, (1 + t) / (10 + t)) for t in range(first, first + num_steps)]


@torch.no_grad()
def update_average(averaged: list[torch.Tensor], current: list[torch.Tensor], share: torch.Tensor) -> None:
    """Move each averaged weight towards the current one, by `share`, a scalar, of their difference.

    All weights take three launches on a GPU, and nothing waits for the device.
    """
    differences = torch._foreach_sub(current, averaged)
    torch._foreach_mul_(differences, share)
    torch._foreach_add_(averaged, differences)
