"""Small scaffolds, (directed edges, positions), that tests of message passing share."""

import torch

from afmp.model.scaffold import both_directions, build_edges, grid_positions


def lone_node_graph():
    """Five nodes; node 4 has no neighbours, and 3 hears 0 though 0 does not hear 3."""
    positions = torch.tensor([[0, 0], [0, 3], [4, 0], [5, 5], [9, 9]], dtype=torch.float64)
    return torch.tensor([[0, 0, 1, 2, 3], [1, 2, 0, 0, 0]]), positions


def grid_graph(img_size=(8, 12), **scaffold):
    positions = grid_positions(img_size, 4).double()
    return both_directions(build_edges(positions, **scaffold)), positions
