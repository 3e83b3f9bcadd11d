"""Which code passes messages: the one place that decides."""

from importlib.util import find_spec

import torch
from torch import Tensor

# Asked once: in a traced function the question would break torch.compile's graph at every layer (torch 2.11).
HAS_TRITON = find_spec("triton") is not None


def uses_triton(rows: Tensor) -> bool:
    """Whether the fused kernels compute on these rows: on CUDA with Triton installed, but not in float64."""
    return implementation(rows.device, rows.dtype) == "triton"


def implementation(device: torch.device, dtype: torch.dtype) -> str:
    """What passes messages of a type on a device: "triton", the fused kernels, or "pytorch"."""
    return "triton" if device.type == "cuda" and dtype != torch.float64 and HAS_TRITON else "pytorch"
