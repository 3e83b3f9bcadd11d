"""Words of numbers with intervals."""

from afmp.analysis import wording
from afmp.analysis.statistics import paired_difference
from afmp.figures.parts import style
from afmp.study.semantics import SEMANTICS


def test_an_interval_without_width_says_so():
    same = paired_difference({0: 3.0, 1: 4.0}, {0: 2.0, 1: 3.0})
    words = "equal in all 2 pairs, so the interval has no width and excludes 0"
    assert wording.difference(same) == f"+1.00 points ({words})"


def test_every_semantics_has_words_and_a_look():
    assert set(wording.SEMANTICS_IN_WORDS) == set(style.SEMANTICS_STYLE) == set(SEMANTICS)
    assert len({wording.validation_words(semantics) for semantics in SEMANTICS}) == 2
