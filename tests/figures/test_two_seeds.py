"""Two random seeds are two values: no figure, caption or table shows an interval of them."""

import re

import pytest
from drawn_figures import all_text
from synthetic_results import STUDIES, synthetic_results

from afmp.analysis.comparison import comparison_text
from afmp.analysis.printed_tables import latex, markdown
from afmp.analysis.tables import run_tables
from afmp.figures import accuracy_and_cost, messages, notebook_vs_paper
from afmp.figures.parts import study_panels

AN_INTERVAL = re.compile(r"±|Student|95 %|interval that (in|ex)cludes|\[[-+−]?\d+\.\d")


@pytest.fixture(scope="module")
def results() -> list[dict]:
    found = [result for name in ("paper", "notebook") for result in synthetic_results(semantics=name, seeds=range(2))]
    for result in found:
        result["config"] = {"training": {"batch_size": 100}}  # which only accuracy_and_cost reads
    return found


@pytest.mark.parametrize("figure", [study_panels, messages, accuracy_and_cost], ids=lambda figure: figure.__name__)
def test_a_figure_of_a_study_shows_both_values(results, figure):
    of_paper = [result for result in results if result["semantics"] == "paper"]
    low, high = sorted(result["test_accuracy"] for result in of_paper if result["run"] == STUDIES[2]["reference"])
    drawn = all_text(figure.draw(STUDIES[2], of_paper)).replace("\u00a0", " ")
    caption = figure.caption(STUDIES[2], of_paper)
    assert f"{low:.2f} and {high:.2f}" in drawn and " and " in caption
    assert not AN_INTERVAL.search(drawn) and not AN_INTERVAL.search(caption)


def test_notebook_vs_paper_shows_no_interval(results):
    paper, notebook = ([result for result in results if result["semantics"] == name] for name in ("paper", "notebook"))
    figure = notebook_vs_paper.draw(STUDIES, paper=paper, notebook=notebook)
    assert not AN_INTERVAL.search(all_text(figure))
    assert not AN_INTERVAL.search(notebook_vs_paper.caption(STUDIES, paper=paper, notebook=notebook))


def test_tables_and_the_comparison_show_no_interval(results):
    tables = run_tables(results, STUDIES)
    for table in tables.values():
        assert not AN_INTERVAL.search(table.caption) and not AN_INTERVAL.search(latex(table.printed))
        assert not AN_INTERVAL.search(markdown(table.printed))
        intervals = [column for column in table.rows if column.endswith(("ci95_low", "ci95_high", "p_value"))]
        assert table.rows[intervals].isna().all(axis=None)
    semantics = ["paper", "notebook"]
    said = comparison_text(STUDIES[0], results, reference=STUDIES[0]["reference"], semantics=semantics)
    assert not AN_INTERVAL.search(said) and "value of each random seed" in said
