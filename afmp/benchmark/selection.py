"""How long it takes to select an image's k best edges, by itself: random scores over the scaffold of AFMP-Small."""

from collections.abc import Sequence

import torch

from afmp.benchmark.measurement import describe_device, spread
from afmp.benchmark.passes import interleaved_times
from afmp.benchmark.sweep import check_sizes
from afmp.benchmark.training_steps import Replayed
from afmp.errors import AfmpError
from afmp.machine.isolation import run_isolated
from afmp.message_passing.implementation import uses_triton
from afmp.message_passing.selection import kept_slots, top_k_edges
from afmp.model.sizes import afmp_small


def benchmark_selection(
    *, resolutions: Sequence[int], batch_sizes: Sequence[int], device: str, warmup: int, repeats: int, seconds: float
) -> dict:
    """Milliseconds of one layer's selection at each resolution (pixels) and batch, by each implementation there is.

    `pytorch` is torch.topk, masks and a sort; on CUDA there is `triton` too, and both are CUDA graphs. Raises AfmpError
    for a device that is not there or a size that no model has.
    """
    check_sizes(resolutions, batch_sizes)
    rows = []
    for resolution, batch_size in zip(resolutions, batch_sizes, strict=True):
        size = {"resolution": resolution, "batch_size": batch_size}
        limits = {"device": device, "warmup": warmup, "repeats": repeats, "seconds": seconds}
        rows.append(size | run_isolated("afmp.benchmark.selection:measure_selection", size | limits))
    return {"format_version": 1, "rows": rows}


def measure_selection(
    *, resolution: int, batch_size: int, device: str, warmup: int, repeats: int, seconds: float
) -> dict:
    """One size, in a process of its own: nodes, edges, k, and each implementation's times."""
    machine = describe_device(device=device)
    device = torch.device(machine["torch_device"])
    model = afmp_small(img_size=resolution)
    tables, k = model.tables, model.top_k
    torch.manual_seed(0)
    scores = torch.randn(1, batch_size, *tables.valid.shape, device=device)
    valid = tables.valid.to(device)
    calls = {"pytorch": lambda: kept_slots(top_k_edges(scores, valid, k), k)}
    if uses_triton(scores):
        from afmp.message_passing.kept_edges.selection import select

        calls["triton"] = lambda: select(scores, valid, k)
    steps = {name: Replayed(call, device) for name, call in calls.items()}
    times, failures = interleaved_times(steps, device=device, warmup=warmup, repeats=repeats, seconds=seconds)
    if failures:
        name, failed = next(iter(failures.items()))
        raise AfmpError(f"selection by {name} failed: {failed['error']}")
    return machine | {
        "num_patches": model.num_patches,
        "num_edges": model.num_directed_edges,
        "num_kept": k,
        "execution": "graph" if device.type == "cuda" else "eager",
        "time_ms": {name: spread(found) for name, found in times.items()},
    }


def format_selection(selection: dict) -> str:
    """The content of `benchmark_selection` as text."""
    first = selection["rows"][0]
    lines = [
        f"{first['device']['name']}, {first['cpu_threads']} CPU threads, torch {first['versions']['torch']}, "
        f"{first['execution']}; microseconds to select the k best of an image's edges, all images of a batch"
    ]
    for row in selection["rows"]:
        lines.append(f"{row['num_patches']:,} nodes, batch {row['batch_size']}, k {row['num_kept']:,}")
        lines += [
            f"  {name:<10}{1000 * time['median']:>12,.1f}  "
            f"[{1000 * time['q25']:,.1f}, {1000 * time['q75']:,.1f}], n {time['n']}"
            for name, time in row["time_ms"].items()
        ]
    return "\n".join(lines)
