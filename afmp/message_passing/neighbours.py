"""Neighbour tables: the scaffold as N rows of K slots, so that every pass gathers and none scatters."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# The corners of a grid square are on one circle, so a triangulation may use either diagonal: up to 8 neighbours.
GRID_DEGREE = 8


class Neighbours(NamedTuple):
    """Tables of one scaffold, shared by all images. Slot s of node i contains one neighbour j of i, or is empty.

    - nbr (N, K) int64: j, ascending in each row, so that slots are in (receiver, sender) order; i in an empty slot
    - valid (N, K) bool: the slot is an edge i <- j, that is, i receives from j
    - rev (N, K) int64: the flat slot j * K + t of the opposite direction j <- i; the slot itself if it is empty
    - dist (N, K): distance of the two patch centres in pixels; 0 in an empty slot

    Every pair of neighbours has a slot in both rows, even where only one of the two receives from the other. So a
    backward pass uses `rev` to gather what a node sent, and needs no scatter.
    """

    nbr: Tensor
    valid: Tensor
    rev: Tensor
    dist: Tensor


class Graph(NamedTuple):
    """One scaffold, shared by all images.

    - neighbours: its tables
    - edge_slots (E,) int64: the flat slot of each edge
    - offsets (T, 2): the different positions of a sender relative to its receiver, (row, column), in the log-spaced
      steps of `slot_offsets`; the first is 0, that of a node to itself
    - offset_index (N, K) int64: the offset of each slot; 0 in an empty slot
    - direction_slots (E,) int64: the flat slots of the edges in the order of their offsets
    - direction_start (T + 1,) int64: where the edges of each offset start in direction_slots; the last is E

    - keys (..., 1, 1) int32: of each image of a pass, a hash from which random edges are drawn; else None

    All but the first two are None in a model whose layers do not read the direction of edges.
    """

    neighbours: Neighbours
    edge_slots: Tensor
    offsets: Tensor | None = None
    offset_index: Tensor | None = None
    direction_slots: Tensor | None = None
    direction_start: Tensor | None = None
    keys: Tensor | None = None


def build_neighbours(directed_edge_index: Tensor, positions: Tensor) -> tuple[Neighbours, Tensor]:
    """Return the tables of a scaffold, and edge_slots (E,) int64, the flat slot of each edge in the given order.

    directed_edge_index (2, E): receiver first, without loops and repeats; positions (N, 2) in pixels. K is
    GRID_DEGREE, or the largest degree of the scaffold if that is more.
    """
    num_nodes = len(positions)
    listed = directed_edge_index.detach().cpu().numpy()
    receiver, sender = np.unique(np.concatenate([listed, listed[::-1]], axis=1), axis=1)
    degree = np.bincount(receiver, minlength=num_nodes)
    width = max(GRID_DEGREE, int(degree.max(initial=0)))

    first_edge = np.cumsum(degree) - degree
    slots = receiver * width + np.arange(len(receiver)) - first_edge[receiver]
    nbr = np.repeat(np.arange(num_nodes), width)
    nbr[slots] = sender
    # Pairs are sorted by (receiver, sender). Sorted by (sender, receiver), the same position has the opposite edge.
    opposite = np.empty_like(slots)
    opposite[np.lexsort((receiver, sender))] = slots
    rev = np.arange(num_nodes * width)
    rev[slots] = opposite
    edge_slots = slots[np.searchsorted(receiver * num_nodes + sender, listed[0] * num_nodes + listed[1])]
    valid = np.zeros(num_nodes * width, dtype=bool)
    valid[edge_slots] = True

    device = positions.device
    nbr, valid, rev = (torch.from_numpy(t.reshape(num_nodes, width)).to(device) for t in (nbr, valid, rev))
    tables = Neighbours(nbr, valid, rev, slot_lengths(positions, nbr))
    return tables, torch.from_numpy(edge_slots).to(device)


def slot_offsets(positions: Tensor, nbr: Tensor) -> tuple[Tensor, Tensor]:
    """Return offsets (T, 2) and offset_index (N, K) of a scaffold, as in `Graph`.

    Rows and columns are counted in steps of the shortest edge, and log-spaced: x becomes sign(x) log2(1 + |x|). So 1
    stays 1, and an edge of a window that spans many columns is no far outlier (Liu et al., "Swin Transformer V2", 2022,
    section 3.3, for the positions of attention).

    positions (N, 2) in pixels, nbr (N, K) as in `Neighbours`.
    """
    own = torch.arange(len(nbr), device=nbr.device)[:, None]
    relative = positions[torch.cat([own, nbr], dim=1)] - positions[:, None, :]  # (N, 1 + K, 2), with 0 in front
    lengths = torch.linalg.vector_norm(relative, dim=-1)
    step = lengths[lengths > 0].min() if nbr.numel() and (lengths > 0).any() else 1
    # Rounded, so that equal directions have equal numbers.
    offsets, index = torch.unique(torch.round(relative / step, decimals=6).flatten(0, 1), dim=0, return_inverse=True)
    offsets = offsets.sign() * torch.log2(1 + offsets.abs())
    # 0 first; the others in their order.
    zero = (offsets == 0).all(dim=1)
    order = torch.argsort(~zero, stable=True)
    return offsets[order], torch.argsort(order)[index].view(len(nbr), -1)[:, 1:].contiguous()


def edges_by_offset(edge_slots: Tensor, offset_index: Tensor, num_offsets: int) -> tuple[Tensor, Tensor]:
    """Return direction_slots (E,) and direction_start (T + 1,), as in `Graph`, of T offsets."""
    offset, order = torch.sort(offset_index.take(edge_slots), stable=True)
    return edge_slots[order], torch.searchsorted(offset, torch.arange(num_offsets + 1, device=offset.device))


def slot_lengths(positions: Tensor, nbr: Tensor) -> Tensor:
    """Return the distance (N, K) in pixels from every node to its neighbour in each slot; 0 in empty slots."""
    return torch.linalg.vector_norm(positions[:, None, :] - positions[nbr], dim=-1)
