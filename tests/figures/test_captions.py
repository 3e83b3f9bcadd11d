"""Captions of all figures: valid reStructuredText, a few sentences, and their statistical notes."""

import re

import pytest
from drawn_figures import small_sweep
from synthetic_results import STUDIES, synthetic_diagnostics, synthetic_results

from afmp.analysis.study_tables import differences_caption, differences_table
from afmp.figures import diagnostics, notebook_vs_paper, scalability_fits, scalability_results
from afmp.figures.parts import study_panels


def test_captions_are_valid_restructured_text():
    core = pytest.importorskip("docutils.core")
    quiet = {"halt_level": 2, "report_level": 2}
    paper, notebook = (
        synthetic_results(seeds=range(2)),
        synthetic_results(semantics="notebook", seeds=range(2)),
    )
    study = {
        **STUDIES[0],
        "members": [{**m, "label": f"*{m['run']}_ |`{m['label']}"} for m in STUDIES[0]["members"]],
    }
    for text in (
        study_panels.caption(study, paper),
        notebook_vs_paper.caption(STUDIES, paper=paper, notebook=notebook),
        scalability_results.caption(small_sweep(deit_tiny={224: "error"})),
        scalability_fits.caption(small_sweep()),
        diagnostics.caption(synthetic_diagnostics(), epoch=10),
    ):
        html = core.publish_parts(text, writer="html", settings_overrides=quiet)
        assert "problematic" not in html["body"] and "</a>" not in html["body"]
        sentences = re.findall(r"[.?](?= [A-Z]|$)", text)
        assert 2 <= len(sentences) <= 6
    escaped = study_panels.caption({**study, "reference": "sparse_0.2"}, paper)
    assert "*sparse_0.2_ |`Sparse 0.2" in core.publish_string(escaped, writer="pseudoxml").decode()


def test_captions_that_count_intervals_say_that_they_are_uncorrected():
    paper, notebook = (synthetic_results(semantics=name, seeds=range(3)) for name in ("paper", "notebook"))
    for text in (
        study_panels.caption(STUDIES[0], paper),
        notebook_vs_paper.caption(STUDIES, paper=paper, notebook=notebook),
        differences_caption(differences_table(paper, STUDIES)),
    ):
        assert ", without correction for multiple comparisons." in text
    assert "correction" not in study_panels.caption(STUDIES[2], paper)  # one comparison
