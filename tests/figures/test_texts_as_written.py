"""Texts in figures: labels, titles and names of datasets are drawn as they are written, whatever they contain."""

import copy
import warnings

import pytest
from drawn_figures import all_text
from matplotlib.text import Text
from synthetic_results import STUDIES, synthetic_results

from afmp.figures import comparison_results_full, comparison_topdown_vs_no, lambda_sparse_comparison, notebook_vs_paper
from afmp.figures.parts import palette, study_panels, style

LATEX = r"$\frac{$ and $x$"
TEXTS = [LATEX, r"$\alpha_1$", r"\$5 \\ {x}^2_3 %", "</script><script>alert(1)</script>", "كثيف 0.3", "W" * 200]


def study_with(title: str, labels: list[str]) -> dict:
    study = copy.deepcopy(STUDIES[0])
    study["title"] = title
    for member, label in zip(study["members"], labels, strict=False):
        member["label"] = label
    return study


def save(figure, folder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib warns of glyphs that its font lacks, and of panels without room
        style.save_figure(figure, png=folder / "figure.png", pdf=folder / "figure.pdf")


@pytest.mark.promise("escaped-texts", "labels-as-written")
@pytest.mark.parametrize("title", TEXTS[::5], ids=ascii)
def test_every_text_is_drawn_as_it_is_written(tmp_path, title):
    study = study_with(title, TEXTS)
    results = synthetic_results(dataset=f"my{LATEX}images")
    figure = study_panels.draw(study, results)
    save(figure, tmp_path)
    said = all_text(figure)
    assert f"Dataset my{LATEX}images" in said and figure.get_suptitle().startswith(f"7.1 {title[:20]}")
    for label in TEXTS[:-1]:
        assert f"{label}:" in said
    for text in figure.findobj(Text):
        assert not text.get_parse_math() or "\\mathdefault" in text.get_text() or "$" not in text.get_text()
    inches = figure.get_tightbbox()
    assert inches.x0 >= 0 and inches.x1 <= figure.get_figwidth()


@pytest.mark.promise("labels-as-written")
def test_labels_that_mean_something_to_matplotlib_stand_in_the_legend_beside_their_line(tmp_path):
    """Matplotlib leaves labels out of a legend that start with _."""
    labels = ["__anon__", "_child0", "_nolegend_", "None", "_", "- x"]
    figure = study_panels.draw(study_with("_", labels), synthetic_results())
    save(figure, tmp_path)
    legend = figure.axes[0].get_legend()
    assert [text.get_text().split(":")[0] for text in legend.get_texts()] == labels
    for index, line in enumerate(legend.get_lines()):
        assert line.get_color() == palette.run_style(index)["color"]


@pytest.mark.parametrize("label", ["W" * 30, "ﷺ" * 20, "m " * 40], ids=ascii)
def test_wide_labels_stay_in_the_figure(tmp_path, label):
    figure = study_panels.draw(study_with("T", [f"{label}{index}" for index in range(6)]), synthetic_results())
    save(figure, tmp_path)
    inches = figure.get_tightbbox()
    assert inches.x0 >= 0 and inches.x1 <= figure.get_figwidth()


def test_numbers_of_an_axis_stay_mathematics(tmp_path):
    figure = lambda_sparse_comparison.draw(STUDIES[1], synthetic_results())
    save(figure, tmp_path)
    powers = [text for text in figure.findobj(Text) if "\\mathdefault{10^{" in text.get_text()]
    assert powers and all(text.get_parse_math() for text in powers)


def test_the_figure_of_both_semantics_draws_them_too(tmp_path):
    study = study_with("W" * 200, TEXTS)
    paper, notebook = (synthetic_results(dataset="数据 $x$", semantics=name) for name in ("paper", "notebook"))
    figure = notebook_vs_paper.draw([study], paper=paper, notebook=notebook)
    save(figure, tmp_path)
    assert LATEX in all_text(figure) and r"Dataset \u6570\u636e $x$;" in all_text(figure)
    inches = figure.get_tightbbox()
    assert inches.x0 >= 0 and inches.x1 <= figure.get_figwidth()


@pytest.mark.parametrize("dataset", ["数据集", "\U00013000 hieroglyph", "bell\x07", "turned\u202e"], ids=ascii)
def test_a_name_of_a_dataset_that_the_font_lacks_is_drawn_as_escapes(tmp_path, dataset):
    figure = comparison_topdown_vs_no.draw(STUDIES[2], synthetic_results(dataset=dataset))
    save(figure, tmp_path)
    escaped = "".join(c if c.isascii() and c.isprintable() else c.encode("unicode_escape").decode() for c in dataset)
    assert f"Dataset {escaped}," in all_text(figure)


@pytest.mark.parametrize("module", [comparison_results_full, lambda_sparse_comparison, comparison_topdown_vs_no])
def test_a_figure_of_the_paper_has_the_title_of_its_study(module):
    study = study_with("A title of an overlay", [])
    assert module.draw(study, synthetic_results()).get_suptitle().startswith("7.1 A title of an overlay\n")
