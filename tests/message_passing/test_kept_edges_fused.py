"""The fused layer that keeps few edges per image, against the plain layer."""

import pytest
import torch
from fused_layers import (
    FUSED_CASES,
    assert_at_most_twice_as_far_off,
    assert_equals_the_reference,
    kept_edges,
    kept_edges_layer,
)
from graphs import grid_graph
from plain_layers import (
    DEVICE,
    LinearMap,
    convert,
    layer_inputs,
    leaves_of,
    packed,
    packed_tensors,
    results,
    tables_of,
)

from afmp.message_passing.kept_edges import selection
from afmp.message_passing.neighbours import build_neighbours
from afmp.message_passing.selection import top_k_edges


@pytest.mark.parametrize(("graph", "sizes"), FUSED_CASES)
@pytest.mark.parametrize("predicts", [True, False])
def test_a_layer_equals_the_reference(graph, sizes, predicts):
    tables, edge_slots = tables_of(graph)
    state, weights = layer_inputs(len(tables.nbr), *sizes, predicts=predicts)
    for k in {1, 2, len(edge_slots)} if graph == "grid" else {2, len(edge_slots)}:
        inputs, exact_inputs = convert(state, weights, torch.float32), convert(state, weights, torch.float64)
        output = kept_edges_layer(*inputs, tables, k)
        assert (output.keep.flatten(2).sum(-1) == k).all()
        assert torch.equal(output.keep, top_k_edges(output.scores, tables.valid, k))
        assert_equals_the_reference(output, inputs, exact_inputs, graph)


@pytest.mark.long
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("graph", ["grid", "lone node"])
def test_half_precision_is_at_most_twice_as_far_off_as_plain_pytorch(graph, dtype):
    tables, _ = tables_of(graph)
    # Many models, because some gradients are one number per model, whose error is a matter of luck.
    state, weights = layer_inputs(len(tables.nbr), 16, 1, 24)
    inputs = convert(state, weights, dtype)
    output = kept_edges_layer(*inputs, tables, 3)
    assert_at_most_twice_as_far_off(output, inputs, state, weights, graph, dtype)


def test_the_same_inputs_give_the_same_bits():
    tables, _ = tables_of("grid")
    images = 4 if DEVICE == "cuda" else 1  # the interpreter runs one program after another
    inputs = convert(*layer_inputs(len(tables.nbr), 2, images, 20), torch.float32)
    first, second = (results(kept_edges_layer(*inputs, tables, 4), leaves_of(*inputs)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_perfect_prediction_has_a_finite_gradient():
    tables, _ = tables_of("grid")
    state, weights = layer_inputs(len(tables.nbr), 1, 1, 16)
    weights = weights._replace(prediction=LinearMap(torch.zeros(1, 16, 16), torch.ones(1, 16)))
    inputs = convert(torch.ones_like(state), weights, torch.float32)
    assert all(part.isfinite().all() for part in results(kept_edges_layer(*inputs, tables, 5), leaves_of(*inputs)))


@pytest.mark.parametrize("predicts", [True, False])
def test_pytorch_accepts_the_operator(predicts):
    tables, _ = tables_of("two nodes")
    state, weights = convert(*layer_inputs(len(tables.nbr), 2, 1, 16, predicts=predicts), torch.float32)
    weight, bias, *edge_weights = packed_tensors(packed(weights))
    weight, bias = (part.detach().requires_grad_() for part in (weight, bias))
    torch.library.opcheck(kept_edges.kept_edges_layer, (state, weight, bias, *edge_weights, *tables, 1, predicts))


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_properties(0).total_memory < 70e9,
    reason="needs a CUDA GPU with 70 GB",
)
@pytest.mark.parametrize(
    ("pixels", "width", "images", "k"),
    [
        pytest.param((56, 56), 512, 2**31 // (196 * 512) + 2, 58, id="2^31 elements in a tensor"),
        pytest.param((16, 24), 16, 2**16 + 1, 5, id="2^16 images"),
    ],
)
def test_large_batches_overflow_neither_32_bit_offsets_nor_a_grid_axis(pixels, width, images, k, monkeypatch):
    monkeypatch.setattr(selection, "MAX_BLOCK", 64)  # several programs per image
    tables, _ = build_neighbours(*grid_graph(pixels))
    tables = type(tables)(*(table.to(DEVICE) for table in tables))
    state, weights = convert(*layer_inputs(len(tables.nbr), 1, 1, width), torch.bfloat16)
    repeated = state.detach().expand(1, images, -1, -1).contiguous().requires_grad_()
    output = kept_edges_layer(repeated, weights, tables, k)
    (gradient,) = torch.autograd.grad(output.state, repeated, torch.ones_like(output.state))
    # All images are the same one, so the results beyond the limit must equal those before it.
    for part in (output.state, output.scores, output.keep, gradient):
        assert torch.equal(part[:, 0], part[:, -1]) and part[:, -1].any()
