"""Recomputation: a call whose inner tensors are not kept, but computed again in the backward pass."""

from collections.abc import Callable

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable, *inputs: object) -> object:
    """Return function(*inputs). The tensors inside are computed again when the backward pass needs them."""
    return checkpoint(_unpacked_once, function, *inputs, use_reentrant=False)


def _unpacked_once(function: Callable, *inputs: object) -> object:
    """Call `function` so that the hooks of `checkpoint` unpack each saved tensor once.

    They allow no second time, and backward passes of message passing read their saved tensors twice.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if hooks is None:
        return function(*inputs)
    pack, unpack = hooks
    with saved_tensors_hooks(lambda tensor: [pack(tensor)], lambda saved: _first(saved, unpack)):
        return function(*inputs)


def _first(saved: list, unpack: Callable) -> torch.Tensor:
    if len(saved) == 1:
        saved.append(unpack(saved[0]))
    return saved[1]
