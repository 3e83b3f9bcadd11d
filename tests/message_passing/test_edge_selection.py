"""Selection of the k best edges in PyTorch: exactly k, ties, and scores that are not finite."""

import itertools

import pytest
import torch
from graphs import grid_graph

from afmp.message_passing.neighbours import build_neighbours
from afmp.message_passing.selection import kept_slots, top_k_edges, top_k_edges_of_nodes, top_k_indices


def test_top_k_edges_keeps_the_highest_of_every_image():
    tables, edge_slots = build_neighbours(*grid_graph())
    num_edges = len(edge_slots)
    scores = torch.randn(2, 2, *tables.nbr.shape, generator=torch.Generator().manual_seed(0))
    scores[:, :, ~tables.valid] = 100.0  # an empty slot is never kept, whatever its score
    for k in range(num_edges + 1):
        keep = top_k_edges(scores, tables.valid, k)
        kept = keep.flatten(2).flatten(0, 1)
        assert torch.equal(kept_slots(keep, k).flatten(), kept.nonzero()[:, 1])
        assert kept.sum(dim=1).tolist() == [k] * 4
        assert not kept[:, ~tables.valid.flatten()].any()
        of_edges = scores.flatten(2).flatten(0, 1)[:, edge_slots]
        expected = torch.zeros_like(of_edges, dtype=torch.bool).scatter(1, of_edges.topk(k).indices, True)
        assert torch.equal(kept[:, edge_slots], expected)


def test_of_equal_scores_the_lower_edge_is_kept():
    tables, edge_slots = build_neighbours(*grid_graph())
    first = torch.arange(len(edge_slots))
    equal = torch.zeros(1, 1, *tables.nbr.shape)
    for k in (1, 7, len(edge_slots)):
        assert torch.equal(top_k_edges(equal, tables.valid, k).flatten()[edge_slots], first < k)
    # Two edges are higher, all others equal: these two are kept, and the first of the others.
    equal.view(-1)[edge_slots[[5, 9]]] = 1.0
    kept = top_k_edges(equal, tables.valid, 4).flatten()[edge_slots]
    assert kept.nonzero()[:, 0].tolist() == [0, 1, 5, 9]


@pytest.mark.parametrize("extreme", [0.0, torch.nan, torch.inf, -torch.inf])
def test_the_best_of_each_node_are_the_first_of_a_stable_sort(extreme):
    tables, _ = build_neighbours(*grid_graph())
    scores = torch.randn(2, 3, *tables.nbr.shape, generator=torch.Generator().manual_seed(0)).round()
    scores[1, ..., ::3] = extreme
    ranked = scores.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-1e9).masked_fill(~tables.valid, -torch.inf)
    rank = ranked.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    for k in range(1, tables.nbr.shape[1] + 2):
        assert torch.equal(top_k_edges_of_nodes(scores, tables.valid, k), (rank < k) & tables.valid)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", [0.0, torch.nan, torch.inf, -torch.inf])
def test_top_k_indices_are_those_of_the_kept_edges(extreme, dtype):
    scores = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    scores[0] = scores[0].round()  # many equal scores
    scores[1, :, ::3] = extreme
    valid = torch.ones(40, 1, dtype=torch.bool)
    for k in range(1, 41):
        assert torch.equal(top_k_indices(scores, k), kept_slots(top_k_edges(scores[..., None], valid, k), k))


@pytest.mark.parametrize("extreme", [torch.nan, torch.inf, -torch.inf])
def test_exactly_k_edges_are_kept_of_scores_that_are_not_finite(extreme):
    tables, edge_slots = build_neighbours(*grid_graph())
    for num_extreme, k in itertools.product((1, 6, len(edge_slots)), (1, 4, 10)):
        scores = torch.randn(1, 1, *tables.nbr.shape, generator=torch.Generator().manual_seed(0))
        scores.view(-1)[edge_slots[-num_extreme:]] = extreme
        keep = top_k_edges(scores, tables.valid, k)
        assert keep.sum() == k
        assert not keep[..., ~tables.valid].any()
        if extreme is torch.nan:
            assert scores[keep].isnan().any(), "a diverged score must not be hidden by pruning"
