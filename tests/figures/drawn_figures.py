"""Functions that read what a figure shows, and the sweeps that several tests draw."""

import importlib

import numpy as np
from matplotlib.text import Text
from synthetic_results import synthetic_point, synthetic_scalability

MODELS = ("afmp_small", "deit_tiny")  # of a sweep of the paper, as of the first archive
SIX_SIZES = range(64, 225, 32)  # of the original notebook, px
TIME, PEAK = "Time per image, forward + backward", "Peak memory per image, forward + backward"
AFMP_LINE, DEIT_LINE = "AFMP-Small (paper semantics): fp32, eager", "DeiT-Tiny: fp32, fused attention, eager"
REFINED_LINE = "AFMP-refined-Small: fp32, eager"


def all_text(figure) -> str:
    """Return all text of a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def panel(figure, title: str):
    """Return the axis with this title."""
    return next(axis for axis in figure.axes if axis.get_title() == title)


def curve(axis, label: str):
    """Return the line with this label."""
    return next(line for line in axis.lines if line.get_label() == label)


def by_gid(axis, gid: str):
    """Return the artist with this gid."""
    return next(artist for artist in axis.findobj() if artist.get_gid() == gid)


def history(results: list[dict], run: str, key: str) -> np.ndarray:
    """Return one list of the training history of every seed of a run, (seeds, epochs)."""
    return np.array([r["training_history"][key] for r in results if r["run"] == run])


def study_figure(study: dict):
    """Return the figure module of one of STUDIES."""
    return importlib.import_module(f"afmp.figures.{study['figure']}")


def small_sweep(*, models=MODELS, **failed) -> dict:
    """Return a sweep of six sizes; `failed` maps a model to {resolution: status}."""
    points = [
        synthetic_point(model, size, status=failed.get(model, {}).get(size, "ok"))
        for size in SIX_SIZES
        for model in models
    ]
    return synthetic_scalability(points)


def wide_sweep(*, models=MODELS, **options) -> dict:
    """Return a sweep from 64 to 3,584 px, with the batch sizes of the workflow."""
    sizes = {64: 64, 224: 64, 448: 16, 896: 4, 1792: 1, 3584: 1}
    points = [synthetic_point(model, size, batch_size=b, **options) for size, b in sizes.items() for model in models]
    return synthetic_scalability(points)
