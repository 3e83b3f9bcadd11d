"""Edge scores and gated sums with a kernel for each direction, in PyTorch: values, gradients, types and memory."""

import pytest
import torch
from directed_layers import (
    converted,
    graph_of,
    outcome,
    plain_directed_sum,
    plain_edge_scores,
    score_inputs,
    sum_inputs,
)
from plain_layers import DEVICE, GRAPHS

from afmp import AFMP
from afmp.message_passing.directions import pytorch
from afmp.message_passing.directions.pytorch import directed_sum, edge_scores

pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="the path of a CPU")


@pytest.fixture(params=[1 << 18, 40, 1], ids=lambda elements: f"blocks of {elements}")
def block_size(request, monkeypatch):
    """Visit the edges in one block, in several, and one by one."""
    monkeypatch.setattr(pytorch, "ELEMENTS_PER_BLOCK", request.param)


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("predicts", [True, False])
def test_edge_scores_and_their_gradients_equal_the_plain_ones(graph, predicts, block_size):
    graph = graph_of(graph)
    inputs = score_inputs(graph, 2, 3, predicts=predicts)
    assert_equal(outcome(edge_scores, graph, inputs), outcome(plain_edge_scores, graph, inputs))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("keep_share", [None, 0.0, 0.5])
def test_directed_sums_and_their_gradients_equal_the_plain_ones(graph, keep_share, block_size):
    graph = graph_of(graph)
    inputs = sum_inputs(graph, 2, 3, 5, keep_share=keep_share)
    assert_equal(outcome(directed_sum, graph, inputs), outcome(plain_directed_sum, graph, inputs))


@pytest.mark.parametrize("keep_share", [None, 0.5])
@pytest.mark.parametrize("part", [0, 1], ids=["the sums", "the sum of gates"])
def test_either_result_may_be_the_only_one_that_is_used(part, keep_share):
    graph = graph_of("grid")
    inputs = sum_inputs(graph, 2, 2, 5, keep_share=keep_share)

    def one(function):
        return outcome(lambda *arguments, **named: function(*arguments, **named)[part], graph, inputs)

    assert_equal(one(directed_sum), one(plain_directed_sum))


def test_gradients_are_those_of_finite_differences():
    graph = graph_of("lone node")
    for function, inputs in (
        (edge_scores, score_inputs(graph, 1, 1)),
        (directed_sum, sum_inputs(graph, 1, 1, 2, keep_share=0.5)),
    ):
        names = list(inputs)
        keep = {"keep": inputs["keep"]} if "keep" in inputs else {}
        given = [name for name in names[1:] if name != "keep"]

        def computed(first, *rest, function=function, given=given, keep=keep):
            return function(first, graph, **dict(zip(given, rest, strict=True)), **keep)

        assert torch.autograd.gradcheck(computed, [inputs[names[0]], *(inputs[name] for name in given)])


def test_a_graph_without_edges_has_no_messages():
    graph = graph_of("grid")
    nothing = torch.zeros(0, dtype=torch.int64)
    graph = graph._replace(edge_slots=nothing)._replace(
        neighbours=graph.neighbours._replace(valid=torch.zeros_like(graph.neighbours.valid))
    )
    for function, plain, inputs in (
        (edge_scores, plain_edge_scores, score_inputs(graph, 2, 2)),
        (directed_sum, plain_directed_sum, sum_inputs(graph, 2, 2, 5)),
    ):
        assert_equal(outcome(function, graph, inputs), outcome(plain, graph, inputs))


def test_a_perfect_prediction_has_zero_error_and_a_finite_gradient():
    graph = graph_of("grid")
    inputs = score_inputs(graph, 2, 2)
    with torch.no_grad():
        inputs["mapped"].view(2, 2, -1, 2, 3, 3)[..., 2, :] = 1.0  # p and z
    found = outcome(edge_scores, graph, inputs)
    assert not found[1].view(2, 2, -1, 2, 3, 3)[..., 2, :].any()
    assert all(torch.isfinite(part).all() for part in found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types_are_summed_in_float32_and_get_gradients_of_their_type(dtype):
    graph = graph_of("grid", torch.float32)
    for function, plain, inputs, result in (
        (edge_scores, plain_edge_scores, score_inputs(graph, 2, 2, dtype=dtype), torch.float32),
        (directed_sum, plain_directed_sum, sum_inputs(graph, 2, 2, 5, dtype=dtype, keep_share=0.5), dtype),
    ):
        found = outcome(function, graph, inputs)
        leaves = [part for part in inputs.values() if part is not None and part.requires_grad]
        assert found[0].dtype == result
        assert [part.dtype for part in found[-len(leaves) :]] == [part.dtype for part in leaves]
        exact = outcome(plain, graph_of("grid"), converted(inputs, torch.float64))
        tolerance = 8 * torch.finfo(dtype).eps
        for ours, theirs in zip(found, exact, strict=True):
            assert (ours.double() - theirs).norm() <= tolerance * theirs.norm()


def test_the_same_inputs_give_the_same_bits():
    graph = graph_of("17 slots per node", torch.float32)
    for function, inputs in (
        (edge_scores, score_inputs(graph, 2, 16, dtype=torch.float32)),
        (directed_sum, sum_inputs(graph, 2, 16, 32, dtype=torch.float32)),
    ):
        first, second = (outcome(function, graph, inputs) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("settings", [{"is_sparse": False}, {"edges_per_node": 3}], ids=str)
def test_no_tensor_of_edges_times_channels_is_kept_for_the_backward_pass(settings):
    model = AFMP(1, 64, img_size=32, patch_size=4, semantics="refined", use_top_down=False, **settings)
    layer, state, sizes = model.layers[0], torch.randn(4, 64, 64, requires_grad=True), []
    limit = state.shape[0] * model.num_directed_edges * state.shape[2]

    def largest() -> int:
        sizes.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda part: sizes.append(part.numel()), lambda _: None):
            layer(state, model.graph)
        return max(sizes)

    assert largest() < limit / 2
    layer.router.w.register_forward_hook(lambda *_: None)  # the plain path does keep one
    assert largest() >= limit
