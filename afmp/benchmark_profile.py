"""What a pass spends its time on: its kernels on a GPU, its operators on a CPU, by PyTorch's profiler."""

import os
from collections.abc import Sequence
from itertools import product
from pkgutil import resolve_name

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from afmp.benchmark import (
    MODEL_BUILDERS,
    MODELS_WITH_ATTENTION,
    MODELS_WITH_SEMANTICS,
    check_settings,
    check_sizes,
    cuda_only,
    described,
)
from afmp.benchmark_passes import Pass, Subject, interleaved_times
from afmp.device import set_matmul_precision
from afmp.errors import AfmpError
from afmp.isolation import IsolatedCallError, run_isolated
from afmp.measurement import describe_device, spread

PASSES = 10  # profiled, after as many to warm up
SHOWN = 15  # rows of the table


def profile_models(
    *, models: Sequence[str], resolutions: Sequence[int], batch_sizes: Sequence[int], device: str, **settings
) -> list[dict]:
    """A profile of each model at each size in each setting, a process each.

    settings: lists `precision`, `mode`, `execution`, `attention` and the values `num_classes`, `semantics`, as in
    `benchmark.benchmark_scalability`. Raises AfmpError for a pass that cannot be run.
    """
    check_sizes(resolutions, batch_sizes)
    lists = {key: settings.pop(key) for key in ("precision", "mode", "execution", "attention")}
    check_settings(models=models, semantics=[settings["semantics"]], **lists)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler speaks of GPUs where there are none
    found = []
    for model, (resolution, batch_size) in product(models, zip(resolutions, batch_sizes, strict=True)):
        own = lists | ({} if model in MODELS_WITH_ATTENTION else {"attention": [None]})
        for values in product(*own.values()):
            point = {"model": model, "resolution": resolution, "batch_size": batch_size} | dict(
                zip(own, values, strict=True)
            )
            try:
                measured = run_isolated("afmp.benchmark_profile:profile_pass", point | settings | {"device": device})
            except IsolatedCallError as error:
                message = str(error).removeprefix("AfmpError: ")
                raise AfmpError(f"{described(point)}: {message}") from None
            found.append(point | measured)
    return found


def profile_pass(
    *, model: str, resolution: int, batch_size: int, precision: str, mode: str, execution: str, attention: str | None,
    num_classes: int, semantics: str, device: str,
) -> dict:  # fmt: skip
    """One pass: its time, and of each kernel or operator the calls and milliseconds a pass, longest first."""
    machine = describe_device(device=device)
    device = torch.device(machine["torch_device"])
    if device.type != "cuda" and (
        lacking := cuda_only("precision", [precision], machine) + cuda_only("execution", [execution], machine)
    ):
        raise AfmpError(lacking[0])
    if device.index is not None:
        torch.cuda.set_device(device)
    set_matmul_precision(precision)
    torch.manual_seed(0)
    images = torch.randn(batch_size, 3, resolution, resolution, device=device)
    labels = torch.randint(num_classes, (batch_size,), device=device)
    module, loss = resolve_name(MODEL_BUILDERS[model])(
        image_size=resolution,
        num_classes=num_classes,
        semantics=semantics if model in MODELS_WITH_SEMANTICS else None,
        fused_attention=attention != "plain",
    )
    run = Pass(Subject(module.to(device), loss, (images, labels), mode=mode, precision=precision), execution)
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
