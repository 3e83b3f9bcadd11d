"""Figure comparison_topdown_vs_no (section 7.3): with and without top-down refinement."""

from matplotlib.figure import Figure

from afmp.figures.parts.study_panels import draw_study
from afmp.figures.parts.study_text import study_caption


def draw(study: dict, results: list[dict]) -> Figure:
    """Draw the panels of the refinement study under one semantics."""
    return draw_study(study, results)


def caption(study: dict, results: list[dict]) -> str:
    """Return the caption in reStructuredText, from the results themselves."""
    return study_caption(study, results, question="Does top-down refinement change accuracy?")
