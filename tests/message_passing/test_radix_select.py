"""Selection of the k best edges by Triton, against the selection in PyTorch."""

import pytest
import torch
from fused_layers import DEVICE
from graphs import grid_graph

from afmp.message_passing.kept_edges import selection
from afmp.message_passing.neighbours import build_neighbours
from afmp.message_passing.selection import top_k_edges


@pytest.mark.parametrize("block", [64, 4096])  # of 192 slots per image: three programs, or one
@pytest.mark.parametrize("extreme", [0.0, -0.0, torch.nan, torch.inf, -torch.inf])
def test_exactly_k_edges_are_kept_of_any_scores(extreme, block, monkeypatch):
    monkeypatch.setattr(selection, "MAX_BLOCK", block)
    tables, edge_slots = build_neighbours(*grid_graph((16, 24)))
    valid, num_edges = tables.valid.to(DEVICE), len(edge_slots)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 3, *valid.shape, generator=generator).round(decimals=0).to(DEVICE)
    scores.flatten(2)[:, 1:, ::3] = extreme
    scores.flatten(2)[:, 2, ::2] = 0.0
    for k in (1, 5, num_edges):
        slots, kept_index = selection.select(scores, valid, k)
        keep = top_k_edges(scores, valid, k)
        assert torch.equal(kept_index >= 0, keep)
        assert torch.equal(slots.flatten(0, 1).long(), keep.flatten(2).flatten(0, 1).nonzero()[:, 1].view(-1, k))
        indices = torch.arange(k, device=DEVICE).expand(1, 3, k).int()
        assert torch.equal(kept_index.flatten(2).gather(2, slots.long()), indices)


@pytest.mark.parametrize(
    ("nodes", "block", "max_chunks"),
    [
        pytest.param(24, 16, 128, id="12 chunks"),
        pytest.param(24, 16, 5, id="3 chunks of 4 steps"),
        pytest.param(5000, 32768, 2, id="counts of more than 16 bits"),
    ],
)
@pytest.mark.parametrize("different", [True, False], ids=["few values", "one value"])
def test_the_division_into_chunks_changes_nothing(nodes, block, max_chunks, different, monkeypatch):
    monkeypatch.setattr(selection, "MAX_BLOCK", block)
    monkeypatch.setattr(selection, "MAX_CHUNKS", max_chunks)
    scores = torch.randn(2, 1, nodes, 8, generator=torch.Generator().manual_seed(0)).round(decimals=0).to(DEVICE)
    scores = scores if different else torch.full_like(scores, -2.5)
    valid = (torch.arange(nodes * 8, device=DEVICE) % 7 > 0).view(nodes, 8)
    for k in (20, int(valid.sum()) - 1):  # equal scores on both sides of the borders of chunks and steps
        slots, kept_index = selection.select(scores, valid, k)
        keep = top_k_edges(scores, valid, k)
        assert torch.equal(kept_index >= 0, keep)
        assert torch.equal(slots.flatten(0, 1).long(), keep.flatten(2).flatten(0, 1).nonzero()[:, 1].view(-1, k))


@pytest.mark.parametrize("images", [1, 4, 64, 4096])
@pytest.mark.parametrize("num_slots", [4097, 25_088, 100_352, 401_408, 2**24, 2**30])
def test_an_image_of_any_size_has_few_chunks(num_slots, images):
    chunk = selection.chunk_size(images, num_slots)
    assert chunk >= 1024 and chunk & (chunk - 1) == 0
    assert 2 <= -(-num_slots // chunk) <= 128
