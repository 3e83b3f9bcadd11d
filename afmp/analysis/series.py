"""Series of a sweep: the points of one model in one configuration, by number of patches, and the best series."""

from typing import NamedTuple

import numpy as np

from afmp.analysis.models import MODEL_NAMES, MODELS, MODELS_WITH_SEMANTICS

# The executions whose CUDA graph is made by hand. The others need no change of your code, or one call of torch.compile.
MADE_BY_HAND = ("graph", "compiled_graph")
# The keys that distinguish the series of one model and mode, and how to write each value.
SETTINGS = {"precision": "{}", "attention": "{} attention", "execution": "{}"}


class Series(NamedTuple):
    """Points of one model, mode and configuration of one sweep, sorted by number of patches."""

    model: str
    mode: str
    precision: str
    attention: str | None
    execution: str
    semantics: str
    points: list[dict]

    @property
    def name(self) -> str:
        """`AFMP-Small (paper semantics)`, or only the name of a model that is measured once, as `DeiT-Tiny`."""
        name = MODEL_NAMES.get(self.model, self.model)
        return f"{name} ({self.semantics} semantics)" if self.model in MODELS_WITH_SEMANTICS else name

    @property
    def setting(self) -> str:
        """The configuration in words: `bf16, fused attention, compiled_graph`."""
        values = [(template, getattr(self, key)) for key, template in SETTINGS.items()]
        return ", ".join(template.format(value) for template, value in values if value is not None)

    @property
    def made_by_hand(self) -> bool:
        """Whether a user must make a CUDA graph to get these times."""
        return self.execution in MADE_BY_HAND

    @property
    def measured(self) -> list[dict]:
        """The points that could be measured."""
        return [point for point in self.points if point["status"] == "ok"]

    @property
    def sizes(self) -> np.ndarray:
        """Numbers of patches N of the measured points."""
        return np.array([point["num_patches"] for point in self.measured])


def series_of(sweep: dict) -> list[Series]:
    """Return every series of a sweep, in the order of its points."""
    groups: dict[tuple, list[dict]] = {}
    for point in sweep["points"]:
        key = tuple(point[name] for name in ("model", "mode", "precision", "attention", "execution"))
        groups.setdefault(key, []).append(point)
    return [
        Series(*key, sweep["semantics"], sorted(points, key=lambda point: point["num_patches"]))
        for key, points in groups.items()
    ]


def models_of(sweep: dict) -> list[str]:
    """Return the models that a sweep has points of, in the order of MODELS: an older one has no AFMP-refined-Small."""
    found = {point["model"] for point in sweep["points"]}
    return [model for model in MODELS if model in found]


def modes_of(sweep: dict) -> list[str]:
    """Return the modes of a sweep in the order of its points. Each mode is a row of panels."""
    return list(dict.fromkeys(point["mode"] for point in sweep["points"]))


def best_series(series: list[Series], model: str, mode: str) -> Series | None:
    """Return the series of a model with the most sizes; among those the fastest by the geometric mean of times."""
    candidates = [one for one in series if (one.model, one.mode) == (model, mode)]

    def rank(one: Series) -> tuple[int, float]:
        times = [time_per_image(point)[0] for point in one.measured]
        return -len(times), float(np.mean(np.log(times))) if times else 0.0

    return min(candidates, key=rank, default=None)


def time_per_image(point: dict) -> tuple[float, float, float]:
    """Return median, lower and upper quartile of a pass in milliseconds per image."""
    return tuple(point["time_ms"][key] / point["batch_size"] for key in ("median", "q25", "q75"))


def peak_per_image(point: dict) -> float:
    """Return peak memory of a pass in MB per image, with weights and gradients."""
    return point["memory"]["peak_mb"] / point["batch_size"]


def activations_per_image(point: dict) -> float:
    """Return activations and workspaces of a pass in MB per image."""
    return point["memory"]["activations_mb"] / point["batch_size"]
