"""Curves of a run over epochs: the mean over random seeds, with its interval as a band."""

import numpy as np

from afmp.analysis import wording
from afmp.analysis.statistics import mean_and_interval
from afmp.figures.parts import style


def draw_curve(axis, values: np.ndarray, *, label: str, look: dict, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the mean of `values`, (seeds, epochs), with a band, or with one thin line per seed for two seeds.

    `look` has colour, line and marker; `index` spreads the markers of different runs. Returns the lower and the upper
    end of the band, NaN without a band.
    """
    interval = mean_and_interval(values)
    epochs = np.arange(1, values.shape[1] + 1)
    markevery = style.mark_every(values.shape[1], index)
    axis.plot(epochs, interval.mean, label=label, markevery=markevery, zorder=3, **look)
    if interval.n == 2:
        thin = look | {"linewidth": 0.8, "alpha": 0.6, "marker": "." if values.shape[1] == 1 else None}
        for seed in values:
            axis.plot(epochs, seed, gid=f"seed: {label}", **thin)
    if interval.n >= wording.FEWEST_SEEDS:
        band = (epochs, interval.low, interval.high)
        axis.fill_between(*band, color=look["color"], alpha=0.16, linewidth=0, gid=f"band: {label}")
        if values.shape[1] == 1:
            # A band over one epoch has no width.
            axis.errorbar(epochs, interval.mean, yerr=interval.half, color=look["color"], capsize=4, linewidth=1.2)
        return interval.low, interval.high
    return np.full(len(epochs), np.nan), np.full(len(epochs), np.nan)
