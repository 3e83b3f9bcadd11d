"""Figure notebook_vs_paper: both semantics in each panel, its legends and its caption."""

import numpy as np
import pytest
from drawn_figures import all_text, by_gid, curve, history, panel
from synthetic_results import STUDIES, synthetic_results

from afmp.analysis.metrics import by_seed
from afmp.analysis.statistics import paired_difference
from afmp.errors import AfmpError
from afmp.figures import notebook_vs_paper


def test_both_semantics_are_side_by_side():
    paper, notebook = (
        synthetic_results(seeds=range(3)),
        synthetic_results(semantics="notebook", seeds=range(3)),
    )
    figure = notebook_vs_paper.draw(STUDIES, paper=paper, notebook=notebook)
    for study in STUDIES:
        axis = panel(figure, f"{study['section']} {study['title']}")
        for semantics, results in (("paper", paper), ("notebook", notebook)):
            means = [np.mean([r["test_accuracy"] for r in results if r["run"] == m["run"]]) for m in study["members"]]
            np.testing.assert_allclose(curve(axis, semantics).get_xdata(), means)
    references = panel(figure, "Reference runs during training")
    np.testing.assert_allclose(
        curve(references, "Dense, notebook").get_ydata(), history(notebook, "dense", "val_acc").mean(0)
    )
    labels = [line.get_label() for line in references.lines]
    assert labels == ["Dense, paper", "Dense, notebook", "Sparse 0.3, paper", "Sparse 0.3, notebook"]
    assert "chooses its best epoch on the test set" in all_text(figure)
    assert "Pale grey lines join the two points of a run." in " ".join(all_text(figure).split())
    text = notebook_vs_paper.caption(STUDIES, paper=paper, notebook=notebook)
    gaps = {}
    for run in {r["run"] for r in paper}:
        ours, theirs = (by_seed([r for r in of if r["run"] == run], "test_accuracy") for of in (paper, notebook))
        gaps[run] = paired_difference(ours, theirs).mean
    assert f"{min(gaps.values()):+.2f} points" in text and f"{max(gaps.values()):+.2f} points" in text
    assert "The same 9 runs" in text and "3 seeds" in text
    notebook[0]["dataset"] = notebook[0]["dataset"] | {"num_train": 1440}
    text = notebook_vs_paper.caption(STUDIES, paper=paper, notebook=notebook)
    assert "it trains on 1,300 to 1,440 images. Paper chooses on images held out" in text
    assert text.endswith("it trains on 1,300 images.")
    with pytest.raises(AfmpError, match="among those of paper"):
        notebook_vs_paper.draw(STUDIES, paper=notebook, notebook=paper)


def test_legends_are_unambiguous_and_cover_no_curve():
    figure = notebook_vs_paper.draw(
        STUDIES, paper=synthetic_results(), notebook=synthetic_results(semantics="notebook")
    )
    semantics, runs = (axis.get_legend() for axis in figure.axes if axis.get_legend())
    if semantics.get_texts()[0].get_text() != "paper semantics":
        semantics, runs = runs, semantics
    # A semantics is a colour and a marker without a line. A run is a line without a marker.
    assert [handle.get_linestyle() for handle in semantics.get_lines()] == ["None", "None"]
    assert len({handle.get_marker() for handle in semantics.get_lines()}) == 2
    assert [text.get_text() for text in runs.get_texts()] == ["Dense", "Sparse 0.3"]
    assert [handle.get_linestyle() for handle in runs.get_lines()] == ["-", "--"]
    assert {handle.get_marker() for handle in runs.get_lines()} == {"None"}
    figure.canvas.draw()
    assert not runs.get_window_extent().overlaps(runs.axes.get_window_extent())
    left = min(label.get_window_extent().x0 for axis in figure.axes for label in axis.get_yticklabels())
    assert left > 0.1 * figure.dpi


def test_one_seed_and_one_study():
    paper, notebook = synthetic_results(seeds=[0]), synthetic_results(semantics="notebook", seeds=[0])
    figure = notebook_vs_paper.draw(STUDIES[:1], paper=paper, notebook=notebook)
    assert "n = 1, no interval" in all_text(figure)
    assert "so no interval" in notebook_vs_paper.caption(STUDIES[:1], paper=paper, notebook=notebook)


def test_two_seeds_are_vertical_ticks():
    results = synthetic_results(seeds=range(2))
    notebook = synthetic_results(semantics="notebook", seeds=range(3))
    figure = notebook_vs_paper.draw(STUDIES, paper=results, notebook=notebook)
    axis = panel(figure, "7.3 Top-down refinement")
    accuracies = [result["test_accuracy"] for result in results if result["run"] == "top_down"]
    assert list(by_gid(axis, "seeds: paper").get_xdata()) == accuracies
    assert "Vertical ticks and thin lines: each seed where n = 2" in all_text(figure)


def test_axes_end_at_accuracies_0_and_100():
    results = synthetic_results(seeds=range(3))
    for result in results:
        last = [0.0, 60.0, 99.0][result["seed"]]
        result["test_accuracy"] = last
        result["training_history"]["val_acc"] = [1.0, 50.0, last]
    notebook = [result | {"semantics": "notebook"} for result in results]
    figure = notebook_vs_paper.draw(STUDIES, paper=results, notebook=notebook)
    assert panel(figure, "7.3 Top-down refinement").get_xlim() == (0, 100)
    assert panel(figure, "Reference runs during training").get_ylim() == (0, 100)


def test_equal_accuracies_have_a_note_on_their_resolution():
    results, notebook = (synthetic_results(semantics=name, seeds=range(3)) for name in ("paper", "notebook"))
    note = "one image of 357 is 0.28 points"
    assert note not in all_text(notebook_vs_paper.draw(STUDIES, paper=results, notebook=notebook))
    for result in results:
        if result["run"] == "top_down":
            result["test_accuracy"] = 40.0
    assert note in all_text(notebook_vs_paper.draw(STUDIES, paper=results, notebook=notebook))
