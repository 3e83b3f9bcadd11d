"""Ratios DeiT-Tiny / AFMP of a sweep's points, for each AFMP that was measured."""

import math
from typing import NamedTuple

from afmp.analysis.models import AFMP_MODELS

# Two points are compared if they agree in these keys.
SETTING = ("resolution", "num_patches", "batch_size", "precision", "mode", "execution")


class Ratio(NamedTuple):
    """DeiT-Tiny / `model`, an AFMP, at one setting: above 1, AFMP needs less. NaN if its memory was measured as 0."""

    model: str
    setting: dict
    attention: str
    time: float
    peak_memory: float
    activations: float


def ratios(points: list[dict]) -> list[Ratio]:
    """Return the ratios of all pairs of measured points that have the same setting, one AFMP after the other."""
    measured = [point for point in points if point["status"] == "ok"]
    pairs = []
    for model in AFMP_MODELS:
        afmp_points = {_setting(point): point for point in measured if point["model"] == model}
        for deit in measured:
            if deit["model"] == "deit_tiny" and (afmp := afmp_points.get(_setting(deit))):
                memory = (
                    # The resident set need not grow at all for a small model.
                    deit["memory"][key] / (afmp["memory"][key] or math.nan)
                    for key in ("peak_mb", "activations_mb")
                )
                setting = dict(zip(SETTING, _setting(deit), strict=True))
                time = deit["time_ms"]["median"] / afmp["time_ms"]["median"]
                pairs.append(Ratio(model, setting, deit["attention"], time, *memory))
    return pairs


def _setting(point: dict) -> tuple:
    return tuple(point[key] for key in SETTING)
