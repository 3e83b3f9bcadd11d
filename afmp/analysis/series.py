"""The points of a sweep as series: one model in one configuration over the number of patches, and the best of them."""

from typing import NamedTuple

import numpy as np

from afmp.analysis.models import MODEL_NAMES

# What tells series of one model and mode apart, and how each value reads.
SETTINGS = {"precision": "{}", "attention": "{} attention", "execution": "{}"}


class Series(NamedTuple):
    """Points of one model, mode and configuration of one sweep, by number of patches."""

    model: str
    mode: str
    precision: str
    attention: str | None
    execution: str
    semantics: str
    points: list[dict]

    @property
    def name(self) -> str:
        """`AFMP-Small (paper semantics)`, or `DeiT-Tiny`, which has no semantics."""
        name = MODEL_NAMES.get(self.model, self.model)
        return f"{name} ({self.semantics} semantics)" if self.model.startswith("afmp") else name

    @property
    def setting(self) -> str:
        """`bf16, fused attention, compiled_graph`."""
        values = [(template, getattr(self, key)) for key, template in SETTINGS.items()]
        return ", ".join(template.format(value) for template, value in values if value is not None)

    @property
    def measured(self) -> list[dict]:
        """The points with numbers."""
        return [point for point in self.points if point["status"] == "ok"]

    @property
    def sizes(self) -> np.ndarray:
        """Numbers of patches N that have numbers."""
        return np.array([point["num_patches"] for point in self.measured])


def series_of(scalability: dict) -> list[Series]:
    """Every series of a sweep, in the order of the file."""
    groups: dict[tuple, list[dict]] = {}
    for point in scalability["points"]:
        key = tuple(point[name] for name in ("model", "mode", "precision", "attention", "execution"))
        groups.setdefault(key, []).append(point)
    return [
        Series(*key, scalability["semantics"], sorted(points, key=lambda point: point["num_patches"]))
        for key, points in groups.items()
    ]


def modes_of(scalability: dict) -> list[str]:
    """The modes of a sweep in the order measured; each is a row of panels."""
    return list(dict.fromkeys(point["mode"] for point in scalability["points"]))


def best_series(series: list[Series], model: str, mode: str) -> Series | None:
    """The configuration of a model with the most sizes; of those the fastest, by the geometric mean of its times."""
    ours = [one for one in series if (one.model, one.mode) == (model, mode)]

    def rank(one: Series) -> tuple[int, float]:
        times = [time_per_image(point)[0] for point in one.measured]
        return -len(times), float(np.mean(np.log(times))) if times else 0.0

    return min(ours, key=rank, default=None)


def time_per_image(point: dict) -> tuple[float, float, float]:
    """Median and quartiles of a pass in milliseconds, over its images: batches of different sizes then compare."""
    return tuple(point["time_ms"][key] / point["batch_size"] for key in ("median", "q25", "q75"))


def peak_per_image(point: dict) -> float:
    """Peak memory of a pass, MB, over its images; weights and gradients are in it."""
    return point["memory"]["peak_mb"] / point["batch_size"]


def activations_per_image(point: dict) -> float:
    """Activations and workspaces of a pass, MB, over its images."""
    return point["memory"]["activations_mb"] / point["batch_size"]
