"""The hot operation: tables, the choice of edges, and both functions with their gradients."""

import itertools
import operator

import pytest
import torch
from graphs import grid_graph, lone_node_graph
from plain_layers import plain_edge_scores, plain_gated_sum
from torch._subclasses.fake_tensor import FakeTensorMode

from afmp.message_passing.all_edges.pytorch import edge_scores, gated_sum
from afmp.message_passing.neighbours import GRID_DEGREE, build_neighbours
from afmp.message_passing.selection import kept_slots, top_k_edges, top_k_indices
from afmp.message_passing.weights import ScoreWeights, fold_query
from afmp.model.router import PredictiveRouter

HIDDEN = 3


GRAPHS = {
    "grid": grid_graph(),
    "lone node": lone_node_graph(),
    "no edges": grid_graph(4),
    "wider than the grid's": grid_graph((4, 40), scaffold="window", window_size=9),
}


def inputs(tables, *, d_model=3, num_models=2, num_images=2, dtype=torch.float64):
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
def test_tables_hold_every_edge_and_its_opposite(graph):
    directed, positions = GRAPHS[graph]
    tables, edge_slots = build_neighbours(directed, positions)
    num_nodes, width = tables.nbr.shape
    degree = torch.bincount(torch.cat([directed, directed.flip(0)], 1).unique(dim=1)[0], minlength=num_nodes)
    assert width == max(GRID_DEGREE, degree.max())
    nbr, rev, valid = tables.nbr.flatten(), tables.rev.flatten(), tables.valid.flatten()
    receiver = torch.arange(num_nodes).repeat_interleave(width)

    # edge_slots: slot of each listed edge, in the list's order; these and no other slots are valid.
    assert torch.equal(torch.stack([receiver[edge_slots], nbr[edge_slots]]), directed)
    assert torch.equal(valid.nonzero()[:, 0], edge_slots.sort().values)
    # rev is an involution between opposite slots; an empty slot is its own, and holds its own node.
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


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("first_layer", [True, False])
def test_edge_scores_gradcheck(graph, first_layer):
    tables, _ = build_neighbours(*GRAPHS[graph])
    incoming, outgoing, state, prediction, weights = inputs(tables, num_images=1)
    surprise = () if first_layer else (state, prediction)

    def scores(incoming, outgoing, *rest):
        parts = dict(zip(("state", "prediction"), rest[: len(surprise)], strict=False))
        return edge_scores(incoming, outgoing, ScoreWeights(*rest[len(surprise) :]), tables, **parts)

    if first_layer:  # there is no error, so its weight has no gradient
        weights = weights._replace(error=weights.error.detach())
    assert torch.autograd.gradcheck(scores, (incoming, outgoing, *surprise, *weights))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("keep_share", [0.0, 0.4, 1.0])
def test_gated_sum_gradcheck(graph, keep_share):
    tables, _ = build_neighbours(*GRAPHS[graph])
    message, scores, keep, weight, bias = gate_inputs(tables, keep_share, num_images=1)

    def summed(message, scores, weight, bias):
        return gated_sum(message, scores, keep, weight, bias, tables)

    assert torch.autograd.gradcheck(summed, (message, scores, weight, bias))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("d_model", [1, 12])
def test_operation_equals_the_reference(graph, d_model):
    tables, _ = build_neighbours(*GRAPHS[graph])
    incoming, outgoing, state, prediction, weights = inputs(tables, d_model=d_model)
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
    incoming, outgoing, _, _, weights = inputs(tables)
    state = torch.ones(2, 2, len(tables.nbr), 3, dtype=torch.float64, requires_grad=True)
    prediction = torch.ones_like(state, requires_grad=True)
    edge_scores(incoming, outgoing, weights, tables, state=state, prediction=prediction).sum().backward()
    assert not state.grad.any()
    assert not prediction.grad.any()
    assert all(torch.isfinite(tensor.grad).all() for tensor in (incoming, outgoing, *weights))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32_and_returns_gradients_in_kind(dtype):
    tables, _ = build_neighbours(*GRAPHS["grid"])
    tables = tables._replace(dist=tables.dist.float())
    incoming, outgoing, state, prediction, weights = inputs(tables, dtype=dtype)
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


