"""Words of numbers with intervals."""

from afmp.analysis import wording
from afmp.analysis.statistics import paired_difference


def test_an_interval_without_width_says_so():
    same = paired_difference({0: 3.0, 1: 4.0}, {0: 2.0, 1: 3.0})
    words = "equal in all 2 pairs, so the interval has no width and excludes 0"
    assert wording.difference(same) == f"+1.00 points ({words})"
