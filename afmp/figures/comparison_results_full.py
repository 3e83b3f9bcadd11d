"""Figure comparison_results_full (section 7.1): dense message passing and several sparsity levels."""

from matplotlib.figure import Figure

from afmp.figures.parts.study_panels import draw_study
from afmp.figures.parts.study_text import study_caption


def draw(study: dict, results: list[dict]) -> Figure:
    """Draw the panels of the sparsity study under one semantics."""
    return draw_study(study, results)


def caption(study: dict, results: list[dict]) -> str:
    """Return the caption in reStructuredText, from the results themselves."""
    return study_caption(study, results, question="How does accuracy change with the sparsity level?")
