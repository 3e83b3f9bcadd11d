"""Edge scores and gated sums over all edges in PyTorch: values, gradients and types."""

import pytest
import torch
from graphs import grid_graph, lone_node_graph
from plain_layers import plain_edge_scores, plain_gated_sum

from afmp.message_passing.all_edges.pytorch import edge_scores, gated_sum
from afmp.message_passing.neighbours import build_neighbours
from afmp.message_passing.selection import top_k_edges
from afmp.message_passing.weights import ScoreWeights

HIDDEN = 3
GRAPHS = {
    "grid": grid_graph(),
    "lone node": lone_node_graph(),
    "no edges": grid_graph(4),
    "9 slots per node": grid_graph((4, 40), scaffold="window", window_size=9),
}


def score_inputs(tables, *, d_model=3, num_models=2, num_images=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    num_nodes = len(tables.nbr)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    incoming, outgoing = (normal(num_models, num_images, num_nodes, 2 * HIDDEN) for _ in range(2))
    state, prediction = (normal(num_models, num_images, num_nodes, d_model) for _ in range(2))
    weights = ScoreWeights(*(normal(num_models, width) for width in (HIDDEN, HIDDEN, HIDDEN, 1)))
    return incoming, outgoing, state, prediction, weights


def gate_inputs(tables, keep_share, *, d_model=3, num_models=2, num_images=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    message = normal(num_models, num_images, len(tables.nbr), d_model)
    scores = normal(num_models, num_images, *tables.nbr.shape)
    keep = (torch.rand(scores.shape, generator=generator) < keep_share) & tables.valid
    return message, scores, keep, normal(num_models, d_model), normal(num_models, d_model)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("first_layer", [True, False])
def test_edge_scores_have_the_right_gradients(graph, first_layer):
    tables, _ = build_neighbours(*GRAPHS[graph])
    incoming, outgoing, state, prediction, weights = score_inputs(tables, num_images=1)
    surprise = () if first_layer else (state, prediction)

    def scores(incoming, outgoing, *rest):
        parts = dict(zip(("state", "prediction"), rest[: len(surprise)], strict=False))
        return edge_scores(incoming, outgoing, ScoreWeights(*rest[len(surprise) :]), tables, **parts)

    if first_layer:  # without an error, its weight has no gradient
        weights = weights._replace(error=weights.error.detach())
    assert torch.autograd.gradcheck(scores, (incoming, outgoing, *surprise, *weights))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("keep_share", [0.0, 0.4, 1.0])
def test_gated_sums_have_the_right_gradients(graph, keep_share):
    tables, _ = build_neighbours(*GRAPHS[graph])
    message, scores, keep, weight, bias = gate_inputs(tables, keep_share, num_images=1)

    def summed(message, scores, weight, bias):
        return gated_sum(message, scores, keep, weight, bias, tables)

    assert torch.autograd.gradcheck(summed, (message, scores, weight, bias))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("d_model", [1, 12])
def test_scores_and_sums_equal_the_plain_ones(graph, d_model):
    tables, _ = build_neighbours(*GRAPHS[graph])
    incoming, outgoing, state, prediction, weights = score_inputs(tables, d_model=d_model)
    message, scores, keep, weight, bias = gate_inputs(tables, 0.5, d_model=d_model)
    leaves = [incoming, outgoing, state, prediction, *weights, message, scores, weight, bias]
    found, expected = [], []
    for functions, results in (
        ((edge_scores, gated_sum), found),
        ((plain_edge_scores, plain_gated_sum), expected),
    ):
        outputs = [
            functions[0](incoming, outgoing, weights, tables, state=state, prediction=prediction),
            *functions[1](message, scores, keep, weight, bias, tables),
        ]
        generator = torch.Generator().manual_seed(2)
        target = sum(
            (torch.randn(output.shape, generator=generator, dtype=output.dtype) * output).sum() for output in outputs
        )
        results += [*outputs, *torch.autograd.grad(target, leaves)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_a_perfect_prediction_has_zero_error_and_a_finite_gradient():
    tables, _ = build_neighbours(*GRAPHS["grid"])
    incoming, outgoing, _, _, weights = score_inputs(tables)
    state = torch.ones(2, 2, len(tables.nbr), 3, dtype=torch.float64, requires_grad=True)
    prediction = torch.ones_like(state, requires_grad=True)
    edge_scores(incoming, outgoing, weights, tables, state=state, prediction=prediction).sum().backward()
    assert not state.grad.any()
    assert not prediction.grad.any()
    assert all(torch.isfinite(tensor.grad).all() for tensor in (incoming, outgoing, *weights))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32_and_returns_gradients_of_the_inputs_type(dtype):
    tables, _ = build_neighbours(*GRAPHS["grid"])
    tables = tables._replace(dist=tables.dist.float())
    incoming, outgoing, state, prediction, weights = score_inputs(tables, dtype=dtype)
    message, _, keep, weight, bias = gate_inputs(tables, 0.5, dtype=dtype)
    scores = edge_scores(incoming, outgoing, weights, tables, state=state, prediction=prediction)
    total, gate_sum = gated_sum(message, scores, keep, weight, bias, tables)
    assert (scores.dtype, total.dtype, gate_sum.dtype) == (torch.float32, dtype, torch.float32)
    leaves = (incoming, outgoing, state, prediction, *weights, message, weight, bias)
    gradients = torch.autograd.grad(total.float().sum() + gate_sum.sum(), leaves)
    assert all(gradient.dtype == dtype for gradient in gradients)

    wide = [leaf.detach().float() for leaf in leaves]
    expected = edge_scores(*wide[:2], ScoreWeights(*wide[4:8]), tables, state=wide[2], prediction=wide[3])
    torch.testing.assert_close(scores, expected)


def test_the_same_inputs_give_the_same_bits():
    tables, _ = build_neighbours(*grid_graph((32, 32)))
    tables = tables._replace(dist=tables.dist.float())
    runs = []
    for _ in range(2):
        incoming, outgoing, state, prediction, weights = score_inputs(tables, dtype=torch.float32)
        scores = edge_scores(incoming, outgoing, weights, tables, state=state, prediction=prediction)
        keep = top_k_edges(scores, tables.valid, 20)
        total, gate_sum = gated_sum(state, scores, keep, torch.ones(2, 3), torch.ones(2, 3), tables)
        runs.append([scores, total, *torch.autograd.grad(total.sum() + gate_sum.sum(), (incoming, state, *weights))])
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))
