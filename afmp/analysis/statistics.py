"""Means and paired differences over random seeds, with 95 % Student t intervals.

One seed has no standard deviation and no interval. Both are then NaN and never 0.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from afmp.errors import AfmpError


class Interval(NamedTuple):
    """A mean over n seeds, its standard deviation (ddof 1) and 95 % Student t interval; NaN where n < 2."""

    mean: float | np.ndarray
    std: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray
    n: int

    @property
    def half(self) -> float | np.ndarray:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def alike(self) -> bool:
        """Whether all of two or more values are the same, so that an interval of their mean has no width."""
        return self.n > 1 and bool(self.std < 1e-9)  # the deviation of equal floats need not be 0 to the last bit


class PairedDifference(NamedTuple):
    """Mean of (value - reference) over the n seeds that both have, the interval, the paired t test's p."""

    mean: float
    std: float
    low: float
    high: float
    n: int
    p_value: float

    @property
    def excludes_zero(self) -> bool | None:
        """Whether the 95 % interval leaves out 0; None when there is no interval (fewer than two pairs)."""
        return None if np.isnan(self.low) else not self.low <= 0 <= self.high


def mean_and_interval(values, axis: int = 0) -> Interval:
    """Mean, standard deviation and 95 % Student t interval of `values` along `axis` (the seeds).

    Raises AfmpError if there is nothing to average.
    """
    values = np.asarray(values, dtype=np.float64)
    n = values.shape[axis]
    if n == 0:
        raise AfmpError("A mean over 0 seeds was asked for; at least one result is needed.")
    mean = values.mean(axis=axis)
    if n == 1:
        nothing = np.full_like(mean, np.nan)
        return Interval(mean, nothing, nothing, nothing, n)
    std = values.std(axis=axis, ddof=1)
    half = stats.t.ppf(0.975, n - 1) * std / np.sqrt(n)
    return Interval(mean, std, mean - half, mean + half, n)


def paired_difference(values: Mapping, reference: Mapping) -> PairedDifference:
    """Difference of two runs, {seed: value} each, over the seeds that both have."""
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return PairedDifference(*[float("nan")] * 4, 0, float("nan"))
    # Rounded far below what an accuracy can resolve, or equal differences would vary in their last bits.
    differences = [round(values[seed] - reference[seed], 9) for seed in seeds]
    mean, std, low, high, n = mean_and_interval(differences)
    # Differences that are alike in every seed divide by 0: no p-value, which NaN says, rather than certainty.
    p_value = 2 * stats.t.sf(np.abs(mean / (std / np.sqrt(n))), n - 1) if n > 1 and std > 0 else float("nan")
    return PairedDifference(float(mean), float(std), float(low), float(high), n, float(p_value))
