"""The layer that keeps few edges per image in PyTorch, on a CPU, against the plain layer."""

import pytest
import torch
from plain_layers import (
    CASES,
    LinearMap,
    convert,
    layer_inputs,
    leaves_of,
    packed_for_cpu,
    reference_layer,
    relative_error,
    results,
    tables_of,
)

from afmp.message_passing.kept_edges import pytorch as kept_edges
from afmp.message_passing.layer import message_passing_layer
from afmp.message_passing.neighbours import Graph
from afmp.message_passing.selection import top_k_edges

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="plain_layers puts layers on the GPU")


def kept_edges_layer(state, weights, tables, edge_slots, k):
    return message_passing_layer(state, packed_for_cpu(weights), Graph(tables, edge_slots), k=k)


@pytest.mark.parametrize(("graph", "sizes"), CASES)
@pytest.mark.parametrize("predicts", [True, False])
@pytest.mark.parametrize("edges_per_block", [7, 1024])
def test_a_layer_equals_the_reference(graph, sizes, predicts, edges_per_block, monkeypatch):
    monkeypatch.setattr(kept_edges, "EDGES_PER_BLOCK", edges_per_block)
    tables, edge_slots = tables_of(graph, torch.float64)
    inputs = convert(*layer_inputs(len(tables.nbr), *sizes, predicts=predicts), torch.float64)
    for k in {1, 2, len(edge_slots)}:
        found, exact = kept_edges_layer(*inputs, tables, edge_slots, k), reference_layer(*inputs, tables, k=k)
        assert (found.keep.flatten(2).sum(-1) == k).all()
        assert torch.equal(found.keep, exact.keep)
        torch.testing.assert_close(found.scores, exact.scores, rtol=1e-10, atol=1e-12)
        for ours, theirs in zip(results(found, leaves_of(*inputs)), results(exact, leaves_of(*inputs)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("images", [3, 5])
def test_the_last_block_may_have_fewer_images(images, monkeypatch):
    tables, edge_slots = tables_of("grid", torch.float64)
    monkeypatch.setattr(kept_edges, "EDGES_PER_BLOCK", 2 * len(edge_slots))
    inputs = convert(*layer_inputs(len(tables.nbr), 2, images, 24), torch.float64)
    found, exact = kept_edges_layer(*inputs, tables, edge_slots, 3), reference_layer(*inputs, tables, k=3)
    for ours, theirs in zip(results(found, leaves_of(*inputs)), results(exact, leaves_of(*inputs)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_at_most_twice_as_far_off_as_plain_pytorch(dtype):
    tables, edge_slots = tables_of("grid")
    state, weights = layer_inputs(len(tables.nbr), 2, 8, 24)
    inputs = [convert(state, weights, kind) for kind in (dtype, dtype, torch.float64)]
    ours = kept_edges_layer(*inputs[0], tables, edge_slots, 3)
    assert torch.equal(ours.keep, top_k_edges(ours.scores, tables.valid, 3))
    plain, exact = (
        reference_layer(*inputs[i], tables_of("grid", kind)[0], keep=ours.keep)
        for i, kind in ((1, torch.float32), (2, torch.float64))
    )
    layers = zip((ours, plain, exact), inputs, strict=True)
    for found, theirs, truth in zip(*(results(passed, leaves_of(*given)) for passed, given in layers), strict=True):
        assert relative_error(found, truth) <= 2 * max(relative_error(theirs, truth), torch.finfo(dtype).eps)


def test_the_same_inputs_give_the_same_bits():
    tables, edge_slots = tables_of("grid")
    inputs = convert(*layer_inputs(len(tables.nbr), 2, 4, 20), torch.float32)
    first, second = (results(kept_edges_layer(*inputs, tables, edge_slots, 4), leaves_of(*inputs)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_perfect_prediction_has_a_finite_gradient():
    tables, edge_slots = tables_of("grid")
    state, weights = layer_inputs(len(tables.nbr), 1, 2, 16)
    weights = weights._replace(prediction=LinearMap(torch.zeros(1, 16, 16), torch.ones(1, 16)))
    inputs = convert(torch.ones_like(state), weights, torch.float32)
    assert all(
        part.isfinite().all() for part in results(kept_edges_layer(*inputs, tables, edge_slots, 5), leaves_of(*inputs))
    )


def test_the_loss_may_read_any_one_output():
    tables, edge_slots = tables_of("grid")
    state, weights = convert(*layer_inputs(len(tables.nbr), 1, 2, 16), torch.float64)
    for part in ("state", "mean", "gate_sum"):
        gradients = [
            torch.autograd.grad(getattr(passed, part).square().sum(), state)[0]
            for passed in (
                kept_edges_layer(state, weights, tables, edge_slots, 4),
                reference_layer(state, weights, tables, k=4),
            )
        ]
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("models", [1, 2])
def test_a_compiled_layer_is_one_graph_and_gives_the_same(models):
    tables, edge_slots = tables_of("grid")
    inputs = convert(*layer_inputs(len(tables.nbr), models, 2, 16), torch.float32)
    plain = results(kept_edges_layer(*inputs, tables, edge_slots, 4), leaves_of(*inputs))
    compiled = torch.compile(kept_edges_layer, backend="aot_eager", fullgraph=True)
    compiled = results(compiled(*inputs, tables, edge_slots, 4), leaves_of(*inputs))
    for ours, theirs in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_empty_batch_and_states_that_are_not_contiguous():
    tables, edge_slots = tables_of("grid", torch.float64)
    state, weights = convert(*layer_inputs(len(tables.nbr), 2, 2, 16), torch.float64)
    assert kept_edges_layer(state[:, :0], weights, tables, edge_slots, 4).state.shape == (2, 0, len(tables.nbr), 16)
    shared = state[:1].expand(2, -1, -1, -1)
    torch.testing.assert_close(
        kept_edges_layer(shared, weights, tables, edge_slots, 4).state,
        reference_layer(shared, weights, tables, k=4).state,
    )
