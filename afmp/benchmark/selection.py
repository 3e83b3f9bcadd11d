"""Time to select the k best edges of each image, without the rest of the layer."""

from collections.abc import Sequence

import torch

from afmp.benchmark.measurement import describe_device, spread
from afmp.benchmark.passes import Replayed, interleaved_times
from afmp.benchmark.settings import check_sizes, check_timing
from afmp.errors import AfmpError
from afmp.machine.isolation import run_isolated
from afmp.message_passing.implementation import uses_triton
from afmp.message_passing.selection import kept_slots, top_k_edges
from afmp.model.sizes import afmp_small


def benchmark_selection(
    *, resolutions: Sequence[int], batch_size: Sequence[int], device: str, warmup: int, repeats: int, seconds: float
) -> dict:
    """Time one layer's selection of random scores over AFMP-Small's scaffold, at each size and by each implementation.

    resolutions: pixels. batch_size: images per batch, one value per resolution. `pytorch` is torch.topk, masks and a
    sort. On CUDA there is `triton` too, and both run as CUDA graphs. Raises AfmpError for a device that this machine
    lacks or a size that no model has.
    """
    check_sizes(resolutions, batch_size)
    limits = {"warmup": warmup, "repeats": repeats, "seconds": seconds}
    check_timing(**limits)
    rows = []
    for resolution, images in zip(resolutions, batch_size, strict=True):
        size = {"resolution": resolution, "batch_size": images}
        job = size | limits | {"device": device}
        rows.append(size | run_isolated("afmp.benchmark.selection:measure_selection", job))
    return {"format_version": 1, "rows": rows}


def measure_selection(
    *, resolution: int, batch_size: int, device: str, warmup: int, repeats: int, seconds: float
) -> dict:
    """Measure one size, in its own process: patches, edges, k, and the times of each implementation."""
    machine = describe_device(device=device)
    device = torch.device(machine["torch_device"])
    model = afmp_small(img_size=resolution)
    tables, k = model.tables, model.top_k
    torch.manual_seed(0)
    scores = torch.randn(1, batch_size, *tables.valid.shape, device=device)
    valid = tables.valid.to(device)
    implementations = {"pytorch": lambda: kept_slots(top_k_edges(scores, valid, k), k)}
    if uses_triton(scores):
        from afmp.message_passing.kept_edges.selection import select

        implementations["triton"] = lambda: select(scores, valid, k)
    replayed = {name: Replayed(function, device) for name, function in implementations.items()}
    times, failures = interleaved_times(replayed, device=device, warmup=warmup, repeats=repeats, seconds=seconds)
    for name, failed in failures.items():
        raise AfmpError(f"selection by {name} failed: {failed['error']}")
    return machine | {
        "num_patches": model.num_patches,
        "num_edges": model.num_directed_edges,
        "num_kept": k,
        "execution": "graph" if device.type == "cuda" else "eager",
        "time_ms": {name: spread(milliseconds) for name, milliseconds in times.items()},
    }


def format_selection(selection: dict) -> str:
    """Return the content of `benchmark_selection` as text."""
    first = selection["rows"][0]
    lines = [
        f"{first['device']['name']}, {first['cpu_threads']} CPU threads, torch {first['versions']['torch']}, "
        f"{first['execution']}; microseconds per batch to select the k best edges of each image"
    ]
    for row in selection["rows"]:
        lines.append(f"{row['num_patches']:,} nodes, batch {row['batch_size']}, k {row['num_kept']:,}")
        lines += [
            f"  {name:<10}{1000 * time['median']:>12,.1f}  "
            f"[{1000 * time['q25']:,.1f}, {1000 * time['q75']:,.1f}], n {time['n']}"
            for name, time in row["time_ms"].items()
        ]
    return "\n".join(lines)
