"""Figure messages: accuracies, paired differences, and what is drawn of one or two seeds."""

import numpy as np
import pytest
from drawn_figures import all_text, by_gid, panel
from synthetic_results import STUDIES, synthetic_results

from afmp.analysis.metrics import by_seed
from afmp.analysis.statistics import mean_and_interval, paired_difference
from afmp.figures import messages

STUDY = STUDIES[0]
RUNS = [member["run"] for member in STUDY["members"]]


def results(seeds):
    return [result for result in synthetic_results(seeds=range(seeds)) if result["semantics"] == "paper"]


def of(found, run):
    return [result for result in found if result["run"] == run]


def test_every_run_has_its_mean_accuracy_and_its_interval():
    found = results(5)
    axis = panel(messages.draw(STUDY, found), "Test accuracy")
    for row, run in enumerate(RUNS):
        interval = mean_and_interval([result["test_accuracy"] for result in of(found, run)])
        assert by_gid(axis, f"row: {row}").get_xdata()[0] == pytest.approx(interval.mean)
        bar = axis.containers[row].lines[2][0].get_segments()[0]
        np.testing.assert_allclose(bar, [[interval.low, row], [interval.high, row]])
        assert f"{interval.mean:.2f} ± {interval.half:.2f}" in [text.get_text() for text in axis.texts]


def test_differences_are_paired_by_seed_and_the_reference_has_none():
    found = results(5)
    axis = panel(messages.draw(STUDY, found), "Difference from Dense")
    reference = by_seed(of(found, "dense"), "test_accuracy")
    assert len(axis.texts) == len(RUNS) - 1
    for row, run in enumerate(RUNS[1:], 1):
        paired = paired_difference(by_seed(of(found, run), "test_accuracy"), reference)
        assert by_gid(axis, f"row: {row}").get_xdata()[0] == pytest.approx(paired.mean)
        assert axis.texts[row - 1].get_text() == f"{paired.mean:+.2f} ± {(paired.high - paired.low) / 2:.2f}"
    assert axis.get_xlim()[0] < 0 < axis.get_xlim()[1]


def test_a_run_that_names_another_is_compared_with_it_too():
    members = [
        member | ({"compare_with": "sparse_0.4"} if member["run"] == "sparse_0.2" else {})
        for member in STUDY["members"]
    ]
    study, found = STUDY | {"members": members}, results(5)
    paired = paired_difference(*(by_seed(of(found, run), "test_accuracy") for run in ("sparse_0.2", "sparse_0.4")))
    axis = panel(messages.draw(study, found), "Other differences")
    value, name = (text.get_text() for text in axis.texts)
    assert value == f"{paired.mean:+.2f} ± {(paired.high - paired.low) / 2:.2f}"
    assert name == "from Sparse 0.4"
    assert by_gid(axis, f"row: {RUNS.index('sparse_0.2')}").get_xdata()[0] == pytest.approx(paired.mean)
    assert f"Sparse 0.2 minus Sparse 0.4: {paired.mean:+.2f} points" in messages.caption(study, found)


@pytest.mark.parametrize(("seeds", "ticks"), [(1, 0), (2, 2)])
def test_one_or_two_seeds_have_no_interval(seeds, ticks):
    figure = messages.draw(STUDY, results(seeds))
    axis = panel(figure, "Test accuracy")
    assert not axis.containers and "±" not in "".join(text.get_text() for text in axis.texts)
    drawn = [line for line in axis.lines if str(line.get_gid()).startswith("seeds: ")]
    assert sum(len(line.get_xdata()) for line in drawn) == ticks * len(RUNS)
    assert ("n = 1, no interval" in all_text(figure)) == (seeds == 1)


def test_a_study_of_one_run_has_no_difference_to_draw():
    alone = STUDY | {"members": STUDY["members"][:1]}
    axis = panel(messages.draw(alone, results(3)), "Difference from Dense")
    assert not axis.texts


def test_runs_without_a_seed_in_common_say_so():
    found = [result for result in results(4) if (result["run"] == "dense") == (result["seed"] < 2)]
    figure = messages.draw(STUDY, found)
    assert not panel(figure, "Difference from Dense").texts
    assert "no seed in common" in messages.caption(STUDY, found)
