"""Words that tables and figures of the sweep share: its settings, its device, and the ratio at the largest size."""

from afmp.analysis.models import MODELS
from afmp.analysis.series import best_series, modes_of, peak_per_image, series_of, time_per_image
from afmp.analysis.wording import distinct, span

PASSES = {"train": "forward + backward", "inference": "inference"}


def settings(sweep: dict) -> str:
    """Return the configurations of a sweep: `batch 64, precision fp32, ...`."""
    points = sweep["points"]

    def values(key: str) -> str:
        return distinct(str(point[key]) for point in points if point[key] is not None) or "none"

    return (
        f"batch {span([point['batch_size'] for point in points])}, precision {values('precision')}, "
        f"execution {values('execution')}, attention of DeiT-Tiny {values('attention')}"
    )


def device_and_software(sweep: dict) -> str:
    """Return the device and software of a sweep: `NVIDIA H200; torch 2.11.0+cu130, cuda 13.0, timm 1.0.29`."""
    versions = sweep["versions"]
    software = [f"{name} {versions[name]}" for name in ("torch", "cuda", "timm") if versions.get(name)]
    return f"{sweep['device']['name']}; {', '.join(software)}"


def largest_ratio(sweep: dict) -> str:
    """Return DeiT-Tiny / AFMP-Small in words, each model in its best configuration.

    The ratio is that of the largest size that both models were measured at with one batch size.
    """
    mode = modes_of(sweep)[0]
    best = [best_series(series_of(sweep), model, mode) for model in MODELS]
    if None in best:
        return "Only one of the models was measured."
    measured = [{(p["num_patches"], p["batch_size"]): p for p in series.measured} for series in best]
    shared = sorted(measured[0].keys() & measured[1].keys())
    if not shared:
        return "No size was measured for both models."
    afmp, deit = (points[shared[-1]] for points in measured)
    times = [time_per_image(point)[0] for point in (afmp, deit)]
    memory = [peak_per_image(point) for point in (afmp, deit)]
    # The resident set need not grow if the process already had enough memory.
    memory_ratio = f"{memory[1] / memory[0]:.2f}" if memory[0] > 0 else "undefined"
    return (
        f"The largest size measured for both models is {afmp['num_patches']:,} patches ({afmp['resolution']:,} px). "
        f"There {best[0].name} ({best[0].setting}) needs {times[0]:.4g} ms and {memory[0]:,.1f} MB per image, "
        f"{best[1].name} ({best[1].setting}) {times[1]:.4g} ms and {memory[1]:,.1f} MB. "
        f"DeiT-Tiny / AFMP-Small = {times[1] / times[0]:.2f} in time and {memory_ratio} in memory ({PASSES[mode]})."
    )
