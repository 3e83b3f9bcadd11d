"""Fits of a pass over B images of N patches, c0 + B (c1 N + c2 N^2), with bootstrap intervals.

c0 is the fixed cost of a pass: kernel launches, the host, fixed buffers. Large images come in small batches. Without c0
the fixed cost per image would look like growth with N.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from afmp.analysis.series import Series, activations_per_image

DRAWS = 400
PERCENTILES = (2.5, 97.5)
NEGLIGIBLE = 1e-9  # a term below this part of every measured value is rounding
FEWEST_SIZES = 3  # as many as there are coefficients
COMPARED = 4000  # numbers of patches at which two fits are compared


class Estimate(NamedTuple):
    """A value and its 95 % bootstrap interval, NaN if it has none."""

    value: float
    low: float
    high: float


MISSING = Estimate(float("nan"), float("nan"), float("nan"))


class Fit(NamedTuple):
    """A fit: non-negative coefficients c0, c1, c2 of one pass, and those of every bootstrap sample.

    - sizes, batches, values: N, images per pass, and the measured quantity per image
    - coefficients: (3,); draws: (DRAWS, 3), or (0, 3) for quantities without repeats
    - slope: d log value / d log N between the two largest sizes; 1 for linear growth, 2 for quadratic
    """

    sizes: np.ndarray
    batches: np.ndarray
    values: np.ndarray
    coefficients: np.ndarray
    draws: np.ndarray
    slope: Estimate

    def at(self, sizes: np.ndarray) -> np.ndarray:
        """Return fitted values per image at `sizes` within the measured range, with interpolated batch sizes."""
        return self._terms(sizes) @ self.coefficients

    def draws_at(self, sizes: np.ndarray) -> np.ndarray:
        """Return the fitted values of every bootstrap sample, (DRAWS, sizes)."""
        return self.draws @ self._terms(sizes).T

    def band(self, sizes: np.ndarray) -> np.ndarray | None:
        """Return lower and upper ends of the 95 % band, (2, sizes), or None without repeats."""
        return np.percentile(self.draws_at(sizes), PERCENTILES, axis=0) if len(self.draws) else None

    def coefficient(self, power: int) -> Estimate:
        """Return c0, c1 or c2."""
        return _bounded(self.coefficients[power], self.draws[:, power])

    @property
    def quadratic_share(self) -> Estimate:
        """Share of c2 N^2 in the fitted value at the largest size."""
        largest = self.sizes[-1:]
        share = self.coefficients[2] * largest[0] ** 2 / self.at(largest)[0]
        return _bounded(share, self.draws[:, 2] * largest[0] ** 2 / self.draws_at(largest)[:, 0])

    @property
    def largest_miss(self) -> float:
        """Largest relative deviation of the fit from a measured value."""
        return float(np.max(np.abs(self.at(self.sizes) / self.values - 1)))

    def _terms(self, sizes: np.ndarray) -> np.ndarray:
        batches = np.exp(np.interp(np.log(sizes), np.log(self.sizes), np.log(self.batches)))
        return _terms(np.asarray(sizes, dtype=float), batches)


def fit_time(series: Series) -> Fit | None:
    """Return the fit of a series' times in ms, with bootstrap samples of its repeats, or None below 3 sizes."""
    if len(series.sizes) < FEWEST_SIZES:
        return None
    generator = np.random.default_rng(0)
    medians, resampled = [], []
    for point in series.measured:
        medians.append(point["time_ms"]["median"] / point["batch_size"])
        resampled.append(resampled_medians(point, generator))
    return _fit(series, np.array(medians), np.stack(resampled, axis=1))


def fit_activations(series: Series) -> Fit | None:
    """Return the fit of a series' activations in MB, without intervals, or None below 3 sizes or if one value is 0."""
    values = np.array([activations_per_image(point) for point in series.measured])
    if len(values) < FEWEST_SIZES or not (values > 0).all():
        return None
    return _fit(series, values, np.empty((0, len(values))))


def crossing(ours: Fit, theirs: Fit) -> Estimate:
    """Return the N above which `theirs` exceeds `ours`, within the N measured for both.

    It is 0 if `theirs` exceeds `ours` at every such N, and NaN if it does not at the largest one. It is also NaN if the
    answer is uncertain (`crossing_is_sure`).
    """
    value, draws = _crossings(ours, theirs)
    return _estimate(value, draws) if _agree(ours, theirs, value, draws) else MISSING


