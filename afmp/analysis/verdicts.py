"""Verdicts: whether evidence shows that a claim holds or fails, or how much more evidence it would take.

A claim says on which side of a margin an effect is, or that it is between both margins. Every test is a t test with
2.5 % on each side, so an uncorrected verdict agrees with the 95 % interval: the claim holds if the whole interval is
where the claim says, and fails if the whole interval is elsewhere. Equality is two one-sided tests (Schuirmann 1987,
doi:10.1007/BF01068419). Several comparisons are corrected after Holm (1979, Scandinavian Journal of Statistics 6:65).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from afmp.analysis.wording import FEWEST_SEEDS

HOLDS, FAILS, CANNOT_TELL = "holds", "fails", "cannot tell"
VERDICTS = (HOLDS, FAILS, CANNOT_TELL)
LEVEL = 0.05
POWER = 0.8  # chance of a verdict with the number of values that `values_needed` returns
MOST = 1000  # values beyond which no number is searched for


class Evidence(NamedTuple):
    """An effect, its standard error, and the number n of independent values behind it.

    The error is 0 if all values are equal or if a measurement is exact, and NaN if it is not known.
    """

    effect: float
    error: float
    n: int
    exact: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Student t interval; NaN without one, for an exact value too."""
        if self.exact or not self.n >= FEWEST_SEEDS:
            return math.nan, math.nan
        half = stats.t.ppf(1 - LEVEL / 2, self.n - 1) * self.error
        return self.effect - half, self.effect + half

    @property
    def is_enough(self) -> bool:
        """Whether a verdict is possible at all."""
        return self.exact or (self.n >= FEWEST_SEEDS and not math.isnan(self.error))


class Finding(NamedTuple):
    """What evidence says about a claim: towards which verdict it leans, and p; NaN where no test is possible."""

    leaning: str
    p_value: float


def evidence_of(values: Sequence[float]) -> Evidence:
    """Return the evidence of the differences of pairs: their mean with its standard error."""
    # Rounded far below the resolution of an accuracy, because equal differences vary in their last bits.
    values = np.round(np.asarray(values, dtype=np.float64), 9)
    if not len(values):
        return Evidence(math.nan, math.nan, 0)
    error = float(stats.sem(values)) if len(values) > 1 else math.nan
    return Evidence(float(values.mean()), 0.0 if error < 1e-12 else error, len(values))


def finding(evidence: Evidence, *, expect: str, margin: float) -> Finding:
    """Return the two-sided p of the test that the evidence leans to, and that side.

    expect: as in claims.yaml. Without a spread no test is possible, so the effect itself says the side.
    """
    if not evidence.is_enough:
        return Finding(CANNOT_TELL, math.nan)
    effect, margin = _oriented(evidence.effect, expect, margin)
    inside = abs(effect) < margin if expect == "equal" else effect > margin
    if evidence.exact or evidence.error == 0:
        return Finding(HOLDS if inside else FAILS, math.nan)

    # p of the one-sided tests that the effect is above and below a threshold
    def above(threshold: float) -> float:
        return float(stats.t.sf((effect - threshold) / evidence.error, evidence.n - 1))

    def below(threshold: float) -> float:
        return float(stats.t.cdf((effect - threshold) / evidence.error, evidence.n - 1))

    if expect == "equal":
        to_hold, to_fail = max(above(-margin), below(margin)), min(above(margin), below(-margin))
    else:
        to_hold, to_fail = above(margin), below(margin)
    return Finding(HOLDS if to_hold < to_fail else FAILS, min(1.0, 2 * min(to_hold, to_fail)))


def _oriented(effect: float, expect: str, margin: float) -> tuple[float, float]:
    """Return effect and margin such that the claim is: the effect is above the margin, or for `equal` within it."""
    if expect in ("lower", "not_higher"):
        effect = -effect
    return effect, -margin if expect in ("not_lower", "not_higher") else margin


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values, adjusted after Holm for being several. NaN, of no test, counts for none and stays."""
    adjusted = [math.nan] * len(p_values)
    tested = sorted((p_value, place) for place, p_value in enumerate(p_values) if not math.isnan(p_value))
    least = 0.0
    for rank, (p_value, place) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * p_value))
        adjusted[place] = least
    return adjusted


def verdict(found: Finding, adjusted: float) -> str:
    """Return HOLDS, FAILS or CANNOT_TELL. A finding without p, of values without a spread, is its leaning."""
    return found.leaning if math.isnan(adjusted) or adjusted < LEVEL else CANNOT_TELL


def values_needed(evidence: Evidence, *, expect: str, margin: float, comparisons: int = 1) -> int | None:
    """Return how many values would give a verdict with a chance of 80 %, if effect and spread stay as they are.

    comparisons: the tests of the claim, each of which is then counted as the first of Holm's. None if it is more than
    MOST, or if the spread is not known, as of one value.
    """
    if math.isnan(evidence.error) or evidence.n < 2:
        return None
    effect, margin = _oriented(evidence.effect, expect, margin)
    spread = evidence.error * math.sqrt(evidence.n)
    if expect == "equal" and abs(effect) < margin:
        distances = [margin - effect, margin + effect]  # both one-sided tests have to succeed
    else:
        distances = [abs(abs(effect) - margin if expect == "equal" else effect - margin)]

    def power(n: int) -> float:
        limit = stats.t.ppf(1 - LEVEL / 2 / comparisons, n - 1)
        chances = [stats.nct.sf(limit, n - 1, distance / spread * math.sqrt(n)) for distance in distances]
        return sum(chances) - (len(chances) - 1)

    low, high = FEWEST_SEEDS - 1, FEWEST_SEEDS  # the power of `low` is too small
    while not power(high) >= POWER:
        if high >= MOST:
            return None
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def joint(verdicts: Sequence[str]) -> str:
    """Return the verdict on a claim about each of several: it holds if all hold, and fails if one fails."""
    if FAILS in verdicts:
        return FAILS
    return HOLDS if verdicts and set(verdicts) == {HOLDS} else CANNOT_TELL
