"""The device that computes, and its arithmetic."""

from contextlib import nullcontext

import torch

from afmp.errors import AfmpError


def resolve_device(name: str) -> torch.device:
    """Return the torch device for a name; auto picks CUDA, then MPS, then CPU. Raises AfmpError if it is missing."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, exists in available.items() if exists))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or not available.get(device.type, False):
        allowed = ", ".join(["auto", *(kind for kind in available if available[kind])])
        raise AfmpError(f"device: {name!r} is not on this machine; allowed here: {allowed}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise AfmpError(f"device: {name!r} is not on this machine, which has {torch.cuda.device_count()} GPU(s).")
    return device


def set_matmul_precision(precision: str) -> None:
    """Allow TF32 matrix products for precision tf32, and forbid them otherwise."""
    # These two calls set PyTorch's older (allow_tf32) and newer (fp32_precision) switches alike. If only the newer ones
    # were set, every library that reads the older ones would raise an error.
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def autocast(precision: str, device: torch.device):
    """Return the context of the forward pass: bfloat16 or float16 autocast, or none."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    if dtype is None:
        return nullcontext()
    # Without a weight cache: a weight that was cast outside a CUDA graph would be out of date inside it.
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)