def crossing_is_sure(ours: Fit, theirs: Fit) -> bool:
    """Return whether the measured values and every bootstrap sample agree with the fits on the crossing.

    At every size the fits must have the same order as the measured values, and either all samples have a crossing or
    none has one.
    """
    return _agree(ours, theirs, *_crossings(ours, theirs))


def _crossings(ours: Fit, theirs: Fit) -> tuple[float, np.ndarray]:
    sizes = np.geomspace(max(ours.sizes[0], theirs.sizes[0]), min(ours.sizes[-1], theirs.sizes[-1]), COMPARED)
    count = min(len(ours.draws), len(theirs.draws))
    draws = theirs.draws_at(sizes)[:count] - ours.draws_at(sizes)[:count]
    value = _crossing(sizes, theirs.at(sizes) - ours.at(sizes))
    return value, np.array([_crossing(sizes, draw) for draw in draws])


def _agree(ours: Fit, theirs: Fit, value: float, draws: np.ndarray) -> bool:
    sizes, in_ours, in_theirs = np.intersect1d(ours.sizes, theirs.sizes, return_indices=True)
    fitted, measured = theirs.at(sizes) > ours.at(sizes), theirs.values[in_theirs] > ours.values[in_ours]
    return bool((fitted == measured).all() and (np.isnan(draws) == np.isnan(value)).all())


def _crossing(sizes: np.ndarray, difference: np.ndarray) -> float:
    """Return the first of `sizes` after which `difference` stays above 0: 0 if it always is, NaN if not at the last."""
    (below,) = np.nonzero(difference <= 0)
    if not len(below):
        return 0.0
    return float(sizes[below[-1] + 1]) if below[-1] + 1 < len(sizes) else float("nan")


def resampled_medians(point: dict, generator: np.random.Generator) -> np.ndarray:
    """Return the median time per image in ms of every bootstrap sample of a point's passes, (DRAWS,).

    Successive passes are correlated (clocks, the host), so the bootstrap draws blocks of passes.
    """
    times = np.array(point["time_ms"]["all"]) / point["batch_size"]
    return np.median(times[_blocks(generator, len(times))], axis=1)


def _blocks(generator: np.random.Generator, count: int) -> np.ndarray:
    """Return indices of passes, (DRAWS, count): blocks of about sqrt(count) successive passes, cyclic at the end."""
    length = max(1, round(count**0.5))
    starts = generator.integers(count, size=(DRAWS, -(-count // length), 1))
    return ((starts + np.arange(length)) % count).reshape(DRAWS, -1)[:, :count]


def _fit(series: Series, values: np.ndarray, resampled: np.ndarray) -> Fit:
    sizes = series.sizes
    batches = np.array([point["batch_size"] for point in series.measured])
    terms = _terms(sizes.astype(float), batches)
    slopes = [_slope(sizes, sample) for sample in resampled]
    draws = np.array([_coefficients(terms, sample) for sample in resampled]).reshape(-1, 3)
    slope = _estimate(_slope(sizes, values), slopes)
    return Fit(sizes, batches, values, _coefficients(terms, values), draws, slope)


def _coefficients(terms: np.ndarray, values: np.ndarray) -> np.ndarray:
    # Without relative weights the largest size alone would decide. Scaled columns keep nnls accurate.
    weighted = terms / values[:, None]
    scale = weighted.max(axis=0)
    solution = nnls(weighted / scale, np.ones_like(values))[0]
    return np.where(solution > NEGLIGIBLE, solution, 0) / scale


def _terms(sizes: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """Return the factors of c0, c1 and c2 per image, (sizes, 3)."""
    return np.stack([1 / batches, sizes, sizes**2], axis=1)


def _slope(sizes: np.ndarray, values: np.ndarray) -> float:
    return float(np.log(values[-1] / values[-2]) / np.log(sizes[-1] / sizes[-2]))


def _bounded(value: float, draws: np.ndarray) -> Estimate:
    """Return an estimate that the fit keeps from being negative: without interval if that is [0, 0]."""
    estimate = _estimate(value, draws)
    return estimate if estimate.high > 0 else MISSING._replace(value=estimate.value)  # [0, 0] would suggest certainty


def _estimate(value: float, draws) -> Estimate:
    draws = np.asarray(draws, dtype=float)
    if not len(draws) or not np.isfinite(draws).all():
        return Estimate(float(value), float("nan"), float("nan"))
    return Estimate(float(value), *map(float, np.percentile(draws, PERCENTILES)))
