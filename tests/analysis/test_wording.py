"""Words of numbers with intervals."""

import html
import re

import pytest
from docutils.core import publish_parts

from afmp.analysis import wording
from afmp.analysis.statistics import mean_and_interval, paired_difference
from afmp.figures.parts import palette
from afmp.study.semantics import SEMANTICS


def test_an_interval_without_width_says_so():
    same = paired_difference({0: 3.0, 1: 4.0, 2: 4.0}, {0: 2.0, 1: 3.0, 2: 3.0})
    words = "equal in all 3 pairs, so the interval has no width and excludes 0"
    assert wording.difference(same) == f"+1.00 points ({words})"
    same = paired_difference({0: 3.0, 1: 4.0}, {0: 2.0, 1: 3.0})
    assert wording.difference(same) == "+1.00 points (equal in both pairs of seeds, so no interval)"


def test_two_seeds_are_two_values_with_digits_that_tell_them_apart():
    assert wording.with_interval(mean_and_interval([70.25, 59.125])) == "59.12 and 70.25 %"
    assert wording.quantity(mean_and_interval([12.004, 12.001]), unit="s") == "12.001 and 12.004 s"
    assert wording.quantity(mean_and_interval([12.0, 13.0]), unit="s") == "12.0 and 13.0 s"
    two = paired_difference({0: 3.0, 1: 4.5}, {0: 2.0, 1: 3.0})
    assert wording.difference(two) == "+1.00 and +1.50 points (two pairs of seeds, so no interval)"


def test_of_a_long_name_without_spaces_the_start_is_shown():
    assert wording.shortened("oak_tree_that_is_very_long", lines=1) == "oak_tree_that_is_ver …"
    assert wording.shortened("oak_tree_that_is_long", lines=1) == "oak_tree_that_is_long"


def test_every_semantics_has_words_and_a_look():
    assert set(wording.SEMANTICS_IN_WORDS) == set(palette.SEMANTICS_STYLE) == set(SEMANTICS)
    assert len({wording.validation_words(semantics) for semantics in SEMANTICS}) == 2


HOSTILE = [
    "<script>alert(1)</script>",
    ".. raw:: html\n\n   <script>alert(1)</script>",
    ".. include:: /etc/passwd",
    "javascript:alert(1)",
    "see http://x.y/z?a=b or mailto:a@b.c",
    "`link <javascript:alert(1)>`__",
    "`Workflow`_ Workflow_",
    ":raw-html:`<b>`",
    "|x| *x* **x** ``x`` _`x` [1]_ x__",
    "1. one",
    "MIX. one",
    "(a) one",
    "#. one",
    "- one",
    "--opt x",
    "====",
    ">>> import os",
    ":field: x",
    "\\ \\\\ \\x",
    "ends::",
    "&lt;b&gt; &amp;",
    "$\\frac{a}{b}$ {{ x }} {% x %}",
    "a\u2028b\tc",
]


@pytest.mark.promise("escaped-texts")
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_text_in_a_caption_is_shown_as_it_is_written(text):
    # As Snakemake's report does it: our text, more paragraphs, and links by name.
    caption = wording.escape_rst(text) + "\n\nThe same as CSV.\n\n.. _Workflow: javascript:show_panel('workflow')\n"
    page = publish_parts(caption, writer="html", settings_overrides={"warning_stream": False})["body"]
    first, second = re.fullmatch(r"<p>(.*)</p>\n<p>(.*)</p>\n", page).groups()
    assert "<" not in first and html.unescape(first) == " ".join(text.split()) and second == "The same as CSV."


def test_a_usual_sentence_in_a_caption_stays_as_it_is():
    for text in ("Widths. Paper semantics, n = 5.", "How does it change with λ (1e-3)? 90 rows: 9 runs.", "9 runs"):
        assert wording.escape_rst(text) == text
