"""Speed of training at CIFAR's image size: AFMP-Tiny, of `paper` or of `refined`, against a plain ViT of its size.

A step is forward, loss, backward and AdamW on one synthetic batch on the device. The steps of the two models are timed
in turn, in one process.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy
import timm
import torch
from torch.nn.functional import cross_entropy

from afmp.benchmark.measurement import describe_device, spread
from afmp.benchmark.passes import Replayed, interleaved_times
from afmp.benchmark.settings import check_timing
from afmp.errors import AfmpError
from afmp.machine.device import autocast, set_matmul_precision
from afmp.machine.isolation import run_isolated
from afmp.model.afmp import AFMP
from afmp.model.sizes import afmp_refined_tiny, afmp_tiny

BATCH_SIZE = 128
NUM_CLASSES = 100


class Pair(NamedTuple):
    """AFMP of one semantics, and the ViT of as many parameters."""

    name: str
    build: Callable[..., AFMP]
    description: str
    vit_depth: int


PAIRS = {
    "paper": Pair(
        "afmp_tiny",
        afmp_tiny,
        "AFMP of the accuracy studies: 4 layers, 128 channels, patch 8, sparsity 0.3, with top-down",
        vit_depth=2,
    ),
    "refined": Pair(
        "afmp_refined_tiny",
        partial(afmp_refined_tiny, patch_size=8),
        "AFMP as `refined`: 9 layers, 128 channels, patch 8, all edges",
        vit_depth=4,
    ),
}


def benchmark_training(
    *, semantics: str, precision: Sequence[str], device: str, warmup: int, repeats: int, seconds: float
) -> dict:
    """Measure the images per second of both models in each precision, and the ratio AFMP / ViT over pairs of steps.

    semantics: that of AFMP, one of PAIRS. Steps run in eager mode, and on CUDA as one CUDA graph each. Raises AfmpError
    for a device that this machine lacks or a precision that the device lacks.
    """
    limits = {"warmup": warmup, "repeats": repeats, "seconds": seconds}
    check_timing(**limits)
    rows = []
    for value in precision:
        measured = run_isolated(
            "afmp.benchmark.training_steps:measure_training",
            {"semantics": semantics, "precision": value, "device": device} | limits,
        )
        rows.append({"precision": value} | measured)
    pair = PAIRS[semantics]
    vit = f"timm's VisionTransformer: depth {pair.vit_depth}, 128 channels, 4 heads, patch 8"
    models = {pair.name: pair.description, "vit": vit}
    return {"format_version": 1, "batch_size": BATCH_SIZE, "models": models, "rows": rows}


def measure_training(*, semantics: str, precision: str, device: str, warmup: int, repeats: int, seconds: float) -> dict:
    """Measure one precision, in its own process: execution, and the times and speed of each model."""
    machine = describe_device(device=device)
    device = torch.device(machine["torch_device"])
    if precision not in ("fp32", "tf32", "bf16") or (precision == "tf32" and device.type != "cuda"):
        allowed = "fp32, tf32, bf16" if device.type == "cuda" else "fp32, bf16"
        raise AfmpError(f"precision: {precision!r} found; allowed for training on {device.type}: {allowed}.")
    set_matmul_precision(precision)
    torch.manual_seed(0)
    images = torch.randn(BATCH_SIZE, 3, 32, 32, device=device)
    labels = torch.randint(NUM_CLASSES, (BATCH_SIZE,), device=device)
    pair = PAIRS[semantics]
    afmp = pair.build(num_classes=NUM_CLASSES)
    vit = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=128, depth=pair.vit_depth, num_heads=4, num_classes=NUM_CLASSES
    )

    def afmp_loss() -> torch.Tensor:
        logits, sparsity_loss = afmp.forward_train(images)
        return cross_entropy(logits, labels) + sparsity_loss

    def vit_loss() -> torch.Tensor:
        return cross_entropy(vit(images), labels)

    steps = {
        name: _Step(model.to(device), loss, precision, device)
        for name, model, loss in ((pair.name, afmp, afmp_loss), ("vit", vit, vit_loss))
    }
    times, failures = interleaved_times(steps, device=device, warmup=warmup, repeats=repeats, seconds=seconds)
    for name, failed in failures.items():
        raise AfmpError(f"training of {name} failed: {failed['error']}")
    speeds = {name: BATCH_SIZE * 1000 / numpy.array(milliseconds) for name, milliseconds in times.items()}
    pairs = min(map(len, times.values()))  # the slower model may have fewer steps
    return machine | {
        "execution": "graph" if device.type == "cuda" else "eager",
        "implementation": afmp.implementation,
        "step_ms": {name: spread(milliseconds) for name, milliseconds in times.items()},
        "images_per_second": {name: _quartiles(values) for name, values in speeds.items()},
        # The n-th steps of the two models are neighbours in time, so a drift of the machine cancels in their ratio.
        "ratio": _quartiles(speeds[pair.name][:pairs] / speeds["vit"][:pairs]),
    }


class _Step(Replayed):
    """One whole training step, replayed as in training."""

    def __init__(self, model, loss, precision: str, device) -> None:
        options = {"capturable": True} if device.type == "cuda" else {}
        optimizer = torch.optim.AdamW(
            model.train().parameters(), lr=1e-3, weight_decay=1e-4, fused=device.type in ("cuda", "cpu"), **options
        )

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with autocast(precision, device):
                value = loss()
            value.backward()
            optimizer.step()

        super().__init__(step, device, before_capture=lambda: optimizer.zero_grad(set_to_none=True))
        self._optimizer = optimizer  # keeps its moments alive: the graph writes to these tensors


def format_training(training: dict) -> str:
    """Return the content of `benchmark_training` as text."""
    lines = [f"{name}: {description}" for name, description in training["models"].items()]
    for row in training["rows"]:
        speeds = row["images_per_second"]
        lines += [
            f"{row['device']['name']}, {row['cpu_threads']} CPU threads, torch {row['versions']['torch']}, "
            f"batch {training['batch_size']}, {row['precision']}, {row['execution']}, "
            f"message passing: {row['implementation'] or 'not stated'}",
            *(
                f"  {name:<18}{speed['median']:>12,.0f} images/s  [{speed['q25']:,.0f}, {speed['q75']:,.0f}]"
                f"  {row['step_ms'][name]['median']:.3f} ms per step, n {row['step_ms'][name]['n']}"
                for name, speed in speeds.items()
            ),
            f"  AFMP / ViT{row['ratio']['median']:>20.2f}           "
            f"[{row['ratio']['q25']:.2f}, {row['ratio']['q75']:.2f}]",
        ]
    return "\n".join(lines)


def _quartiles(values) -> dict:
    return dict(zip(("q25", "median", "q75"), numpy.quantile(values, [0.25, 0.5, 0.75]).tolist(), strict=True))
