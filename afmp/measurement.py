"""One point of the scalability sweep: time and peak memory of forward + backward of one model.

Runs in a process of its own (afmp.isolation), so that peaks and caches of one point cannot reach the next. MB
here are 1,048,576 bytes, as in the seed.
"""

import pkgutil
import resource
import sys
import time
from collections.abc import Callable

import numpy
import timm
import torch
from torch.nn.functional import cross_entropy

from afmp.device import autocast, resolve_device, set_matmul_precision
from afmp.model import afmp_small
from afmp.provenance import device_record, versions

MEGABYTE = 1024**2
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_afmp_small(
    *, image_size: int, num_classes: int, semantics: str, fused_attention: bool
) -> tuple[torch.nn.Module, Loss]:
    """AFMP-Small and its loss, cross entropy + sparsity loss. It has no attention to fuse."""
    model = afmp_small(img_size=image_size, num_classes=num_classes, semantics=semantics)

    def loss(images, labels):
        logits, sparsity_loss = model.forward_train(images)
        return cross_entropy(logits, labels) + sparsity_loss

    return model, loss


def build_deit_tiny(
    *, image_size: int, num_classes: int, semantics: str, fused_attention: bool
) -> tuple[torch.nn.Module, Loss]:
    """timm's DeiT-Tiny, untrained, and its loss, cross entropy. Semantics are AFMP's alone."""
    # timm's attention reads this flag when it is built, not when it is called.
    timm.layers.set_fused_attn(fused_attention)
    model = timm.create_model("deit_tiny_patch16_224", pretrained=False, num_classes=num_classes, img_size=image_size)

    def loss(images, labels):
        return cross_entropy(model(images), labels)

    return model, loss


def describe_device(*, device: str) -> dict:
    """What the points will run on: the resolved device, versions of the software, number of CPU threads.

    `device` is auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:<i> or mps. Raises AfmpError if this machine
    lacks it.
    """
    resolved = resolve_device(device)
    return {
        "torch_device": str(resolved),
        "device": device_record(resolved),
        "versions": versions(),
        "cpu_threads": torch.get_num_threads(),
    }


def measure(
    *,
    builder: str,
    resolution: int,
    batch_size: int,
    num_classes: int,
    semantics: str,
    precision: str,
    fused_attention: bool,
    compile_mode: str,
    device: str,
    warmup: int,
    repeats: int,
) -> dict:
    """Build a model and measure its training passes on synthetic images that lie on the device.

    `builder` is "package.module:function"; the function takes image_size, num_classes, semantics and
    fused_attention and gives (module, loss function of images (B, 3, R, R) and labels (B,)). Returns
    num_parameters, time_ms and memory of a point as schemas/scalability.schema.yaml describes them. A pass is
    forward, loss and backward; gradients are cleared after it.
    """
    device = torch.device(device)
    if device.index is not None:
        torch.cuda.set_device(device)
    set_matmul_precision(precision)
    torch.manual_seed(0)
    _touch_libraries(device)
    resident_before = _peak_resident_bytes()

    model, loss = pkgutil.resolve_name(builder)(
        image_size=resolution, num_classes=num_classes, semantics=semantics, fused_attention=fused_attention
    )
    model = model.to(device).train()
    if compile_mode != "none":
        loss = torch.compile(loss, mode=compile_mode, dynamic=False)
    images = torch.randn(batch_size, 3, resolution, resolution, device=device)
    labels = torch.randint(num_classes, (batch_size,), device=device)
    driver_peak = 0

    def run_pass():
        nonlocal driver_peak
        with autocast(precision, device):
            value = loss(images, labels)
        if device.type == "mps":  # Metal's driver keeps no peak; it is highest with all activations alive
            driver_peak = max(driver_peak, torch.mps.driver_allocated_memory())
        value.backward()

    for _ in range(warmup):
        run_pass()
        model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(repeats):
        times.append(_time_ms(run_pass, device))
        model.zero_grad(set_to_none=True)

    if device.type == "cuda":
        kind, peak = "cuda_allocator", torch.cuda.max_memory_allocated(device)
        reserved = torch.cuda.max_memory_reserved(device) / MEGABYTE
    elif device.type == "mps":
        kind, peak, reserved = "mps_driver", driver_peak, None
    else:
        kind, peak, reserved = "resident_set_growth", _peak_resident_bytes() - resident_before, None
    tensors = [*model.parameters(), *model.buffers()]
    return {
        "num_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "time_ms": _spread(times),
        "memory": {
            "kind": kind,
            "peak_mb": peak / MEGABYTE,
            "reserved_mb": reserved,
            "weights_mb": sum(t.numel() * t.element_size() for t in tensors) / MEGABYTE,
        },
    }


def _touch_libraries(device: torch.device) -> None:
    # The first operations of a process page in code and start threads, which would count as memory of the
    # model: about 35 MB on the CPU.
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, kernel_size=16, stride=16),
        torch.nn.Flatten(2),
        torch.nn.LayerNorm(4),
        torch.nn.Linear(4, 8),
        torch.nn.GELU(),
    ).to(device)
    logits = layers(torch.randn(2, 3, 32, 32, device=device)).mean(2)
    cross_entropy(logits, torch.arange(2, device=device)).backward()


def _time_ms(run: Callable[[], None], device: torch.device) -> float:
    """Milliseconds of one call, from a device with nothing left to do to a device with nothing left to do."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    synchronize = torch.mps.synchronize if device.type == "mps" else lambda: None
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return (time.perf_counter() - start) * 1000


def _spread(times: list[float]) -> dict:
    minimum, q25, median, q75, maximum = numpy.quantile(times, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return {"median": median, "q25": q25, "q75": q75, "min": minimum, "max": maximum, "n": len(times)}


def _peak_resident_bytes() -> int:
    """The largest resident set this process ever had. The kernel counts it anew for a forked process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere
