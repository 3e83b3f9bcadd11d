"""Figure lambda_sparse_comparison (section 7.2): the weight λ of the sparsity regulariser."""

from matplotlib.figure import Figure

from afmp.figures.parts.study_panels import draw_study
from afmp.figures.parts.study_text import study_caption


def draw(study: dict, results: list[dict]) -> Figure:
    """Draw the panels of the regularisation study. The sparsity loss grows with λ, so its axis is logarithmic."""
    return draw_study(study, results, sparsity_scale="log")


def caption(study: dict, results: list[dict]) -> str:
    """Return the caption in reStructuredText, from the results themselves."""
    return study_caption(study, results, question="How does accuracy change with the weight λ of the sparsity loss?")
