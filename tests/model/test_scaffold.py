"""Who can talk to whom: patch centres, edges, their directions, and the hash that names a scaffold."""

import numpy as np
import pytest
import torch

from afmp.errors import AfmpError
from afmp.model.scaffold import both_directions, build_edges, edge_lengths, grid_positions, scaffold_hash


def pairs_of(edge_index: torch.Tensor) -> list[tuple[int, int]]:
    return [tuple(pair) for pair in edge_index.t().tolist()]


def test_positions_are_patch_centres_row_by_row():
    positions = grid_positions((16, 24), 8)
    assert positions.dtype == torch.float32
    assert positions.tolist() == [[4, 4], [4, 12], [4, 20], [12, 4], [12, 12], [12, 20]]


@pytest.mark.parametrize(("side", "expected"), [(4, 33), (12, 385), (14, 533)])
def test_delaunay_edge_counts(side, expected):
    edge_index = build_edges(grid_positions(side * 8, 8))
    assert edge_index.shape == (2, expected)
    assert edge_index.dtype == torch.int64


def test_edges_are_listed_once_sorted_and_join_neighbours_only():
    positions = grid_positions((24, 40), 8)
    edge_index = build_edges(positions)
    pairs = pairs_of(edge_index)
    assert pairs == sorted(set(pairs))
    assert all(a < b for a, b in pairs)
    # A triangulation of a grid: every side, and exactly one diagonal a square.
    lengths = edge_lengths(positions, edge_index)
    assert (lengths == 8).sum() == 3 * 4 + 2 * 5
    assert torch.isclose(lengths, torch.tensor(8 * 2**0.5)).sum() == 2 * 4


@pytest.mark.parametrize(
    ("img_size", "expected"),
    [
        (8, []),
        ((8, 16), [(0, 1)]),
        ((8, 32), [(0, 1), (1, 2), (2, 3)]),
        ((32, 8), [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_patches_on_one_line_form_a_chain(img_size, expected):
    edge_index = build_edges(grid_positions(img_size, 8))
    assert edge_index.shape == (2, len(expected))
    assert pairs_of(edge_index) == expected


def test_unordered_points_on_a_slanted_line_form_a_chain():
    steps = torch.tensor([2.0, 0.0, 3.0, 1.0])
    assert pairs_of(build_edges(torch.stack([steps, 2 * steps + 1], dim=1))) == [(0, 2), (0, 3), (1, 3)]


def test_window_joins_near_numbers_and_serves_positions_of_one_dimension():
    expected = [(a, b) for a in range(6) for b in range(a + 1, min(a + 3, 6))]
    assert pairs_of(build_edges(grid_positions((16, 24), 8), scaffold="window", window_size=2)) == expected
    assert pairs_of(build_edges(torch.rand(6, 1), window_size=2)) == expected
    everything = build_edges(torch.rand(5, 1), window_size=100)
    assert everything.shape == (2, 10)


def test_both_directions_once_each_receiver_first():
    edge_index = torch.tensor([[2, 0, 1], [0, 1, 2]])
    with_repeats = torch.cat([edge_index, edge_index.flip(0)[:, :1]], dim=1)
    assert pairs_of(both_directions(with_repeats)) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert both_directions(torch.empty(2, 0, dtype=torch.int64)).shape == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"img_size": 30, "patch_size": 8}, ("patch_size is 8", "30 x 30", "divide")),
        ({"img_size": (32, 20), "patch_size": 8}, ("patch_size is 8", "32 x 20", "divide")),
        ({"img_size": 0, "patch_size": 8}, ("img_size is 0", "1 or more")),
        ({"img_size": (8, 8, 8), "patch_size": 8}, ("img_size is (8, 8, 8)", "(height, width)")),
        ({"img_size": 32.0, "patch_size": 8}, ("img_size is 32.0", "whole number")),
        ({"img_size": 32, "patch_size": -8}, ("patch_size is -8", "1 or more")),
    ],
)
def test_sizes_that_make_no_grid_are_named(arguments, words):
    with pytest.raises(AfmpError) as caught:
        grid_positions(**arguments)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scaffold": "knn"}, ("scaffold is 'knn'", "delaunay, window")),
        ({"scaffold": "window", "window_size": 0}, ("window_size is 0", "1 or more")),
    ],
)
def test_scaffolds_that_do_not_exist_are_named(arguments, words):
    with pytest.raises(AfmpError) as caught:
        build_edges(grid_positions(32, 8), **arguments)
    assert all(word in str(caught.value) for word in words)


def test_hash_names_the_scaffold_not_the_order_of_its_edges():
    positions = grid_positions(32, 8)
    edge_index = build_edges(positions)
    name = scaffold_hash(positions, edge_index)
    shuffled = edge_index[:, torch.from_numpy(np.random.RandomState(0).permutation(33))]
    assert scaffold_hash(positions, shuffled) == name
    assert scaffold_hash(positions, shuffled.flip(0)) == name
    assert scaffold_hash(positions.double(), edge_index) == name
    assert len(name) == 64
    others = [(positions, edge_index[:, 1:]), (positions + 1, edge_index), (positions[:0], edge_index[:, :0])]
    assert len({name, *(scaffold_hash(*other) for other in others)}) == 4
