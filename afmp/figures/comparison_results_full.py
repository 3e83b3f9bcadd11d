"""Figure comparison_results_full (section 7.1): dense message passing against several sparsity levels."""

from matplotlib.figure import Figure

from afmp.figures.parts import study_panels


def draw(study: dict, results: list[dict]) -> Figure:
    """The four panels of the sparsity study under one semantics."""
    return study_panels.draw_study(study, results, title="Sparsity level: dense against sparse message passing")


def caption(study: dict, results: list[dict]) -> str:
    """What the figure shows, in reStructuredText, from the results themselves."""
    return study_panels.caption(study, results, question="How does accuracy change with the sparsity level?")
