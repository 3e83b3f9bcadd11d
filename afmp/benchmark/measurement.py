"""One group of the scalability sweep: all models at one size, batch, precision and mode, alive in one process.

It runs in a process of its own (afmp.machine.isolation), so that caches and peaks of one group cannot reach the next.
"""

import gc
import pkgutil
from collections.abc import Callable

import numpy
import timm
import torch
from torch.nn.functional import cross_entropy

from afmp.benchmark.memory import MemoryBaseline, touch_libraries
from afmp.benchmark.passes import Pass, Subject, failure, interleaved_times
from afmp.machine.device import resolve_device, set_matmul_precision
from afmp.model.sizes import afmp_small
from afmp.provenance import device_record, versions

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
    *, image_size: int, num_classes: int, semantics: None, fused_attention: bool
) -> tuple[torch.nn.Module, Loss]:
    """timm's DeiT-Tiny, untrained, and its loss, cross entropy. It has no semantics."""
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


def synthetic_inputs(batch_size: int, resolution: int, num_classes: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, 3, R, R) and labels (B,), at random, on the device."""
    images = torch.randn(batch_size, 3, resolution, resolution, device=device)
    return images, torch.randint(num_classes, (batch_size,), device=device)


def build_subject(candidate: dict, inputs, *, num_classes: int, mode: str, precision: str) -> Subject:
    """The model of a candidate (as `measure` takes it) where its synthetic inputs are."""
    model, loss = pkgutil.resolve_name(candidate["builder"])(
        image_size=inputs[0].shape[-1],
        num_classes=num_classes,
        semantics=candidate["semantics"],
        fused_attention=candidate["fused_attention"],
    )
    return Subject(model.to(inputs[0].device), loss, inputs, mode=mode, precision=precision)


def measure(
    *,
    candidates: list[dict],
    reads: list[str],
    resolution: int,
    batch_size: int,
    num_classes: int,
    precision: str,
    mode: str,
    device: str,
    warmup: int,
    repeats: int,
    seconds: float,
) -> list[dict]:
    """Build the candidates' models on synthetic images that lie on the device, and measure their passes.

    - candidates: each {builder, semantics, fused_attention, execution}. `builder` is "package.module:function"; the
      function takes image_size, num_classes, semantics and fused_attention and gives (module, loss function of images
      (B, 3, R, R) and labels (B,)). Those of one model follow one another.
    - reads: some of "memory", "time". Memory of each is read while the others hold no more than their weights; passes
      of one execution are timed in turn.

    Returns for each candidate, in order, the part of a point (schemas/scalability.schema.yaml) that measuring fills in,
    with null for what was not read. What goes wrong with one candidate is in its own status and error.
    """
    device = torch.device(device)
    if device.index is not None:
        torch.cuda.set_device(device)
    set_matmul_precision(precision)
    torch.manual_seed(0)
    touch_libraries(device)
    shared_inputs = device.type == "cuda"
    baseline = MemoryBaseline(device)
    inputs = synthetic_inputs(batch_size, resolution, num_classes, device)

    subjects: dict[tuple, Subject] = {}
    memories: dict[tuple, dict] = {}
    outcomes: list[dict] = []
    for candidate in candidates:
        key, compiled = _model_key(candidate), candidate["execution"].startswith("compiled")
        try:
            if key not in subjects:
                if shared_inputs:
                    baseline = MemoryBaseline(device)
                subjects[key] = build_subject(
                    candidate, inputs, num_classes=num_classes, mode=mode, precision=precision
                )
            if "memory" in reads and (*key, compiled) not in memories:
                memories[*key, compiled] = baseline.read(subjects[key], compiled=compiled, shared_inputs=shared_inputs)
            outcomes.append(_outcome(subjects[key], memories.get((*key, compiled))))
        except Exception as error:  # whatever a model raises is the outcome of its point
            outcomes.append(_failed(error))
            if key in subjects:
                subjects[key].clear_gradients()

    if "time" in reads:
        for execution in dict.fromkeys(candidate["execution"] for candidate in candidates):
            passes = {}
            for index, candidate in enumerate(candidates):
                if candidate["execution"] == execution and outcomes[index]["status"] == "ok":
                    try:
                        passes[index] = Pass(subjects[_model_key(candidate)], execution)
                    except Exception as error:
                        outcomes[index] = _failed(error)
            times, failures = interleaved_times(passes, device=device, warmup=warmup, repeats=repeats, seconds=seconds)
            for index, found in times.items():
                outcomes[index] |= {"time_ms": spread(found), "interleaved": len(times) > 1}
            for index, failed in failures.items():
                outcomes[index] = _empty() | failed
            # Graphs hold all memory of their passes: the next execution starts without them.
            passes.clear()
            for subject in subjects.values():
                subject.clear_gradients()
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return outcomes


def spread(times: list[float]) -> dict:
    """Quantiles of times in milliseconds, and the times themselves to the tenth of a microsecond."""
    minimum, q25, median, q75, maximum = numpy.quantile(times, [0, 0.25, 0.5, 0.75, 1]).tolist()
    every = [round(value, 4) for value in times]
    return {"median": median, "q25": q25, "q75": q75, "min": minimum, "max": maximum, "n": len(times), "all": every}


def _model_key(candidate: dict) -> tuple:
    return candidate["builder"], candidate["semantics"], candidate["fused_attention"]


def _empty() -> dict:
    return dict.fromkeys(("num_parameters", "implementation", "time_ms", "memory")) | {"interleaved": False}


def _failed(error: Exception) -> dict:
    return _empty() | failure(error)


def _outcome(subject: Subject, memory: dict | None) -> dict:
    implementation = getattr(subject.model, "implementation", None)
    return _empty() | {
        "status": "ok",
        "error": None,
        "num_parameters": sum(p.numel() for p in subject.model.parameters() if p.requires_grad),
        "implementation": None if implementation is None else str(implementation),
        "memory": memory,
    }
