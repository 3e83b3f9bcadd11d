"""Fused edge scores and gated sums with a kernel for each direction, against plain edges x channels."""

import copy

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
from fused_layers import DEVICE, FUSED_CASES, compiled_operators
from plain_layers import relative_error

from afmp import AFMP
from afmp.message_passing import implementation, launch
from afmp.message_passing.directions import fused
from afmp.message_passing.directions.fused import directed_sum, edge_scores
from afmp.model.stack import stack_models

KINDS = {
    "k per image": {},
    "all edges": {"is_sparse": False},
    "k per node": {"edges_per_node": 2},
    "no router": {"routing": "none", "is_sparse": False},
    "no messages": {"messages": False},
    "no errors": {"use_errors": False, "is_sparse": False},
}


def assert_close(function, plain, name, inputs, tolerance=1e-4):
    """Compare with the plain function in float64, gradients included."""
    found = outcome(function, graph_of(name, torch.float32), inputs)
    exact = outcome(plain, graph_of(name), converted(inputs, torch.float64))
    for ours, theirs in zip(found, exact, strict=True):
        assert relative_error(ours, theirs) < tolerance


@pytest.mark.parametrize(("graph", "sizes"), FUSED_CASES)
@pytest.mark.parametrize("predicts", [True, False])
@pytest.mark.parametrize("chunks", [(1, 3), (2, 2)])
def test_edge_scores_equal_the_plain_ones(graph, sizes, predicts, chunks, monkeypatch):
    monkeypatch.setattr(fused, "chunks_of_direction", lambda *_: chunks)
    inputs = score_inputs(graph_of(graph), *sizes[:2], predicts=predicts, dtype=torch.float32)
    assert_close(edge_scores, plain_edge_scores, graph, inputs)


@pytest.mark.parametrize(("graph", "sizes"), FUSED_CASES)
@pytest.mark.parametrize(("keep_share", "rows", "chunks"), [(None, 4, (1, 1)), (0.0, 4, (1, 3)), (0.5, 2, (2, 2))])
def test_directed_sums_equal_the_plain_ones(graph, sizes, keep_share, rows, chunks, monkeypatch):
    monkeypatch.setattr(fused, "NODES_PER_TILE", rows)
    monkeypatch.setattr(fused, "EDGES_PER_TILE", rows)
    monkeypatch.setattr(launch, "MAX_CHANNELS_PER_TILE", 32)  # several blocks of channels
    monkeypatch.setattr(fused, "chunks_of_direction", lambda *_: chunks)
    inputs = sum_inputs(graph_of(graph), *sizes, keep_share=keep_share, dtype=torch.float32)
    assert_close(directed_sum, plain_directed_sum, graph, inputs)


def test_the_router_of_the_model_is_one_tile_wide():
    inputs = score_inputs(graph_of("grid"), 1, 2, rank=16, dtype=torch.float32)
    assert_close(edge_scores, plain_edge_scores, "grid", inputs)


@pytest.mark.parametrize("part", [0, 1], ids=["the sums", "the sum of gates"])
def test_either_result_may_be_the_only_one_that_is_used(part):
    inputs = sum_inputs(graph_of("grid"), 1, 2, 16, keep_share=0.5, dtype=torch.float32)

    def one(function):
        return lambda *arguments, **named: function(*arguments, **named)[part]

    assert_close(one(directed_sum), one(plain_directed_sum), "grid", inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.long)])
def test_half_precision_is_at_most_twice_as_far_off_as_plain_pytorch(dtype):
    graph, exact_graph = graph_of("grid", torch.float32), graph_of("grid")
    # Many models, because some gradients are one number per model, whose error is a matter of luck.
    for function, plain, inputs in (
        (edge_scores, plain_edge_scores, score_inputs(graph, 16, 1, dtype=dtype)),
        (directed_sum, plain_directed_sum, sum_inputs(graph, 16, 1, 24, dtype=dtype, keep_share=0.5)),
    ):
        exact = outcome(plain, exact_graph, converted(inputs, torch.float64))
        # Hardware rounds to bfloat16, but Triton's interpreter truncates: its error is up to one unit in the last
        # place.
        truncates = dtype == torch.bfloat16 and DEVICE == "cpu"
        least = torch.finfo(dtype).eps / (1 if truncates else 8)
        results = outcome(function, graph, inputs), outcome(plain, graph, inputs), exact
        for found, theirs, truth in zip(*results, strict=True):
            assert found.dtype == theirs.dtype
            assert relative_error(found, truth) <= 2 * max(relative_error(theirs, truth), least)


def test_a_perfect_prediction_has_zero_error_and_a_finite_gradient():
    inputs = score_inputs(graph_of("grid"), 1, 1, dtype=torch.float32)
    with torch.no_grad():
        inputs["mapped"].view(1, 1, -1, 2, 3, 3)[..., 2, :] = 1.0  # p and z
    found = outcome(edge_scores, graph_of("grid", torch.float32), inputs)
    assert not found[1].view(1, 1, -1, 2, 3, 3)[..., 2, :].any()
    assert all(torch.isfinite(part).all() for part in found)


