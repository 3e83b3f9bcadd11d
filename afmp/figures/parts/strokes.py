"""Strokes: directed edges over an image, so that both directions between two patches are seen."""

import numpy as np

STEPS = np.linspace(0, 1, 9)[:, None]  # of each curve


def strokes(positions: np.ndarray, edge_index: np.ndarray, widths: np.ndarray, *, spacing: float) -> np.ndarray:
    """Return one curved polygon per edge, (E, 18, 2) in (x, y): wide at the sender, pointed at the receiver.

    Each bends to the left of its way, and the longer it is the more. So the two directions between two patches lie on
    different sides of the line between them and do not touch, and edges along one line of patches are seen apart.

    positions (N, 2) pixels (row, column); edge_index (2, E) receiver, then sender; widths (E,) pixels; spacing: the
    distance of neighbouring patches in pixels.
    """
    points = positions[:, ::-1]
    receivers, senders = points[edge_index[0]], points[edge_index[1]]
    way = receivers - senders
    length = np.linalg.norm(way, axis=1, keepdims=True)
    along = way / length
    left = np.stack([along[:, 1], -along[:, 0]], axis=1)  # as seen: the y axis of an image points down
    start, end = senders + 0.16 * spacing * along, receivers - 0.16 * spacing * along
    half = np.asarray(widths)[:, None] / 2
    curves = []
    for step in STEPS:
        bend = 0.03 * spacing + half + 0.28 * length * step * (1 - step)
        centre = start + step * (end - start) + bend * left
        curves.append((centre + half * (1 - step) * left, centre - half * (1 - step) * left))
    outer, inner = (np.stack(side, axis=1) for side in zip(*curves, strict=True))
    return np.concatenate([outer, inner[:, ::-1]], axis=1)
