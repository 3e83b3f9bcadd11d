"""Measurement of one group of the sweep: all models at one size, batch, precision and mode, alive in one process.

Each group has a process of its own (afmp.machine.isolation), so its caches and memory peaks cannot reach the next.
"""

import gc

import numpy
import torch

from afmp.benchmark.memory import MemoryBaseline, warm_up_libraries
from afmp.benchmark.models import build_model
from afmp.benchmark.passes import COMPILE_MODES, Pass, Subject, failure, free_graph_trees, interleaved_times
from afmp.machine.device import resolve_device, set_matmul_precision
from afmp.provenance import device_record, versions


def describe_device(*, device: str) -> dict:
    """Return the resolved device, the versions of the software and the number of CPU threads.

    device: auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:<i> or mps. Raises AfmpError if this machine lacks it.
    """
    resolved = resolve_device(device)
    return {
        "torch_device": str(resolved),
        "device": device_record(resolved),
        "versions": versions(),
        "cpu_threads": torch.get_num_threads(),
    }


def synthetic_inputs(batch_size: int, resolution: int, num_classes: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random images (B, 3, R, R) and labels (B,) on the device."""
    images = torch.randn(batch_size, 3, resolution, resolution, device=device)
    return images, torch.randint(num_classes, (batch_size,), device=device)


def build_subject(candidate: dict, inputs, *, num_classes: int, mode: str, precision: str) -> Subject:
    """Build the model of a candidate of `measure` on the device of its synthetic inputs."""
    model, loss = build_model(candidate, image_size=inputs[0].shape[-1], num_classes=num_classes)
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
    """Build the candidates' models on the device and measure their passes over synthetic images.

    - candidates: each {builder, semantics, fused_attention, execution}, see `models.build_model`. Candidates of one
      model are neighbours in the list.
    - reads: some of "memory", "time". While the memory of one model is read, the others have only their weights. The
      passes of one execution are timed in turn.

    Returns the measured part of each candidate's point (schemas/scalability.schema.yaml), in order, with null for
    whatever was not read. A candidate's failure is in its own status and error.
    """
    device = torch.device(device)
    if device.index is not None:
        torch.cuda.set_device(device)
    set_matmul_precision(precision)
    torch.manual_seed(0)
    warm_up_libraries(device)
    shared_inputs = device.type == "cuda"
    baseline = MemoryBaseline(device)
    inputs = synthetic_inputs(batch_size, resolution, num_classes, device)

    subjects: dict[tuple, Subject] = {}
    memories: dict[tuple, dict] = {}
    outcomes: list[dict] = []
    for candidate in candidates:
        key, compile_mode = _model_key(candidate), COMPILE_MODES.get(candidate["execution"])
        replays = candidate["execution"] == "eager"
        try:
            if key not in subjects:
                if shared_inputs:
                    baseline = MemoryBaseline(device)
                subjects[key] = build_subject(
                    candidate, inputs, num_classes=num_classes, mode=mode, precision=precision
                )
            if "memory" in reads and (*key, compile_mode, replays) not in memories:
                subjects[key].set_replay(replays)
                memories[*key, compile_mode, replays] = baseline.read(
                    subjects[key], compile_mode=compile_mode, shared_inputs=shared_inputs
                )
                subjects[key].set_replay(False)
            outcomes.append(_outcome(subjects[key], memories.get((*key, compile_mode, replays))))
        except Exception as error:  # any exception of a model is the outcome of its point
            outcomes.append(_failed(error))
            if key in subjects:
                subjects[key].clear_gradients()
        if candidate["execution"] == "reduce_overhead":
            free_graph_trees()

    if "time" in reads:
        # After the graphs of reduce_overhead are freed, every function is compiled again, so it is timed last.
        executions = dict.fromkeys(candidate["execution"] for candidate in candidates)
        for execution in sorted(executions, key=lambda name: name == "reduce_overhead"):
            passes = {}
            for index, candidate in enumerate(candidates):
                if candidate["execution"] == execution and outcomes[index]["status"] == "ok":
                    try:
                        passes[index] = Pass(subjects[_model_key(candidate)], execution)
                    except Exception as error:
                        outcomes[index] = _failed(error)
            times, failures = interleaved_times(passes, device=device, warmup=warmup, repeats=repeats, seconds=seconds)
            for index, milliseconds in times.items():
                outcomes[index] |= {"time_ms": spread(milliseconds), "interleaved": len(times) > 1}
            for index, failed in failures.items():
                outcomes[index] = _empty() | failed
            # CUDA graphs keep all memory of their passes: the next execution starts without them.
            passes.clear()
            if execution == "reduce_overhead":
                free_graph_trees()
            for subject in subjects.values():
                subject.clear_gradients()
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return outcomes


def spread(times: list[float]) -> dict:
    """Return quantiles of times in milliseconds, and all times, rounded to 0.1 microseconds."""
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
        "num_parameters": sum(p.numel() for p in subject.model.parameters()),
        "implementation": None if implementation is None else str(implementation),
        "memory": memory,
    }
