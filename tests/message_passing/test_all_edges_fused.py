"""Fused edge scores and gated sums over all edges, against the plain layer."""

import pytest
import torch
from fused_layers import (
    FUSED_CASES,
    all_edges,
    all_edges_layer,
    assert_at_most_twice_as_far_off,
    assert_equals_the_reference,
)
from plain_layers import DEVICE, HIDDEN, convert, layer_inputs, leaves_of, results, tables_of


@pytest.mark.parametrize(("graph", "sizes"), FUSED_CASES)
@pytest.mark.parametrize("predicts", [True, False])
@pytest.mark.parametrize(("keep_share", "rows"), [(0.0, 1), (0.5, 3), (1.0, 1)])
def test_a_layer_equals_the_reference(graph, sizes, predicts, keep_share, rows, monkeypatch):
    monkeypatch.setattr(all_edges, "rows_per_program", lambda rows_per_model: rows)  # 1 below 2,048 rows per model
    tables, _ = tables_of(graph)
    state, weights = layer_inputs(len(tables.nbr), *sizes, predicts=predicts)
    generator = torch.Generator().manual_seed(3)
    keep = (torch.rand(*sizes[:2], *tables.nbr.shape, generator=generator) < keep_share).to(DEVICE) & tables.valid
    inputs, exact_inputs = convert(state, weights, torch.float32), convert(state, weights, torch.float64)
    output = all_edges_layer(*inputs, tables, keep)
    assert_equals_the_reference(output, inputs, exact_inputs, graph)


@pytest.mark.long
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("graph", ["grid", "lone node"])
def test_half_precision_is_at_most_twice_as_far_off_as_plain_pytorch(graph, dtype):
    tables, _ = tables_of(graph)
    # Many models, because some gradients are one number per model, whose error is a matter of luck.
    state, weights = layer_inputs(len(tables.nbr), 16, 1, 24)
    inputs = convert(state, weights, dtype)
    output = all_edges_layer(*inputs, tables, tables.valid.expand(16, 1, -1, -1))
    assert_at_most_twice_as_far_off(output, inputs, state, weights, graph, dtype)


def test_the_same_inputs_give_the_same_bits():
    tables, _ = tables_of("grid")
    images = 4 if DEVICE == "cuda" else 1  # the interpreter runs one program after another
    inputs = convert(*layer_inputs(len(tables.nbr), 2, images, 20), torch.float32)
    keep = tables.valid.expand(2, images, -1, -1)
    first, second = (results(all_edges_layer(*inputs, tables, keep), leaves_of(*inputs)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("predicts", [True, False])
def test_pytorch_accepts_the_operators(predicts):
    tables, _ = tables_of("two nodes")
    state, weights = convert(*layer_inputs(len(tables.nbr), 2, 1, 16, predicts=predicts), torch.float32)
    incoming, outgoing = (torch.randn(2, 1, 2, 2 * HIDDEN, device=DEVICE, requires_grad=True) for _ in range(2))
    surprise = (state, torch.randn_like(state, requires_grad=True)) if predicts else (None, None)
    torch.library.opcheck(all_edges.edge_scores_operator, (incoming, outgoing, *surprise, *weights.score, *tables))
    scores = torch.randn(2, 1, *tables.nbr.shape, device=DEVICE, requires_grad=True)
    message_index = torch.where(tables.valid, tables.nbr, -1).to(torch.int32).expand(scores.shape).contiguous()
    gates = weights.gate_weight, weights.gate_bias
    torch.library.opcheck(all_edges.gated_sum_operator, (state, scores, message_index, *gates, tables.nbr, tables.rev))


def test_the_first_images_of_several_models_need_not_be_contiguous():
    tables, _ = tables_of("grid")
    state, weights = convert(*layer_inputs(len(tables.nbr), 2, 3, 16), torch.float32)
    incoming, outgoing = (torch.randn(2, 1, len(tables.nbr), 2 * HIDDEN, device=DEVICE) for _ in range(2))
    first, prediction = state[:, :1], torch.randn(2, 1, *state.shape[2:], device=DEVICE)
    outcomes = []
    for given in (first, first.contiguous()):
        scores = all_edges.edge_scores_operator(incoming, outgoing, given, prediction, *weights.score, *tables)
        outcomes.append([scores, *torch.autograd.grad(scores.square().sum(), (state, *weights.score))])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def test_rows_may_have_any_strides():
    tables, _ = tables_of("two nodes")
    state, weights = convert(*layer_inputs(len(tables.nbr), 2, 3, 16), torch.float32)
    mapped = [torch.randn(2, 3, len(tables.nbr), width, device=DEVICE) for width in (2 * HIDDEN, 2 * HIDDEN, 16)]
    layouts = {
        "nodes before images": lambda rows: rows.transpose(1, 2).contiguous().transpose(1, 2),
        "every second image": lambda rows: torch.stack([rows, rows], dim=2).flatten(1, 2)[:, ::2],
        "every second channel": lambda rows: torch.stack([rows, rows], dim=-1).flatten(3)[..., ::2],
    }
    expected = None
    for layout in (lambda rows: rows, *layouts.values()):
        given = [layout(rows.detach()).requires_grad_() for rows in mapped]
        scores = all_edges.edge_scores_operator(*given[:2], state, given[2], *weights.score, *tables)
        found = [scores, *torch.autograd.grad(scores.square().sum(), (*given, state, *weights.score))]
        expected = expected or found
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
