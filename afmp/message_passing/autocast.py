"""Autocast on every device, also on one that has none, such as `meta`: there PyTorch refuses to be asked."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# Asked once: torch.compile cannot trace the question (torch 2.11).
DEVICES = frozenset(kind for kind in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(kind))


def without_autocast(tensor: Tensor) -> AbstractContextManager:
    """Return a context in which no operation on the device of `tensor` is cast to a narrower type."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if kind in DEVICES else nullcontext()


def autocast_dtype(tensor: Tensor) -> torch.dtype | None:
    """Return the type in which autocast computes products on the device of `tensor`; None without autocast."""
    kind = tensor.device.type
    is_enabled = kind in DEVICES and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if is_enabled else None
