"""Figure comparison_topdown_vs_no (section 7.3): with and without top-down refinement."""

from matplotlib.figure import Figure

from afmp.figures.parts import study_panels


def draw(study: dict, results: list[dict]) -> Figure:
    """The four panels of the refinement study under one semantics."""
    return study_panels.draw_study(study, results, title="Top-down refinement: with and without")


def caption(study: dict, results: list[dict]) -> str:
    """What the figure shows, in reStructuredText, from the results themselves."""
    return study_panels.caption(study, results, question="Does top-down refinement change accuracy?")
