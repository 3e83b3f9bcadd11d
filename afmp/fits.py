"""How time and memory grow with the number of patches N: c0 + c1 N + c2 N^2, with bootstrap intervals."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from afmp.series import Series, activations_per_image

DRAWS = 400
PERCENTILES = (2.5, 97.5)
NEGLIGIBLE = 1e-9  # of a measured value: a term that is nowhere larger is rounding
FEWEST_SIZES = 3  # as many as there are coefficients


class Estimate(NamedTuple):
    """A value and its 95 % bootstrap interval, NaN where there is none."""

    value: float
    low: float
    high: float


class Fit(NamedTuple):
    """Coefficients of 1, N and N^2, none of them negative, and the same of every bootstrap sample.

    - sizes, values: N and what was measured there, per image
    - coefficients (3,), draws (DRAWS, 3); quantities without repeats have no draws, (0, 3)
    - slope: d log value / d log N between the two largest sizes, 1 for linear growth, 2 for quadratic
    """

    sizes: np.ndarray
    values: np.ndarray
    coefficients: np.ndarray
    draws: np.ndarray
    slope: Estimate

    def at(self, sizes: np.ndarray) -> np.ndarray:
        """The fitted values at `sizes`."""
        return _powers(sizes) @ self.coefficients

    def band(self, sizes: np.ndarray) -> np.ndarray | None:
        """Lower and upper ends (2, sizes) of the 95 % band at `sizes`, or None without repeats."""
        if not len(self.draws):
            return None
        return np.percentile(_powers(sizes) @ self.draws.T, PERCENTILES, axis=1)

    def coefficient(self, power: int) -> Estimate:
        """The coefficient of N^power."""
        return _estimate(self.coefficients[power], self.draws[:, power])


def fit_time(series: Series) -> Fit | None:
    """Milliseconds an image of a series; every repeat of a size is drawn again with replacement. None below 3 sizes."""
    if len(series.sizes) < FEWEST_SIZES:
        return None
    generator = np.random.default_rng(0)
    medians, resampled = [], []
    for point in series.measured:
        every = np.array(point["time_ms"]["all"]) / point["batch_size"]
        medians.append(point["time_ms"]["median"] / point["batch_size"])
        resampled.append(np.median(generator.choice(every, (DRAWS, len(every))), axis=1))
    return _fit(series.sizes, np.array(medians), np.stack(resampled, axis=1))


def fit_activations(series: Series) -> Fit | None:
    """MB of activations an image, read once a size, so without intervals. None below 3 sizes, or if one is 0."""
    values = np.array([activations_per_image(point) for point in series.measured])
    if len(values) < FEWEST_SIZES or not (values > 0).all():
        return None
    return _fit(series.sizes, values, np.empty((0, len(values))))


def crossing(ours: Fit, theirs: Fit) -> Estimate:
    """The N from which on `theirs` lies above `ours`; 0 if at every N, NaN if never."""
    return _estimate(_crossing(theirs.coefficients - ours.coefficients), _crossing_draws(ours, theirs))


def crossing_is_sure(ours: Fit, theirs: Fit) -> bool:
    """Whether every bootstrap sample agrees with the fits that `theirs` does, or does not, end up above `ours`."""
    never = np.isnan(_crossing(theirs.coefficients - ours.coefficients))
    return all(np.isnan(draw) == never for draw in _crossing_draws(ours, theirs))


def _crossing_draws(ours: Fit, theirs: Fit) -> list[float]:
    count = min(len(ours.draws), len(theirs.draws))
    return [_crossing(difference) for difference in theirs.draws[:count] - ours.draws[:count]]


def _fit(sizes: np.ndarray, values: np.ndarray, resampled: np.ndarray) -> Fit:
    slopes = [_slope(sizes, sample) for sample in resampled]
    draws = np.array([_coefficients(sizes, sample) for sample in resampled]).reshape(-1, 3)
    return Fit(sizes, values, _coefficients(sizes, values), draws, _estimate(_slope(sizes, values), slopes))


def _coefficients(sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    # Relative weights: without them the largest size alone would decide. Columns of like size keep nnls accurate.
    weighted = _powers(sizes) / values[:, None]
    scale = weighted.max(axis=0)
    found = nnls(weighted / scale, np.ones_like(values))[0]
    return np.where(found > NEGLIGIBLE, found, 0) / scale


def _powers(sizes: np.ndarray) -> np.ndarray:
    sizes = np.asarray(sizes, dtype=float)
    return np.stack([np.ones_like(sizes), sizes, sizes**2], axis=1)


def _slope(sizes: np.ndarray, values: np.ndarray) -> float:
    return float(np.log(values[-1] / values[-2]) / np.log(sizes[-1] / sizes[-2]))


def _crossing(difference: np.ndarray) -> float:
    """The last N at which difference (3,) turns positive, 0 if it is from one patch on, NaN if it ends up negative."""
    c0, c1, c2 = difference
    roots = np.roots([c2, c1, c0]) if difference.any() else np.array([])
    real = np.sort(roots[np.isreal(roots)].real)
    last = real[-1] if (real > 1).any() else 0.0
    beyond = 2 * last + 1
    return float(last) if c0 + c1 * beyond + c2 * beyond**2 > 0 else float("nan")


def _estimate(value: float, draws) -> Estimate:
    draws = np.asarray(draws, dtype=float)
    if not len(draws) or not np.isfinite(draws).all():
        return Estimate(float(value), float("nan"), float("nan"))
    return Estimate(float(value), *map(float, np.percentile(draws, PERCENTILES)))
