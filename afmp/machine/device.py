"""Which device computes, and in which arithmetic."""

from contextlib import nullcontext

import torch

from afmp.errors import AfmpError


def resolve_device(name: str) -> torch.device:
    """The torch device of a config value: auto picks CUDA, then MPS, then CPU. Raises AfmpError if it is not there."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in found.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or not found.get(device.type, False):
        there = ", ".join(["auto", *(kind for kind in found if found[kind])])
        raise AfmpError(f"device: {name!r} is not on this machine; allowed here: {there}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise AfmpError(f"device: {name!r} is not on this machine, which has {torch.cuda.device_count()} GPU(s).")
    return device


def set_matmul_precision(precision: str) -> None:
    """Allow TF32 matrix products for precision tf32, forbid them for every other one."""
    # These two calls keep PyTorch's older (allow_tf32) and newer (fp32_precision) switches in step; setting only the
    # newer ones makes every library that still reads the older ones raise.
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def autocast(precision: str, device: torch.device):
    """Context of the forward pass: bfloat16 or float16 autocast, or none at all."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    if dtype is None:
        return nullcontext()
    # No weight cache: a cast kept from outside a CUDA graph would be stale inside it.
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)
