"""Speed of training at CIFAR's size: the paper's model against a plain ViT of the same size, whole steps.

A step is forward, loss, backward and AdamW on one synthetic batch that lies on the device; the steps of the two models
are timed in turn in one process.
"""

from collections.abc import Callable, Sequence

import numpy
import timm
import torch
from torch.nn.functional import cross_entropy

from afmp.benchmark.measurement import describe_device, spread
from afmp.benchmark.passes import WARM_UP_BEFORE_CAPTURE, interleaved_times
from afmp.errors import AfmpError
from afmp.machine.cuda_graph import capture, run_before_capture
from afmp.machine.device import autocast, set_matmul_precision
from afmp.machine.isolation import run_isolated
from afmp.model.sizes import afmp_tiny

BATCH_SIZE = 128
NUM_CLASSES = 100
MODELS = {
    "afmp_tiny": "AFMP of the accuracy studies: 4 layers, 128 channels, patch 8, sparsity 0.3, with top-down",
    "vit": "timm's VisionTransformer: depth 2, 128 channels, 4 heads, patch 8",
}


def benchmark_training(*, precisions: Sequence[str], device: str, warmup: int, repeats: int, seconds: float) -> dict:
    """Images a second of both models in each precision, and the ratio AFMP / ViT: median and quartiles of step pairs.

    Steps run eagerly, and on CUDA as one CUDA graph each. Raises AfmpError for a device or precision that is not there.
    """
    rows = []
    for precision in precisions:
        measured = run_isolated(
            "afmp.benchmark.training_steps:measure_training",
            {"precision": precision, "device": device, "warmup": warmup, "repeats": repeats, "seconds": seconds},
        )
        rows.append({"precision": precision} | measured)
    return {"format_version": 1, "batch_size": BATCH_SIZE, "models": MODELS, "rows": rows}


def measure_training(*, precision: str, device: str, warmup: int, repeats: int, seconds: float) -> dict:
    """One precision, in a process of its own: execution, and each model's times and speed."""
    machine = describe_device(device=device)
    device = torch.device(machine["torch_device"])
    if precision not in ("fp32", "tf32", "bf16") or (precision == "tf32" and device.type != "cuda"):
        allowed = "fp32, tf32, bf16" if device.type == "cuda" else "fp32, bf16"
        raise AfmpError(f"precision: {precision!r} found; allowed for training on {device.type}: {allowed}.")
    set_matmul_precision(precision)
    torch.manual_seed(0)
    images = torch.randn(BATCH_SIZE, 3, 32, 32, device=device)
    labels = torch.randint(NUM_CLASSES, (BATCH_SIZE,), device=device)
    afmp = afmp_tiny(num_classes=NUM_CLASSES)
    vit = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=4, num_classes=NUM_CLASSES
    )

    def afmp_loss() -> torch.Tensor:
        logits, sparsity_loss = afmp.forward_train(images)
        return cross_entropy(logits, labels) + sparsity_loss

    def vit_loss() -> torch.Tensor:
        return cross_entropy(vit(images), labels)

    steps = {
        name: _Step(model.to(device), loss, precision, device)
        for name, model, loss in (("afmp_tiny", afmp, afmp_loss), ("vit", vit, vit_loss))
    }
    times, failures = interleaved_times(steps, device=device, warmup=warmup, repeats=repeats, seconds=seconds)
    if failures:
        name, failed = next(iter(failures.items()))
        raise AfmpError(f"training of {name} failed: {failed['error']}")
    speeds = {name: BATCH_SIZE * 1000 / numpy.array(found) for name, found in times.items()}
    pairs = min(map(len, times.values()))  # the slower one may have left the rounds before
    return machine | {
        "execution": "graph" if device.type == "cuda" else "eager",
        "implementation": afmp.implementation,
        "step_ms": {name: spread(found) for name, found in times.items()},
        "images_per_second": {name: _quartiles(found) for name, found in speeds.items()},
        # The n-th steps of the two follow one another, so a drift of the machine cancels in their ratio.
        "ratio": _quartiles(speeds["afmp_tiny"][:pairs] / speeds["vit"][:pairs]),
    }


class Replayed:
    """A call without arguments to be timed; on CUDA it is captured once, as one CUDA graph, and replayed."""

    def __init__(
        self,
        call: Callable[[], object],
        device: torch.device,
        before_capture: Callable[[], None] = lambda: None,
    ) -> None:
        self._call = call
        if device.type == "cuda":
            stream = torch.cuda.Stream(device)
            for _ in range(WARM_UP_BEFORE_CAPTURE):
                run_before_capture(call, stream)
            before_capture()
            graph, self._result = capture(call, stream)
            self._call = graph.replay

    def __call__(self) -> None:
        self._call()

    def clean(self) -> None:
        """Nothing: a call leaves nothing behind."""


class _Step(Replayed):
    """One whole training step, as training itself replays it."""

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
        self._optimizer = optimizer  # its moments live in tensors that the graph writes to


def format_training(training: dict) -> str:
    """The content of `benchmark_training` as text."""
    lines = [f"{name}: {text}" for name, text in training["models"].items()]
    for row in training["rows"]:
        speeds = row["images_per_second"]
        lines += [
            f"{row['device']['name']}, {row['cpu_threads']} CPU threads, torch {row['versions']['torch']}, "
            f"batch {training['batch_size']}, {row['precision']}, {row['execution']}, "
            f"message passing: {row['implementation'] or 'not stated'}",
            *(
                f"  {name:<10}{speed['median']:>12,.0f} images/s  [{speed['q25']:,.0f}, {speed['q75']:,.0f}]"
                f"  {row['step_ms'][name]['median']:.3f} ms a step, n {row['step_ms'][name]['n']}"
                for name, speed in speeds.items()
            ),
            f"  AFMP / ViT {row['ratio']['median']:>11.2f}           "
            f"[{row['ratio']['q25']:.2f}, {row['ratio']['q75']:.2f}]",
        ]
    return "\n".join(lines)


def _quartiles(values) -> dict:
    return dict(zip(("q25", "median", "q75"), numpy.quantile(values, [0.25, 0.5, 0.75]).tolist(), strict=True))
