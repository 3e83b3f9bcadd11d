"""Neighbour tables: every edge, its opposite, and the order of slots."""

import pytest
import torch
from graphs import grid_graph, lone_node_graph

from afmp.message_passing.neighbours import GRID_DEGREE, build_neighbours

GRAPHS = {
    "grid": grid_graph(),
    "lone node": lone_node_graph(),
    "no edges": grid_graph(4),
    "9 slots per node": grid_graph((4, 40), scaffold="window", window_size=9),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_tables_contain_every_edge_and_its_opposite(graph):
    directed, positions = GRAPHS[graph]
    tables, edge_slots = build_neighbours(directed, positions)
    num_nodes, width = tables.nbr.shape
    degree = torch.bincount(torch.cat([directed, directed.flip(0)], 1).unique(dim=1)[0], minlength=num_nodes)
    assert width == max(GRID_DEGREE, degree.max())
    nbr, rev, valid = tables.nbr.flatten(), tables.rev.flatten(), tables.valid.flatten()
    receiver = torch.arange(num_nodes).repeat_interleave(width)

    # edge_slots: the slot of each listed edge, in the list's order. These slots and no others are valid.
    assert torch.equal(torch.stack([receiver[edge_slots], nbr[edge_slots]]), directed)
    assert torch.equal(valid.nonzero()[:, 0], edge_slots.sort().values)
    # rev is an involution between opposite slots. An empty slot is its own opposite, and contains its own node.
    assert torch.equal(rev[rev], torch.arange(len(rev)))
    assert torch.equal(nbr[rev], receiver)
    assert torch.equal(rev == torch.arange(len(rev)), nbr == receiver)
    assert torch.equal(tables.dist.flatten()[edge_slots], (positions[directed[0]] - positions[directed[1]]).norm(dim=1))
    for row in range(num_nodes):
        filled = tables.nbr[row][tables.nbr[row] != row].tolist()
        assert filled == sorted(set(filled))


def test_slot_order_is_edge_order_under_paper():
    directed, positions = grid_graph((32, 48))
    _, edge_slots = build_neighbours(directed, positions)
    assert torch.equal(edge_slots, edge_slots.sort().values)
