"""Words that tables and figures of the sweep share: its models, settings and device, and ratios at the largest size."""

from afmp.analysis.models import AFMP_MODELS, MODEL_NAMES
from afmp.analysis.series import (
    MADE_BY_HAND,
    best_series,
    models_of,
    modes_of,
    peak_per_image,
    series_of,
    time_per_image,
)
from afmp.analysis.wording import distinct, span

PASSES = {"train": "forward + backward", "inference": "inference"}


def names(sweep: dict) -> str:
    """Return the models of a sweep: `AFMP-Small, DeiT-Tiny and AFMP-refined-Small`."""
    *others, last = [MODEL_NAMES[model] for model in models_of(sweep)] or [""]
    return f"{', '.join(others)} and {last}" if others else last


def settings(sweep: dict) -> str:
    """Return the configurations of a sweep: `batch 64, precision fp32, ...`."""
    points = sweep["points"]

    def values(key: str) -> str:
        return distinct(str(point[key]) for point in points if point[key] is not None) or "none"

    return (
        f"batch {span([point['batch_size'] for point in points])}, precision {values('precision')}, "
        f"execution {values('execution')}, attention of DeiT-Tiny {values('attention')}"
    )


def work_of_executions(sweep: dict) -> str:
    """Return which executions of a sweep need no change of your code, and which need a CUDA graph made by hand."""
    found = list(dict.fromkeys(point["execution"] for point in sweep["points"]))
    need = {
        "no change of your code, or one call of torch.compile": [one for one in found if one not in MADE_BY_HAND],
        "a CUDA graph made by hand": [one for one in found if one in MADE_BY_HAND],
    }
    return " ".join(f"Executions that need {what}: {distinct(those)}." for what, those in need.items() if those)


def device_and_software(sweep: dict) -> str:
    """Return the device and software of a sweep: `NVIDIA H200; torch 2.11.0+cu130, cuda 13.0, timm 1.0.29`."""
    versions = sweep["versions"]
    software = [f"{name} {versions[name]}" for name in ("torch", "cuda", "timm") if versions.get(name)]
    return f"{sweep['device']['name']}; {', '.join(software)}"


def largest_ratios(sweep: dict) -> str:
    """Return DeiT-Tiny / AFMP in words for each AFMP of a sweep, each model in its best configuration.

    A ratio is that of the largest size that both models were measured at with one batch size.
    """
    models = models_of(sweep)
    compared = [model for model in models if model in AFMP_MODELS] if "deit_tiny" in models else []
    if not compared:
        return "There is no ratio, because DeiT-Tiny and AFMP were not both measured."
    return " ".join(_largest_ratio(sweep, model) for model in compared)


def _largest_ratio(sweep: dict, model: str) -> str:
    mode, name = modes_of(sweep)[0], MODEL_NAMES[model]
    best = [best_series(series_of(sweep), one, mode) for one in (model, "deit_tiny")]
    measured = [
        {(p["num_patches"], p["batch_size"]): p for p in (series.measured if series else [])} for series in best
    ]
    shared = sorted(measured[0].keys() & measured[1].keys())
    if not shared:
        return f"No size was measured for both {name} and DeiT-Tiny."
    afmp, deit = (points[shared[-1]] for points in measured)
    times = [time_per_image(point)[0] for point in (afmp, deit)]
    memory = [peak_per_image(point) for point in (afmp, deit)]
    # The resident set need not grow if the process already had enough memory.
    memory_ratio = f"{memory[1] / memory[0]:.2f}" if memory[0] > 0 else "undefined"
    return (
        f"The largest size measured for both {name} and DeiT-Tiny is {afmp['num_patches']:,} patches "
        f"({afmp['resolution']:,} px). There {best[0].name} ({best[0].setting}) needs {times[0]:.4g} ms and "
        f"{memory[0]:,.1f} MB per image, {best[1].name} ({best[1].setting}) {times[1]:.4g} ms and {memory[1]:,.1f} MB. "
        f"DeiT-Tiny / {name} = {times[1] / times[0]:.2f} in time and {memory_ratio} in memory ({PASSES[mode]})."
    )
