"""What a pass spends its time on: its kernels on a GPU, its operators on a CPU, by PyTorch's profiler."""

import os
from collections.abc import Sequence
from itertools import product

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from afmp.benchmark.measurement import build_subject, describe_device, spread, synthetic_inputs
from afmp.benchmark.passes import Pass, interleaved_times
from afmp.benchmark.sweep import candidates_of, check_settings, check_sizes, described, job_of, lacking
from afmp.errors import AfmpError
from afmp.machine.device import set_matmul_precision
from afmp.machine.isolation import run_isolated

PASSES = 10  # profiled, after as many to warm up
SHOWN = 15  # rows of the table


def profile_models(
    *,
    models: Sequence[str],
    resolutions: Sequence[int],
    batch_sizes: Sequence[int],
    semantics: str,
    num_classes: int,
    device: str,
    **lists: Sequence[str],
) -> list[dict]:
    """A profile of each model at each size in each setting, a process each.

    lists: `precision`, `mode`, `execution` and `attention`, each as in `benchmark.benchmark_scalability`. Raises
    AfmpError for a pass that cannot be run.
    """
    check_sizes(resolutions, batch_sizes)
    check_settings(models=models, semantics=[semantics], **lists)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler speaks of GPUs where there are none
    candidates = candidates_of(models, [semantics], lists["attention"], lists["execution"])
    sizes = list(zip(resolutions, batch_sizes, strict=True))
    found = []
    for (resolution, batch_size), precision, mode in product(sizes, lists["precision"], lists["mode"]):
        setting = {"resolution": resolution, "batch_size": batch_size, "precision": precision, "mode": mode}
        common = setting | {"num_classes": num_classes, "device": device}
        for candidate in candidates:
            point = candidate | setting
            try:
                measured = run_isolated(
                    "afmp.benchmark.profiling:profile_pass", common | {"candidate": job_of(candidate)}
                )
            except AfmpError as error:
                raise AfmpError(f"{described(point)}: {error}") from None
            found.append(point | measured)
    return found


def profile_pass(
    *, candidate: dict, resolution: int, batch_size: int, precision: str, mode: str, num_classes: int, device: str
) -> dict:
    """One pass: its time, and of each kernel or operator the calls and milliseconds a pass, longest first.

    candidate: as `measurement.measure` takes it.
    """
    machine = describe_device(device=device)
    if missing := lacking(machine, precision=[precision], execution=[candidate["execution"]]):
        raise AfmpError(missing[0])
    device = torch.device(machine["torch_device"])
    if device.index is not None:
        torch.cuda.set_device(device)
    set_matmul_precision(precision)
    torch.manual_seed(0)
    inputs = synthetic_inputs(batch_size, resolution, num_classes, device)
    subject = build_subject(candidate, inputs, num_classes=num_classes, mode=mode, precision=precision)
    run = Pass(subject, candidate["execution"])
    limits = {"warmup": PASSES, "repeats": PASSES, "seconds": 60.0}
    times, failures = interleaved_times({"pass": run}, device=device, **limits)
    if failures:
        raise AfmpError(failures["pass"]["error"])
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        for _ in range(PASSES):
            run()
            run.clean()
        if on_gpu:
            torch.cuda.synchronize(device)
    rows = []
    for event in profiled.key_averages():
        if (event.device_type == DeviceType.CUDA) == on_gpu:
            total = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            rows.append({"name": event.key, "calls": event.count / PASSES, "ms": total / 1000 / PASSES})
    rows.sort(key=lambda row: -row["ms"])
    return machine | {
        "what": "kernels" if on_gpu else "operators",
        "time_ms": spread(times["pass"]),
        "calls": sum(row["calls"] for row in rows),
        "ms": sum(row["ms"] for row in rows),
        "rows": rows,
    }


def format_profile(point: dict) -> str:
    """One profile as text: the longest rows, and what is left as one."""
    shown, rest = point["rows"][:SHOWN], point["rows"][SHOWN:]
    if rest:
        others = {key: sum(row[key] for row in rest) for key in ("calls", "ms")}
        shown = [*shown, {"name": f"{len(rest)} others"} | others]
    lines = [
        f"{described(point)}, batch {point['batch_size']}; {point['device']['name']}, "
        f"torch {point['versions']['torch']}",
        f"  {point['time_ms']['median']:.3f} ms a pass (n {point['time_ms']['n']}); in it {point['calls']:.0f} "
        f"{point['what']}, {point['ms']:.3f} ms",
        f"  {'ms':>9} {'calls':>7}",
    ]
    return "\n".join([*lines, *(f"  {row['ms']:>9.4f} {row['calls']:>7.1f}  {row['name'][:90]}" for row in shown)])
