"""Means and paired differences over random seeds, with 95 % Student t intervals.

One seed has no standard deviation, and fewer than FEWEST_SEEDS have no interval. Both are then NaN and never 0.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from afmp.errors import AfmpError

# The fewest random seeds that have an interval. Over two, Student's t is 12.7 standard errors to either side, which
# says less than the two values do.
FEWEST_SEEDS = 3


class Interval(NamedTuple):
    """A mean over n seeds, its standard deviation (ddof 1) and its 95 % Student t interval.

    The deviation is NaN for n = 1, and the interval for n < FEWEST_SEEDS.
    """

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
    def all_equal(self) -> bool:
        """True if there are two or more values and all are equal, so that the interval has no width."""
        return self.n > 1 and bool(self.std < 1e-9)  # rounding can give equal floats a deviation above 0


class PairedDifference(NamedTuple):
    """Mean of value - reference over the n seeds that both have, its interval, and p of the paired t test.

    The interval and p are NaN for n < FEWEST_SEEDS.
    """

    mean: float
    std: float
    low: float
    high: float
    n: int
    p_value: float

    @property
    def excludes_zero(self) -> bool | None:
        """True if the 95 % interval excludes 0; None without an interval."""
        return None if np.isnan(self.low) else not self.low <= 0 <= self.high


def mean_and_interval(values, axis: int = 0) -> Interval:
    """Return mean, standard deviation and 95 % Student t interval of `values` along `axis`, the axis of seeds.

    Raises AfmpError for zero seeds.
    """
    values = np.asarray(values, dtype=np.float64)
    n = values.shape[axis]
    if n == 0:
        raise AfmpError("A mean over 0 seeds does not exist; give at least one result.")
    mean = values.mean(axis=axis)
    missing = np.full_like(mean, np.nan)
    if n == 1:
        return Interval(mean, missing, missing, missing, n)
    from scipy import stats  # only here: it loads slowly, and a picture of gates needs only the classes above

    std = values.std(axis=axis, ddof=1)
    if n < FEWEST_SEEDS:
        return Interval(mean, std, missing, missing, n)
    half = stats.t.ppf(0.975, n - 1) * std / np.sqrt(n)
    return Interval(mean, std, mean - half, mean + half, n)


def two_values(mean: float, std: float) -> tuple[float, float]:
    """Return the two values that have this mean and this standard deviation (ddof 1), the lower one first."""
    half = std / np.sqrt(2)
    return mean - half, mean + half


def paired_difference(values: Mapping, reference: Mapping) -> PairedDifference:
    """Return the difference of two runs, each {seed: value}, over the seeds that both have."""
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return PairedDifference(*[float("nan")] * 4, 0, float("nan"))
    # Rounded far below the resolution of an accuracy, because equal differences vary in their last bits.
    differences = [round(values[seed] - reference[seed], 9) for seed in seeds]
    from scipy import stats

    mean, std, low, high, n = mean_and_interval(differences)
    # Equal differences have a deviation of 0. The test then has no p-value, which does not mean certainty.
    tested = n >= FEWEST_SEEDS and std > 0
    p_value = stats.ttest_1samp(differences, 0).pvalue if tested else float("nan")
    return PairedDifference(float(mean), float(std), float(low), float(high), n, float(p_value))
