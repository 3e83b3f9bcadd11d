"""Figure window: drawn as figure messages."""

from afmp.figures.messages import caption, draw

__all__ = ["caption", "draw"]
