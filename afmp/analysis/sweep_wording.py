"""Words that tables and figures of the sweep share: its settings, its device, and the ratio at the largest size."""

from afmp.analysis import wording
from afmp.analysis.models import MODELS
from afmp.analysis.series import best_series, modes_of, peak_per_image, series_of, time_per_image

PASSES = {"train": "forward + backward", "inference": "inference"}


def settings(scalability: dict) -> str:
    """The configurations of a sweep in words: `batch 64, precision fp32, ...`."""
    points = scalability["points"]

    def values(key: str) -> str:
        return wording.distinct(str(point[key]) for point in points if point[key] is not None) or "none"

    return (
        f"batch {wording.span([point['batch_size'] for point in points])}, precision {values('precision')}, "
        f"execution {values('execution')}, attention of DeiT-Tiny {values('attention')}"
    )


def machine(scalability: dict) -> str:
    """Device and software of a sweep: `NVIDIA H200; torch 2.11.0+cu130, cuda 13.0, timm 1.0.29`."""
    versions = scalability["versions"]
    software = [f"{name} {versions[name]}" for name in ("torch", "cuda", "timm") if versions.get(name)]
    return f"{scalability['device']['name']}; {', '.join(software)}"


def largest_ratio(scalability: dict) -> str:
    """DeiT-Tiny / AFMP-Small, each at its best configuration, at the largest size that both have at one batch."""
    mode = modes_of(scalability)[0]
    best = [best_series(series_of(scalability), model, mode) for model in MODELS]
    if None in best:
        return "Only one of the models was measured."
    measured = [{(p["num_patches"], p["batch_size"]): p for p in series.measured} for series in best]
    shared = sorted(measured[0].keys() & measured[1].keys())
    if not shared:
        return "No size was measured for both models."
    ours, theirs = (found[shared[-1]] for found in measured)
    times, memory = ([value(point) for point in (ours, theirs)] for value in (time_per_image, peak_per_image))
    # Resident-set growth can be 0 where the process already held enough memory.
    saved = f"{memory[1] / memory[0]:.2f}" if memory[0] > 0 else "undefined"
    return (
        f"At {ours['num_patches']:,} patches ({ours['resolution']:,} px), the largest measured for both, "
        f"{best[0].name} ({best[0].setting}) takes {times[0][0]:.4g} ms and {memory[0]:,.1f} MB an image, "
        f"{best[1].name} ({best[1].setting}) {times[1][0]:.4g} ms and {memory[1]:,.1f} MB: "
        f"DeiT-Tiny / AFMP-Small = {times[1][0] / times[0][0]:.2f} in time and {saved} in memory ({PASSES[mode]})."
    )
