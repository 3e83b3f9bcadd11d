"""Verdicts on evidence whose answer is known, against the tests of SciPy and published examples."""

import math

import numpy as np
import pytest
from scipy import stats

from afmp.analysis import verdicts
from afmp.analysis.verdicts import CANNOT_TELL, FAILS, HOLDS, Evidence, evidence_of, finding, holm, values_needed

ABOVE = [1.0, 1.2, 0.9, 1.1, 0.8]  # far above 0, with an interval of [0.80, 1.20]
AROUND = [1.0, -1.2, 0.9, -0.5, 0.1]


def verdict(values, *, expect: str, margin: float = 0.0) -> str:
    found = finding(evidence_of(values), expect=expect, margin=margin)
    return verdicts.verdict(found, found.p_value)


@pytest.mark.parametrize(
    ("values", "expect", "margin", "expected"),
    [
        (ABOVE, "higher", 0, HOLDS),
        (ABOVE, "lower", 0, FAILS),
        (AROUND, "higher", 0, CANNOT_TELL),
        (AROUND, "lower", 0, CANNOT_TELL),
        # by more than a margin: inside the interval, and above it
        (ABOVE, "higher", 1.1, CANNOT_TELL),
        (ABOVE, "higher", 1.5, FAILS),
        (ABOVE, "higher", 0.7, HOLDS),
        ([-value for value in ABOVE], "lower", 0.7, HOLDS),
        ([-value for value in ABOVE], "lower", 1.5, FAILS),
        # equal up to a margin
        (ABOVE, "equal", 1.5, HOLDS),
        (ABOVE, "equal", 0.5, FAILS),
        ([-value for value in ABOVE], "equal", 0.5, FAILS),
        (ABOVE, "equal", 1.1, CANNOT_TELL),
        (AROUND, "equal", 0.1, CANNOT_TELL),
        # not lower up to a margin: no evidence of a difference is no evidence of none
        (AROUND, "not_lower", 2, HOLDS),
        (AROUND, "not_lower", 0.5, CANNOT_TELL),
        ([-value for value in ABOVE], "not_lower", 0.5, FAILS),
        (ABOVE, "not_higher", 0.5, FAILS),
        (ABOVE, "not_higher", 1.5, HOLDS),
        # too few to tell, however clear
        ([9.0], "higher", 0, CANNOT_TELL),
        ([9.0, 9.1], "higher", 0, CANNOT_TELL),
        ([], "higher", 0, CANNOT_TELL),
        # without a spread there is no test, and the effect itself decides
        ([0.0, 0.0, 0.0], "higher", 0, FAILS),
        ([0.0, 0.0, 0.0], "equal", 1, HOLDS),
        ([0.5, 0.5, 0.5], "higher", 0, HOLDS),
        ([0.1 + 0.2, 0.3, 0.3], "higher", 0.3, FAILS),  # equal up to their last bits
    ],
)
def test_the_verdict_on_a_known_answer(values, expect, margin, expected):
    assert verdict(values, expect=expect, margin=margin) == expected


def test_p_is_that_of_the_paired_t_tests_of_scipy():
    run, reference = np.array([31.0, 30.2, 33.1, 30.9, 32.0]), np.array([30.1, 30.0, 31.9, 31.2, 30.4])
    evidence = evidence_of(run - reference)
    test = stats.ttest_rel(run, reference)
    assert finding(evidence, expect="higher", margin=0).p_value == pytest.approx(test.pvalue)
    assert finding(evidence, expect="lower", margin=0).p_value == pytest.approx(test.pvalue)
    assert evidence.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    # Equality is the larger of two one-sided p-values, each doubled because 2.5 % is on each side.
    ways = ((-2, "greater"), (2, "less"))
    sides = [stats.ttest_1samp(run - reference, margin, alternative=way).pvalue for margin, way in ways]
    found = finding(evidence, expect="equal", margin=2)
    assert found == (HOLDS, pytest.approx(2 * max(sides)))


