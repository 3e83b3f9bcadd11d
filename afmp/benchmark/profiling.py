"""Profile of a pass: its kernels on a GPU, its operators on a CPU, by PyTorch's profiler."""

import os
from itertools import product

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from afmp.benchmark.candidates import candidates_of, describe, measured_candidate
from afmp.benchmark.device_limits import missing_on
from afmp.benchmark.measurement import build_subject, describe_device, spread, synthetic_inputs
from afmp.benchmark.passes import Pass, interleaved_times
from afmp.benchmark.settings import PassSettings
from afmp.errors import AfmpError
from afmp.machine.device import set_matmul_precision
from afmp.machine.isolation import run_isolated

PROFILED_PASSES = 10  # after as many to warm up
ROWS_SHOWN = 15


def profile_models(settings: PassSettings) -> list[dict]:
    """Return a profile of every pass of the settings, each from its own process.

    Raises AfmpError for a pass that cannot run.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler warns about GPUs on machines without one
    profiles = []
    for (resolution, batch_size), precision, mode in product(settings.sizes, settings.precision, settings.mode):
        setting = {"resolution": resolution, "batch_size": batch_size, "precision": precision, "mode": mode}
        common = setting | {"num_classes": settings.num_classes, "device": settings.device}
        for candidate in candidates_of(settings):
            point = candidate | setting
            job = common | {"candidate": measured_candidate(candidate)}
            try:
                measured = run_isolated("afmp.benchmark.profiling:profile_pass", job)
            except AfmpError as error:
                raise AfmpError(f"{describe(point)}: {error}") from None
            profiles.append(point | measured)
    return profiles


def profile_pass(
    *, candidate: dict, resolution: int, batch_size: int, precision: str, mode: str, num_classes: int, device: str
) -> dict:
    """Return the time of one pass, and the calls and milliseconds per pass of each kernel or operator, longest first.

    candidate: as in `measurement.measure`.
    """
    machine = describe_device(device=device)
    if missing := missing_on(machine, precision=[precision], execution=[candidate["execution"]]):
        raise AfmpError(missing[0])
    device = torch.device(machine["torch_device"])
    if device.index is not None:
        torch.cuda.set_device(device)
    set_matmul_precision(precision)
    torch.manual_seed(0)
    inputs = synthetic_inputs(batch_size, resolution, num_classes, device)
    subject = build_subject(candidate, inputs, num_classes=num_classes, mode=mode, precision=precision)
    run = Pass(subject, candidate["execution"])
    limits = {"warmup": PROFILED_PASSES, "repeats": PROFILED_PASSES, "seconds": 60.0}
    times, failures = interleaved_times({"pass": run}, device=device, **limits)
    if failures:
        raise AfmpError(failures["pass"]["error"])
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        for _ in range(PROFILED_PASSES):
            run()
            run.clean()
        if on_gpu:
            torch.cuda.synchronize(device)
    rows = []
    for event in profiled.key_averages():
        if (event.device_type == DeviceType.CUDA) == on_gpu:
            total = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            rows.append(
                {"name": event.key, "calls": event.count / PROFILED_PASSES, "ms": total / 1000 / PROFILED_PASSES}
            )
    rows.sort(key=lambda row: -row["ms"])
    return machine | {
        "what": "kernels" if on_gpu else "operators",
        "time_ms": spread(times["pass"]),
        "calls": sum(row["calls"] for row in rows),
        "ms": sum(row["ms"] for row in rows),
        "rows": rows,
    }


def format_profile(point: dict) -> str:
    """Return one profile as text: the longest rows, and the sum of the others in one row."""
    shown, rest = point["rows"][:ROWS_SHOWN], point["rows"][ROWS_SHOWN:]
    if rest:
        others = {key: sum(row[key] for row in rest) for key in ("calls", "ms")}
        shown = [*shown, {"name": f"{len(rest)} others"} | others]
    lines = [
        f"{describe(point)}, batch {point['batch_size']}; {point['device']['name']}, "
        f"torch {point['versions']['torch']}",
        f"  {point['time_ms']['median']:.3f} ms per pass (n {point['time_ms']['n']}); its {point['calls']:.0f} "
        f"{point['what']} take {point['ms']:.3f} ms",
        f"  {'ms':>9} {'calls':>7}",
    ]
    return "\n".join([*lines, *(f"  {row['ms']:>9.4f} {row['calls']:>7.1f}  {row['name'][:90]}" for row in shown)])
