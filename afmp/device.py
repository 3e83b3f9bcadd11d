"""Which device computes, and in which arithmetic."""

from contextlib import nullcontext

import torch

from afmp.errors import AfmpError


def resolve_device(name: str) -> torch.device:
    """The torch device of a config value: auto picks CUDA, then MPS, then CPU. Raises AfmpError if it is not there."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available.get(name, False):
        there = ", ".join(kind for kind, yes in available.items() if yes)
        raise AfmpError(f"device: {name!r} was asked for, but this machine has {there}; set device to one of them or auto.")
    return torch.device(name)


def set_matmul_precision(precision: str) -> None:
    """Allow TF32 matrix products for precision tf32, forbid them for every other one."""
    # The coarse switch of torch 2.x: it is the one that both old and new backends obey together.
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def autocast(precision: str, device: torch.device):
    """Context of the forward pass: bfloat16 or float16 autocast, or none at all."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    if dtype is None:
        return nullcontext()
    # No weight cache: a cast kept from outside a CUDA graph would be stale inside it.
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)