@pytest.mark.parametrize("expect", ["higher", "lower", "equal", "not_lower", "not_higher"])
def test_an_uncorrected_verdict_is_what_the_interval_says(expect):
    generator = np.random.default_rng(3)
    seen = set()
    for _ in range(60):
        evidence = evidence_of(generator.normal(generator.normal(0, 1), 0.6, 5))
        low, high = evidence.interval
        if expect in ("lower", "not_higher"):
            low, high = -high, -low
        margin = -1.0 if expect.startswith("not_") else 1.0
        inside, outside = low > margin, high < margin
        if expect == "equal":
            inside, outside = low > -1 and high < 1, low > 1 or high < -1
        found = finding(evidence, expect=expect, margin=1.0)
        said = verdicts.verdict(found, found.p_value)
        assert said == (HOLDS if inside else FAILS if outside else CANNOT_TELL)
        seen.add(said)
    assert len(seen) == 3


@pytest.mark.parametrize("expect", ["higher", "equal"])
def test_a_verdict_at_the_margin_is_as_rare_as_promised(expect):
    """Of effects exactly at the margin, 5 % get a verdict, which chance decided."""
    values = np.random.default_rng(7).normal(1.0, 1.0, (500, 5))
    told = [verdict(one, expect=expect, margin=1.0) != CANNOT_TELL for one in values]
    assert np.mean(told) < 0.075


def test_holm_is_that_of_his_procedure():
    # The smallest times 4, the next times 3, and so on, and none below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0] and holm([]) == []
    assert holm([0.04]) == [0.04]
    one, none, other = holm([0.02, math.nan, 0.03])  # what was not tested counts for nothing
    assert (one, other) == (0.04, 0.04) and math.isnan(none)


def test_holm_takes_a_verdict_that_one_comparison_alone_would_have():
    p_value = finding(evidence_of([1.0, 0.2, 0.9, 1.5, 0.3]), expect="higher", margin=0).p_value
    assert 0.0125 < p_value < 0.05
    found = verdicts.Finding(HOLDS, p_value)
    assert verdicts.verdict(found, holm([p_value])[0]) == HOLDS
    assert verdicts.verdict(found, holm([p_value, 0.9, 0.8, 0.7])[0]) == CANNOT_TELL


def test_the_number_to_tell_has_the_power_that_is_said():
    # The table of Cohen (1988): a paired t test of d = 0.5 at 5 % takes 34 pairs for a power of 80 %.
    half = Evidence(effect=0.5, error=1.0 / math.sqrt(5), n=5)
    assert values_needed(half, expect="higher", margin=0) == 34
    assert values_needed(half, expect="lower", margin=0) == 34  # to fail takes as many
    assert values_needed(half, expect="not_lower", margin=0.5) == values_needed(
        Evidence(1.0, half.error, 5), expect="higher", margin=0
    )
    generator = np.random.default_rng(1)
    needed = values_needed(half, expect="equal", margin=1.2)
    told = [verdict(one, expect="equal", margin=1.2) == HOLDS for one in generator.normal(0.5, 1, (300, needed))]
    assert 0.74 < np.mean(told) < 0.88
    several = values_needed(half, expect="higher", margin=0, comparisons=5)
    assert 34 < several < 70


def test_no_number_is_said_that_nothing_supports():
    assert values_needed(evidence_of([1.0]), expect="higher", margin=0) is None
    assert values_needed(Evidence(0.0, 1.0, 5), expect="higher", margin=0) is None  # no number is enough
    assert values_needed(Evidence(0.01, 1.0, 5), expect="higher", margin=0) is None  # more than a thousand
    assert values_needed(Evidence(50.0, 0.1, 5), expect="higher", margin=0) == 3  # the fewest with an interval


def test_a_claim_about_several_holds_if_each_does():
    assert verdicts.joint([HOLDS, HOLDS]) == HOLDS
    assert verdicts.joint([HOLDS, CANNOT_TELL]) == CANNOT_TELL
    assert verdicts.joint([HOLDS, CANNOT_TELL, FAILS]) == FAILS
