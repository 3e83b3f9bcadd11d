"""The figures of the paper, one file each: `draw` returns the figure, `caption` tells what it shows in its runs' numbers."""

from importlib.util import find_spec


def figure_module(figure: str) -> str:
    """Module that draws a study's figure: the one of its name, or the general four panels for a study of one's own."""
    own = f"afmp.figures.{figure}"
    return own if find_spec(own) else "afmp.figures.study_panels"
