"""Small sweeps on the CPU, for the tests of this folder."""

import copy
from functools import cache

from afmp.benchmark.candidates import MODEL_BUILDERS
from afmp.benchmark.settings import SweepSettings
from afmp.benchmark.sweep import run_sweep


def small_settings(**changes) -> SweepSettings:
    """Two sizes, two images per pass, two timed passes, unless `changes` say otherwise."""
    settings = {"resolutions": (32, 48), "num_classes": 10, "device": "cpu", "warmup": 1, "repeats": 2} | changes
    settings.setdefault("batch_size", (2,) * len(settings["resolutions"]))
    return SweepSettings(**settings)


def small_sweep(*, part_of=(), measured=None, progress=lambda line: None, **changes) -> dict:
    """Return the only sweep of `small_settings`."""
    sweeps = run_sweep(small_settings(**changes), part_of=part_of, measured=measured, progress=progress)
    (sweep,) = sweeps.values()
    return sweep


def measured_sweep() -> dict:
    """Return a sweep of the real models. It is measured once; each call returns a copy."""
    return copy.deepcopy(_measured_sweep())


@cache
def _measured_sweep() -> dict:
    return small_sweep(repeats=3)


def replace_models(monkeypatch, **functions: str) -> None:
    """Replace models of the sweep by builders of faulty_models.py."""
    for model, function in functions.items():
        monkeypatch.setitem(MODEL_BUILDERS, model, f"faulty_models:{function}")
