"""Bounded-degree neighbour tables: the scaffold as N rows of K slots, so that every pass is a gather."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Corners of a grid square lie on one circle, so a triangulation may take any diagonal: up to 8 neighbours.
GRID_DEGREE = 8


class Neighbours(NamedTuple):
    """Tables of one scaffold, shared by all images. Slot s of node i holds one neighbour j of i.

    - nbr (N, K) int64: j, ascending in a row, so slot order is (receiver, sender) order; i itself where empty
    - valid (N, K) bool: the slot is an edge i <- j, that is, i hears j
    - rev (N, K) int64: flat slot j * K + t of the opposite direction j <- i; itself where empty
    - dist (N, K): distance of the two patch centres in pixels; 0 where empty

    Every pair has a slot in both rows, even where only one of the two hears the other: what a node sent is
    then found by a gather over `rev`, and no backward pass needs a scatter.
    """

    nbr: Tensor
    valid: Tensor
    rev: Tensor
    dist: Tensor


class Graph(NamedTuple):
    """One scaffold, shared by all images: neighbour tables, and edge_slots (E,) int64, the flat slot of each edge."""

    neighbours: Neighbours
    edge_slots: Tensor


def build_neighbours(directed_edge_index: Tensor, positions: Tensor) -> tuple[Neighbours, Tensor]:
    """Tables for a directed edge list (2, E), receiver first, no loops or repeats, over `positions` (N, 2).

    Also returns edge_slots (E,) int64: the flat slot of every listed edge, in the list's order. K is 8, or
    the scaffold's largest degree where that is more.
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
    # Pairs sorted by (receiver, sender) read backwards by (sender, receiver): entry e is the opposite of edge
    # e.
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


def slot_lengths(positions: Tensor, nbr: Tensor) -> Tensor:
    """Distance (N, K) in pixels from every node to the one in each slot; 0 in empty slots, which hold itself."""
    return torch.linalg.vector_norm(positions[:, None, :] - positions[nbr], dim=-1)
