"""The choice of the path that computes a layer. It is made here and nowhere else.

A layer is computed by one of seven paths. `plain` is the equation itself, line by line, in the layer's own `forward`:
it calls every inner module and stores edges x channels. The others give the same result. They read the weights of
inner modules instead of calling them.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

# Looked up once: inside a traced function this lookup would break torch.compile's graph at every layer (torch 2.11).
HAS_TRITON = find_spec("triton") is not None

PLAIN = "plain"
KEPT_FUSED, KEPT_PYTORCH = "kept_edges/fused", "kept_edges/pytorch"
ALL_FUSED, ALL_PYTORCH = "all_edges/fused", "all_edges/pytorch"
DIRECTIONS_FUSED, DIRECTIONS_PYTORCH = "directions/fused", "directions/pytorch"


def path_of(state: Tensor, *, readable: bool, k: int | None = None, num_edges: int = 0) -> str:
    """Return the path that computes a layer on state (..., N, D).

    - readable: True if the weights of the inner modules may be read; if not, only the plain path is possible
    - k: edges kept per image of its `num_edges`; None for a layer that must visit all edges
    """
    if not readable:
        return PLAIN
    fused = uses_triton(state)
    # A pruned edge has no gradient. Where an image keeps no more edges than it has nodes, the backward pass visits only
    # the ends of kept edges. On a GPU without Triton, summing at these ends would need atomics, so it visits all edges.
    if k is not None and 0 < k < num_edges and k <= state.shape[-2] and (fused or state.device.type == "cpu"):
        return KEPT_FUSED if fused else KEPT_PYTORCH
    return ALL_FUSED if fused else ALL_PYTORCH


def directions_path_of(state: Tensor, *, readable: bool) -> str:
    """Return the path that computes a layer with directions on state (..., N, D); readable: as in `path_of`."""
    if readable and uses_triton(state):
        return DIRECTIONS_FUSED
    # The sums of the PyTorch path would need atomics on a GPU.
    return DIRECTIONS_PYTORCH if readable and state.device.type == "cpu" else PLAIN


def uses_triton(state: Tensor) -> bool:
    """Return True if Triton kernels compute on this state: on CUDA with Triton installed, except in float64."""
    return implementation(state.device, state.dtype) == "triton"


def implementation(device: torch.device, dtype: torch.dtype) -> str:
    """Return the implementation of message passing for a device and a type: "triton" or "pytorch"."""
    return "triton" if device.type == "cuda" and dtype != torch.float64 and HAS_TRITON else "pytorch"
