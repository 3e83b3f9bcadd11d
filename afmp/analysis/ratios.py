"""Ratios DeiT-Tiny / AFMP-Small of a sweep's points."""

import math
from typing import NamedTuple

from afmp.analysis.models import MODELS
from afmp.analysis.series import best_series, peak_per_image, series_of, time_per_image
from afmp.analysis.wording import PASSES

# What two points must share to be compared.
SETTING = ("resolution", "num_patches", "batch_size", "precision", "mode", "execution")


class Ratio(NamedTuple):
    """DeiT-Tiny over AFMP-Small at one setting: above 1, AFMP-Small is ahead; nan where its memory read 0."""

    setting: dict
    attention: str
    time: float
    peak_memory: float
    activations: float


def ratios(points: list[dict]) -> list[Ratio]:
    """The ratios of all pairs of measured points that share resolution, batch, precision, mode and execution."""
    measured = [point for point in points if point["status"] == "ok"]
    ours = {_setting(point): point for point in measured if point["model"] == "afmp_small"}
    found = []
    for theirs in measured:
        if theirs["model"] == "deit_tiny" and (afmp := ours.get(_setting(theirs))):
            memory = (
                # A resident set need not grow at all for a small model.
                theirs["memory"][key] / (afmp["memory"][key] or math.nan)
                for key in ("peak_mb", "activations_mb")
            )
            setting = dict(zip(SETTING, _setting(theirs), strict=True))
            time = theirs["time_ms"]["median"] / afmp["time_ms"]["median"]
            found.append(Ratio(setting, theirs["attention"], time, *memory))
    return found


def _setting(point: dict) -> tuple:
    return tuple(point[key] for key in SETTING)


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


def modes_of(scalability: dict) -> list[str]:
    """The modes of a sweep in the order measured; each is a row of panels."""
    return list(dict.fromkeys(point["mode"] for point in scalability["points"]))
