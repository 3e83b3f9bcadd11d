"""Autocast on every device, also on one that has none, such as `meta`: there PyTorch refuses to be asked."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager:
    """Return a context in which no operation on the device of `tensor` is cast to a narrower type."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def autocast_dtype(tensor: Tensor) -> torch.dtype | None:
    """Return the type in which autocast computes products on the device of `tensor`; None without autocast."""
    kind = tensor.device.type
    is_enabled = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if is_enabled else None
