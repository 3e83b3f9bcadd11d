"""Parts of the figures of the sweep: their main lines with their looks, and the axis of patches."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from afmp.analysis import wording
from afmp.analysis.models import MODELS
from afmp.analysis.series import Series, best_series, series_of
from afmp.figures.parts import palette

# The looks of the models that are measured once. AFMP-Small has one for each semantics.
LOOKS = {
    "deit_tiny": {"color": palette.GREEN, "marker": "^", "linestyle": "-."},
    "afmp_refined_small": palette.SEMANTICS_STYLE["refined"],
}


class Line(NamedTuple):
    """A main line of a panel: a series and its label."""

    label: str
    series: Series

    @property
    def look(self) -> dict:
        """Colour, marker and line style."""
        return look_of(self.series)


def look_of(series: Series) -> dict:
    """Return the look of a model, the same in every figure."""
    return LOOKS.get(series.model) or palette.SEMANTICS_STYLE[series.semantics]


def main_lines(sweep: dict, other_sweeps: Sequence[dict], mode: str) -> list[Line]:
    """Return the best series of each model of a sweep, and of AFMP-Small in the sweeps of other semantics."""
    best = [best_series(series_of(sweep), model, mode) for model in MODELS]
    best += [best_series(series_of(other), "afmp_small", mode) for other in other_sweeps]
    return [
        Line(f"{series.name}: {series.setting}{' (by hand)' * series.made_by_hand}", series)
        for series in best
        if series
    ]


def draw_patch_axis(axis, points, sizes, *, logarithmic: bool) -> None:
    """Set ticks at the measured sizes, labelled with the image side and, if it varies, with the batch size."""
    pixels = {point["num_patches"]: point["resolution"] for point in points}
    batch = {n: "" for n in pixels}
    if len({point["batch_size"] for point in points}) > 1:
        for n in pixels:
            batch[n] = f"\nB {wording.span([p['batch_size'] for p in points if p['num_patches'] == n])}"
    at = np.log(sizes) if logarithmic else sizes.astype(float)
    margin = 0.06 * (at[-1] - at[0]) or 0.5 * (at[0] or 1.0)
    ends = np.array([at[0] - margin, at[-1] + margin])
    axis.set_xlim(*(np.exp(ends) if logarithmic else ends))
    # Labels that would touch are left out, starting from the largest size. Every size keeps its tick.
    labelled: list[int] = []
    for index in reversed(range(len(sizes))):
        if not labelled or (at[labelled[-1]] - at[index]) / (ends[1] - ends[0]) > 0.085:
            labelled.append(index)
    labels = [f"{n:,}\n{pixels[n]:,} px{batch[n]}" if i in labelled else "" for i, n in enumerate(sizes)]
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(sizes, labels)
    axis.set_xlabel(f"Number of patches N (below: image side{', batch B' if any(batch.values()) else ''})")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
