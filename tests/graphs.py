"""Small scaffolds that tests of message passing share: directed edges (2, E), receiver first, and positions (N, 2)."""

import torch

from afmp.model.scaffold import both_directions, build_edges, grid_positions


def lone_node_graph():
    """Return five nodes. Node 4 has no neighbours; node 3 receives from node 0, but node 0 not from node 3."""
    positions = torch.tensor([[0, 0], [0, 3], [4, 0], [5, 5], [9, 9]], dtype=torch.float64)
    return torch.tensor([[0, 0, 1, 2, 3], [1, 2, 0, 0, 0]]), positions


def grid_graph(img_size=(8, 12), **scaffold):
    """Return the grid of an image's patches of 4 px, with both directions of every edge."""
    positions = grid_positions(img_size, 4).double()
    return both_directions(build_edges(positions, **scaffold)), positions
