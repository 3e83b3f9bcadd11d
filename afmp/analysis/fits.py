"""How a pass grows with the number of patches N of its B images: c0 + B (c1 N + c2 N^2), with bootstrap intervals.

c0 is what a pass costs whatever is in it (launches, the host, fixed buffers). As large images come in small batches, it
would otherwise be taken for growth with N.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from afmp.analysis.series import Series, activations_per_image

DRAWS = 400
PERCENTILES = (2.5, 97.5)
NEGLIGIBLE = 1e-9  # of a measured value: a term that is nowhere larger is rounding
FEWEST_SIZES = 3  # as many as there are coefficients
SEARCHED = 4000  # numbers of patches at which two fits are compared


class Estimate(NamedTuple):
    """A value and its 95 % bootstrap interval, NaN where there is none."""

    value: float
    low: float
    high: float


NONE = Estimate(float("nan"), float("nan"), float("nan"))


class Fit(NamedTuple):
    """Coefficients c0, c1, c2 of the quantity of a pass, none of them negative, and the same of every bootstrap sample.

    - sizes, batches, values: N, images a pass, and what was measured there, per image
    - coefficients (3,), draws (DRAWS, 3); quantities without repeats have no draws, (0, 3)
    - slope: d log value / d log N between the two largest sizes, 1 for linear growth, 2 for quadratic
    """

    sizes: np.ndarray
    batches: np.ndarray
    values: np.ndarray
    coefficients: np.ndarray
    draws: np.ndarray
    slope: Estimate

    def at(self, sizes: np.ndarray) -> np.ndarray:
        """The fitted values per image at `sizes` inside the range measured, in batches between those measured."""
        return self._terms(sizes) @ self.coefficients

    def draws_at(self, sizes: np.ndarray) -> np.ndarray:
        """The same (DRAWS, sizes) of every bootstrap sample."""
        return self.draws @ self._terms(sizes).T

    def band(self, sizes: np.ndarray) -> np.ndarray | None:
        """Lower and upper ends (2, sizes) of the 95 % band at `sizes`, or None without repeats."""
        return np.percentile(self.draws_at(sizes), PERCENTILES, axis=0) if len(self.draws) else None

    def coefficient(self, power: int) -> Estimate:
        """c0, c1 or c2. One that the data would have negative is 0, and has no interval: [0, 0] would sound certain."""
        value = float(self.coefficients[power])
        return _estimate(value, self.draws[:, power]) if value else NONE._replace(value=value)

    @property
    def quadratic_share(self) -> float:
        """What part of the largest size's fitted value is c2 N^2."""
        largest = self.sizes[-1:]
        return float(self.coefficients[2] * largest[0] ** 2 / self.at(largest)[0])

    @property
    def largest_miss(self) -> float:
        """The largest distance of the fit from a measured value, as a part of that value."""
        return float(np.max(np.abs(self.at(self.sizes) / self.values - 1)))

    def _terms(self, sizes: np.ndarray) -> np.ndarray:
        batches = np.exp(np.interp(np.log(sizes), np.log(self.sizes), np.log(self.batches)))
        return _terms(np.asarray(sizes, dtype=float), batches)


def fit_time(series: Series) -> Fit | None:
    """Milliseconds of a series' passes; its repeats are drawn again with replacement. None below 3 sizes.

    Passes that follow one another are alike (clocks, the host), so blocks of them are drawn and not single ones.
    """
    if len(series.sizes) < FEWEST_SIZES:
        return None
    generator = np.random.default_rng(0)
    medians, resampled = [], []
    for point in series.measured:
        every = np.array(point["time_ms"]["all"]) / point["batch_size"]
        medians.append(point["time_ms"]["median"] / point["batch_size"])
        resampled.append(np.median(every[_blocks(generator, len(every))], axis=1))
    return _fit(series, np.array(medians), np.stack(resampled, axis=1))


def fit_activations(series: Series) -> Fit | None:
    """MB of activations of a series' passes, read once a size: no intervals. None below 3 sizes, or if one is 0."""
    values = np.array([activations_per_image(point) for point in series.measured])
    if len(values) < FEWEST_SIZES or not (values > 0).all():
        return None
    return _fit(series, values, np.empty((0, len(values))))


def crossing(ours: Fit, theirs: Fit) -> Estimate:
    """The N from which on `theirs` lies above `ours`, up to the largest N of both; 0 if at every N, NaN if not there.

    Nothing is said of an N beyond those measured, and NaN where it is not sure (`crossing_is_sure`).
    """
    found, draws = _crossings(ours, theirs)
    return _estimate(found, draws) if _agree(ours, theirs, found, draws) else NONE


def crossing_is_sure(ours: Fit, theirs: Fit) -> bool:
    """Whether what was measured, and every bootstrap sample, agree with the fits on where `theirs` lies above `ours`.

    That is: the fits order both at every size as the measured values do, and every sample has a crossing, or none.
    """
    return _agree(ours, theirs, *_crossings(ours, theirs))


def _crossings(ours: Fit, theirs: Fit) -> tuple[float, np.ndarray]:
    sizes = np.geomspace(max(ours.sizes[0], theirs.sizes[0]), min(ours.sizes[-1], theirs.sizes[-1]), SEARCHED)
    count = min(len(ours.draws), len(theirs.draws))
    draws = theirs.draws_at(sizes)[:count] - ours.draws_at(sizes)[:count]
    found = _crossing(sizes, theirs.at(sizes) - ours.at(sizes))
    return found, np.array([_crossing(sizes, draw) for draw in draws])


def _agree(ours: Fit, theirs: Fit, found: float, draws: np.ndarray) -> bool:
    sizes, own, other = np.intersect1d(ours.sizes, theirs.sizes, return_indices=True)
    fitted, measured = theirs.at(sizes) > ours.at(sizes), theirs.values[other] > ours.values[own]
    return bool((fitted == measured).all() and (np.isnan(draws) == np.isnan(found)).all())


def _crossing(sizes: np.ndarray, difference: np.ndarray) -> float:
    """The first of `sizes` from which on `difference` is above 0: 0 if it is at all of them, NaN if not at the last."""
    (below,) = np.nonzero(difference <= 0)
    if not len(below):
        return 0.0
    return float(sizes[below[-1] + 1]) if below[-1] + 1 < len(sizes) else float("nan")


def _blocks(generator: np.random.Generator, count: int) -> np.ndarray:
    """Indices (DRAWS, count) of passes: blocks of about sqrt(count) that follow one another, around the end."""
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
    # Relative weights: without them the largest size alone would decide. Columns of like size keep nnls accurate.
    weighted = terms / values[:, None]
    scale = weighted.max(axis=0)
    found = nnls(weighted / scale, np.ones_like(values))[0]
    return np.where(found > NEGLIGIBLE, found, 0) / scale


def _terms(sizes: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """What c0, c1 and c2 are multiplied with per image (sizes, 3)."""
    return np.stack([1 / batches, sizes, sizes**2], axis=1)


def _slope(sizes: np.ndarray, values: np.ndarray) -> float:
    return float(np.log(values[-1] / values[-2]) / np.log(sizes[-1] / sizes[-2]))


def _estimate(value: float, draws) -> Estimate:
    draws = np.asarray(draws, dtype=float)
    if not len(draws) or not np.isfinite(draws).all():
        return Estimate(float(value), float("nan"), float("nan"))
    return Estimate(float(value), *map(float, np.percentile(draws, PERCENTILES)))
