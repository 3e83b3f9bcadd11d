"""Ratios DeiT-Tiny / AFMP-Small of a sweep's points."""

import math
from typing import NamedTuple

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
