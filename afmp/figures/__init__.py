"""The figures of the paper, one file each: `draw` returns the figure, `caption` its story in numbers."""

from importlib.util import find_spec


def figure_module(figure: str) -> str:
    """Module that draws a study's figure: the one of its name, else the general four panels."""
    own = f"afmp.figures.{figure}"
    return own if find_spec(own) else "afmp.figures.parts.study_panels"
