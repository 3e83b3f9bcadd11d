"""The scaffold: one fixed graph over the patch centres (original notebook, "Static Communication Scaffold")."""

import hashlib

import numpy as np
import torch
from scipy.spatial import Delaunay
from torch import Tensor

from afmp.errors import AfmpError, check_choice, check_whole_number

SCAFFOLDS = ("delaunay", "window")


def grid_shape(img_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Return (rows, columns) of patches of an image whose side, or (height, width), is `img_size` pixels.

    Raises AfmpError if a size is not a positive whole number, or `patch_size` does not divide both sides.
    """
    sides = tuple(img_size) if isinstance(img_size, (tuple, list)) else (img_size, img_size)
    if len(sides) != 2:
        raise AfmpError(f"img_size is {img_size!r}: allowed is one whole number of pixels, or (height, width)")
    for side in sides:
        check_whole_number("img_size", side)
    check_whole_number("patch_size", patch_size)
    height, width = sides
    if height % patch_size or width % patch_size:
        raise AfmpError(
            f"patch_size is {patch_size} and img_size is {height} x {width} pixels: patch_size must divide "
            "both sides of the image; change one of the two"
        )
    return int(height // patch_size), int(width // patch_size)


def grid_positions(img_size: int | tuple[int, int], patch_size: int) -> Tensor:
    """Return the patch centres (N, 2) in pixels, (row, column), row by row from the top left: the order of patches."""
    rows, columns = grid_shape(img_size, patch_size)
    row_centres = torch.arange(rows, dtype=torch.float32) * patch_size + patch_size / 2
    column_centres = torch.arange(columns, dtype=torch.float32) * patch_size + patch_size / 2
    return torch.stack(torch.meshgrid(row_centres, column_centres, indexing="ij"), dim=-1).reshape(-1, 2)


def build_edges(positions: Tensor, *, scaffold: str = "delaunay", window_size: int = 8) -> Tensor:
    """Return the undirected edges (2, E) int64 over `positions` (N, 1) or (N, 2): each once, a < b, lexicographic.

    `delaunay` triangulates the points. Points on one line have no triangles: they become a chain of neighbours, which
    is a triangulation in one dimension. `window` joins patches whose indices differ by at most `window_size`; positions
    in one dimension always use it. The order is fixed because weights files contain the edge list.
    """
    check_choice("scaffold", scaffold, SCAFFOLDS)
    check_whole_number("window_size", window_size)
    points = positions.detach().cpu().double().numpy()
    if scaffold == "window" or points.shape[1] == 1:
        pairs = _window_pairs(len(points), window_size)
    elif _on_one_line(points):
        pairs = _chain_pairs(points)
    else:
        triangles = Delaunay(points).simplices
        pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [0, 2]], triangles[:, [1, 2]]])
    pairs = np.sort(pairs.astype(np.int64).reshape(-1, 2), axis=1)
    return torch.from_numpy(np.unique(pairs, axis=0)).t().contiguous()


def both_directions(edge_index: Tensor) -> Tensor:
    """Return the directed edges (2, E), receiver first: both directions, each once, sorted by (receiver, sender)."""
    pairs = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    return torch.unique(pairs, dim=1, sorted=True)


def edge_lengths(positions: Tensor, edge_index: Tensor) -> Tensor:
    """Return the distance (E,) in pixels between the two patch centres of each edge."""
    first, second = edge_index
    return torch.linalg.vector_norm(positions[first] - positions[second], dim=1)


def scaffold_hash(positions: Tensor, edge_index: Tensor) -> str:
    """Return the sha256 (hex) of a scaffold: equal for equal patch centres and undirected edges in any order."""
    points = np.ascontiguousarray(positions.detach().cpu().numpy(), dtype="<f4")
    pairs = np.unique(np.sort(edge_index.detach().cpu().numpy().T.astype("<i8"), axis=1), axis=0)
    digest = hashlib.sha256(f"positions {points.shape} edges {pairs.shape}\n".encode())
    digest.update(points.tobytes())
    digest.update(np.ascontiguousarray(pairs, dtype="<i8").tobytes())
    return digest.hexdigest()


def _window_pairs(num_patches: int, window_size: int) -> np.ndarray:
    steps = range(1, min(window_size, num_patches - 1) + 1)
    first = [np.arange(num_patches - step) for step in steps]
    second = [np.arange(step, num_patches) for step in steps]
    return np.stack([np.concatenate(first), np.concatenate(second)], axis=1) if first else np.empty((0, 2))


def _on_one_line(points: np.ndarray) -> bool:
    return np.linalg.matrix_rank(points - points[0]) < 2


def _chain_pairs(points: np.ndarray) -> np.ndarray:
    # The point farthest from the first one is an end of the line. The distance from that end orders the points.
    end = points[np.argmax(np.linalg.norm(points - points[0], axis=1))]
    order = np.argsort(np.linalg.norm(points - end, axis=1), kind="stable")
    return np.stack([order[:-1], order[1:]], axis=1)