def test_the_same_bits_every_time():
    tables, _ = build_neighbours(*grid_graph((32, 32)))
    tables = tables._replace(dist=tables.dist.float())
    runs = []
    for _ in range(2):
        incoming, outgoing, state, prediction, weights = inputs(tables, dtype=torch.float32)
        scores = edge_scores(incoming, outgoing, weights, tables, state=state, prediction=prediction)
        keep = top_k_edges(scores, tables.valid, 20)
        total, gate_sum = gated_sum(state, scores, keep, torch.ones(2, 3), torch.ones(2, 3), tables)
        runs.append([scores, total, *torch.autograd.grad(total.sum() + gate_sum.sum(), (incoming, state, *weights))])
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


def test_top_k_keeps_the_highest_of_every_image():
    tables, edge_slots = build_neighbours(*GRAPHS["grid"])
    num_edges = len(edge_slots)
    scores = torch.randn(2, 2, *tables.nbr.shape, generator=torch.Generator().manual_seed(0))
    scores[:, :, ~tables.valid] = 100.0  # an empty slot is never chosen, whatever stands there
    for k in range(num_edges + 1):
        keep = top_k_edges(scores, tables.valid, k)
        kept = keep.flatten(2).flatten(0, 1)
        assert torch.equal(kept_slots(keep, k).flatten(), kept.nonzero()[:, 1])
        assert kept.sum(dim=1).tolist() == [k] * 4
        assert not kept[:, ~tables.valid.flatten()].any()
        of_edges = scores.flatten(2).flatten(0, 1)[:, edge_slots]
        expected = torch.zeros_like(of_edges, dtype=torch.bool).scatter(1, of_edges.topk(k).indices, True)
        assert torch.equal(kept[:, edge_slots], expected)


def test_top_k_breaks_ties_by_the_lower_edge():
    tables, edge_slots = build_neighbours(*GRAPHS["grid"])
    first = torch.arange(len(edge_slots))
    equal = torch.zeros(1, 1, *tables.nbr.shape)
    for k in (1, 7, len(edge_slots)):
        assert torch.equal(top_k_edges(equal, tables.valid, k).flatten()[edge_slots], first < k)
    # Two stand out, the rest tie: the two, and the first of the rest.
    equal.view(-1)[edge_slots[[5, 9]]] = 1.0
    kept = top_k_edges(equal, tables.valid, 4).flatten()[edge_slots]
    assert kept.nonzero()[:, 0].tolist() == [0, 1, 5, 9]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", [0.0, torch.nan, torch.inf, -torch.inf])
def test_the_numbers_of_the_best_edges_are_those_that_are_kept(extreme, dtype):
    scores = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    scores[0] = scores[0].round()  # many are equal
    scores[1, :, ::3] = extreme
    valid = torch.ones(40, 1, dtype=torch.bool)
    for k in range(1, 41):
        assert torch.equal(top_k_indices(scores, k), kept_slots(top_k_edges(scores[..., None], valid, k), k))


@pytest.mark.parametrize("extreme", [torch.nan, torch.inf, -torch.inf])
def test_exactly_k_survive_scores_that_are_not_finite(extreme):
    tables, edge_slots = build_neighbours(*GRAPHS["grid"])
    for num_extreme, k in itertools.product((1, 6, len(edge_slots)), (1, 4, 10)):
        scores = torch.randn(1, 1, *tables.nbr.shape, generator=torch.Generator().manual_seed(0))
        scores.view(-1)[edge_slots[-num_extreme:]] = extreme
        keep = top_k_edges(scores, tables.valid, k)
        assert keep.sum() == k
        assert not keep[..., ~tables.valid].any()
        if extreme is torch.nan:
            assert scores[keep].isnan().any(), "a diverged score must not be pruned out of sight"


@pytest.mark.parametrize(("precision", "dtype"), [("highest", torch.float32), ("high", torch.float64)])
def test_u_is_folded_without_tf32_in_one_graph(precision, dtype):
    """The product as torch.compile finds it; tensors are said to be on CUDA, which alone has TF32."""
    found = []

    def look(graph, _):
        found.extend(n.meta["example_value"].dtype for n in graph.graph.nodes if n.target is operator.matmul)
        return graph.forward

    torch.set_float32_matmul_precision(precision)
    try:
        with FakeTensorMode():
            with torch.device("cuda"):
                router = PredictiveRouter(24)
            fold = torch.compile(fold_query, backend=look, fullgraph=True)
            query = fold(router.U[None], router.W_q.weight[None], router.W_q.bias[None])
    finally:
        torch.set_float32_matmul_precision("highest")
    assert found == [dtype] and query.dtype == torch.float32