def test_the_same_inputs_give_the_same_bits():
    graph = graph_of("grid", torch.float32)
    for function, inputs in (
        (edge_scores, score_inputs(graph, 2, 2, dtype=torch.float32)),
        (directed_sum, sum_inputs(graph, 2, 2, 20, dtype=torch.float32)),
    ):
        first, second = (outcome(function, graph, inputs) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_tensor_of_edges_times_channels_is_kept_for_the_backward_pass():
    graph = graph_of("grid", torch.float32)
    inputs, sizes = sum_inputs(graph, 1, 2, 64, dtype=torch.float32), []
    with torch.autograd.graph.saved_tensors_hooks(lambda part: sizes.append(part.numel()), lambda _: None):
        directed_sum(inputs.pop("nodes"), graph, **inputs)
    assert max(sizes) < 2 * len(graph.edge_slots) * 64 / 2


@pytest.mark.parametrize("predicts", [True, False])
def test_pytorch_accepts_the_operators(predicts):
    graph = graph_of("two nodes", torch.float32)
    nbr, valid, rev, _ = graph.neighbours
    tables = (graph.offset_index, graph.direction_slots, graph.direction_start)
    scores = score_inputs(graph, 2, 1, predicts=predicts, dtype=torch.float32)
    torch.library.opcheck(fused.directed_scores_operator, (*scores.values(), nbr, valid, rev, *tables))
    sums = sum_inputs(graph, 2, 1, 16, dtype=torch.float32)
    sums["keep"] = valid
    torch.library.opcheck(fused.directed_sum_operator, (*sums.values(), nbr, rev, *tables))


def small_model(models, **kind):
    torch.manual_seed(0)
    kind = {"sparsity": 0.8, "lambda_sparse": 0.5} | kind
    parts = [
        AFMP(2, 20, img_size=(8, 12), patch_size=4, num_classes=5, semantics="refined", **kind)
        for _ in range(models or 1)
    ]
    return (parts[0] if models is None else stack_models(parts)).to(DEVICE)


def images_of(model, count=2):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*([model.num_models] if model.is_stack else []), count, 3, 8, 12, generator=generator).to(DEVICE)


def passed(model, images):
    logits, sparsity_loss = model.forward_train(images)
    target = logits.square().sum() + sparsity_loss.sum() * 1e3
    return [
        logits,
        sparsity_loss,
        *torch.autograd.grad(target, [p for p in model.parameters() if p.requires_grad], materialize_grads=True),
    ]


@pytest.mark.parametrize(("kind", "models"), [*((kind, 2) for kind in KINDS), ("all edges", None), ("all edges", 1)])
def test_a_model_gives_the_same_with_the_fused_kernels(kind, models, monkeypatch):
    model = small_model(models, **KINDS[kind])
    exact = passed(copy.deepcopy(model).double(), images_of(model).double())
    monkeypatch.setattr(implementation, "uses_triton", lambda state: True)
    for ours, theirs in zip(passed(model, images_of(model)), exact, strict=True):
        assert relative_error(ours, theirs) < 1e-4


def test_recomputed_layers_have_the_same_gradients(monkeypatch):
    monkeypatch.setattr(implementation, "uses_triton", lambda state: True)
    model = small_model(None, edges_per_node=2)
    kept = passed(model, images_of(model))
    model.set_grad_checkpointing()
    assert all(torch.equal(*pair) for pair in zip(passed(model, images_of(model)), kept, strict=True))


def test_random_edges_are_as_many_as_the_budget_says(monkeypatch):
    """Which edges they are depends on how a score is rounded."""
    monkeypatch.setattr(implementation, "uses_triton", lambda state: True)
    model = small_model(None, edges_per_node=2, routing="random")
    gates = model.forward_internals(images_of(model)).gates
    assert all((layer.amax(dim=2) > 0).sum(dim=1).tolist() == [model.top_k] * 2 for layer in gates)


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("kind", ["all edges", "k per node", pytest.param("no router", marks=pytest.mark.long)])
def test_a_model_compiles_as_one_graph(kind, is_fused, monkeypatch):
    if not (is_fused and DEVICE == "cuda"):  # there the model itself decides, which must not break the graph
        monkeypatch.setattr(implementation, "uses_triton", lambda state: is_fused)
    model = small_model(1, **KINDS[kind])
    (logits, _), operators = compiled_operators(model.forward_train, images_of(model))
    assert logits.isfinite().all() and bool(operators) is is_fused


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("models", [1, 2])
def test_an_empty_batch_has_gradients_of_zero(models, is_fused, monkeypatch):
    monkeypatch.setattr(implementation, "uses_triton", lambda state: is_fused)
    model = small_model(models)
    found = passed(model, images_of(model, 0))
    assert found[0].shape == (models, 0, 5) and not any(part.any() for part in found[2:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_a_pass_by_rounding_only(dtype, monkeypatch):
    monkeypatch.setattr(implementation, "uses_triton", lambda state: True)
    model = small_model(None, is_sparse=False)
    wide = model(images_of(model))
    with torch.autocast(DEVICE, dtype):
        narrow = model(images_of(model))
    assert relative_error(narrow, wide.double()) < 16 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_accepts_states_in_float32_and_has_their_gradient(dtype):
    model = small_model(None, is_sparse=False)
    state = torch.randn(2, 6, 20, generator=torch.Generator().manual_seed(3)).to(DEVICE).requires_grad_()
    gradients = []
    for enabled in (False, True):
        with torch.autocast(DEVICE, dtype, enabled=enabled):
            output = model.layers[0](state, model.graph).state
        gradients += torch.autograd.grad(output.float().square().sum(), state)
    assert gradients[1].dtype == torch.float32
    assert relative_error(gradients[1], gradients[0].double()) < 16 * torch.finfo(dtype).eps
