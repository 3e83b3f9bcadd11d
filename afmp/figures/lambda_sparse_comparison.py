"""Figure lambda_sparse_comparison (section 7.2): the weight λ of the sparsity regulariser."""

from matplotlib.figure import Figure

from afmp.figures.parts import study_panels


def draw(study: dict, results: list[dict]) -> Figure:
    """The four panels of the regularisation study; the sparsity loss, proportional to λ, on a log axis."""
    return study_panels.draw_study(
        study, results, title="Regularisation: the weight λ of the sparsity loss", sparsity_scale="log"
    )


def caption(study: dict, results: list[dict]) -> str:
    """What the figure shows, in reStructuredText, from the results themselves."""
    return study_panels.caption(
        study, results, question="How does accuracy change with the weight λ of the sparsity loss?"
    )
