"""Edge scores and gated sums over all edges: Triton kernels, registered as operators of PyTorch.

As operators they work under torch.compile, autocast and CUDA graphs. Inputs may be float32, float16 or bfloat16, and
outputs have the inputs' type. Scores and sums of gates are float32. `all_edges.pytorch` has the equations.

Sizes: M models, B images per model, N nodes per image, K slots per node, D channels, H hidden units of v.
"""

import torch
import triton
from torch import Tensor

from afmp.message_passing.all_edges import gate_kernels, score_kernels
from afmp.message_passing.launch import (
    contiguous,
    evenly_spaced_rows,
    nodes_per_program,
    num_warps,
    row_tile,
    rows_per_program,
    tile_sizes,
)
from afmp.message_passing.neighbours import Neighbours
from afmp.message_passing.weights import ScoreWeights

Optional = Tensor | None
SCORE_CHANNELS_PER_WARP = 512
MESSAGES_PER_GROUP = 4  # messages of one node that are loaded together


def edge_scores(
    incoming: Tensor,
    outgoing: Tensor,
    weights: ScoreWeights,
    tables: Neighbours,
    *,
    state: Optional = None,
    prediction: Optional = None,
) -> Tensor:
    """Return scores (M, B, N, K) of all slots, 0 where `tables.valid` is false.

    incoming, outgoing (M, B, N, 2H); state, prediction (M, B, N, D), None in the first layer.
    """
    surprise = [part if part is None else part.to(incoming.dtype) for part in (state, prediction)]
    return edge_scores_operator(incoming, outgoing, *surprise, *(part.float() for part in weights), *tables)


def gated_sum(
    message: Tensor, scores: Tensor, keep: Tensor, gate_weight: Tensor, gate_bias: Tensor, tables: Neighbours
) -> tuple[Tensor, Tensor]:
    """Return gated messages summed at the receivers (M, B, N, D), and the sum of all gates per image (M, B).

    message (M, B, N, D); scores (M, B, N, K); keep (M, B, N, K) bool; gate_weight, gate_bias (M, D).
    """
    message_index = torch.where(keep, tables.nbr, -1).to(torch.int32).contiguous()
    gates = gate_weight.float(), gate_bias.float()
    return gated_sum_operator(message, scores, message_index, *gates, tables.nbr, tables.rev)


@torch.library.custom_op("afmp::edge_scores", mutates_args=())
def edge_scores_operator(
    incoming: Tensor, outgoing: Tensor, state: Optional, prediction: Optional,
    w_error: Tensor, w_dist: Tensor, w_out: Tensor, out_bias: Tensor,
    nbr: Tensor, valid: Tensor, rev: Tensor, dist: Tensor,
) -> Tensor:  # fmt: skip
    """Return scores (M, B, N, K) float32 of all slots.

    incoming, outgoing (M, B, N, 2H); state, prediction (M, B, N, D) or None; w_error, w_dist, w_out (M, H) and
    out_bias (M, 1) float32; nbr, valid, rev, dist (N, K).
    """
    state = state if state is None else state.contiguous()  # the first images of several models are not contiguous
    w_error, w_dist, w_out, out_bias = contiguous(w_error, w_dist, w_out, out_bias)
    models, images, nodes, width = incoming.shape
    hidden, slots = width // 2, nbr.shape[1]
    scores = incoming.new_empty(models, images, nodes, slots, dtype=torch.float32)
    channels = 1 if state is None else state.shape[-1]
    sizes = tile_sizes(slots, channels, hidden)
    rows, strides = zip(*map(evenly_spaced_rows, (incoming, outgoing, prediction)), strict=True)
    incoming, outgoing, prediction = rows
    score_kernels.score_kernel[(models * images * nodes,)](
        incoming, outgoing, state, prediction, w_error, w_dist, w_out, out_bias, nbr, valid, dist, scores,
        nodes, images * nodes, channels, hidden,
        *strides, K=slots, PREDICTS=state is not None, BLOCK_D=sizes["BLOCK_D"], BLOCK_H=sizes["BLOCK_H"],
        num_warps=min(16, max(1, sizes["BLOCK_D"] // SCORE_CHANNELS_PER_WARP)),
    )  # fmt: skip
    return scores


@edge_scores_operator.register_fake
def _(incoming, outgoing, state, prediction, w_error, w_dist, w_out, out_bias, nbr, valid, rev, dist):
    return incoming.new_empty(*incoming.shape[:3], nbr.shape[1], dtype=torch.float32)


@torch.library.custom_op("afmp::edge_scores_backward", mutates_args=())
def edge_scores_backward(
    d_scores: Tensor, incoming: Tensor, outgoing: Tensor, state: Optional, prediction: Optional,
    w_error: Tensor, w_dist: Tensor, w_out: Tensor,
    nbr: Tensor, valid: Tensor, rev: Tensor, dist: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of incoming, outgoing, state, prediction and the weights, from d_scores (M, B, N, K).

    Without state and prediction, their gradients are empty. That of the weights is (M, 3H + 1), with columns
    [w_error | w_dist | w_out | out_bias].
    """
    state = state if state is None else state.contiguous()
    w_error, w_dist, w_out = contiguous(w_error, w_dist, w_out)
    models, images, nodes, width = incoming.shape
    hidden, slots, per_model = width // 2, nbr.shape[1], images * nodes
    channels = 1 if state is None else state.shape[-1]
    d_incoming, d_outgoing = (incoming.new_empty(incoming.shape) for _ in range(2))
    d_state, d_prediction = (incoming.new_empty(0 if state is None else state.shape) for _ in range(2))
    rows_each = rows_per_program(per_model)
    programs = triton.cdiv(per_model, rows_each)
    partial = incoming.new_empty(models, programs, 3 * hidden + 1, dtype=torch.float32)
    sizes = tile_sizes(slots, channels, hidden)
    rows, strides = zip(*map(evenly_spaced_rows, (incoming, outgoing, prediction)), strict=True)
    incoming, outgoing, prediction = rows
    score_kernels.score_backward_kernel[(programs, models)](
        incoming, outgoing, state, prediction, w_error, w_dist, w_out, nbr, valid, rev, dist, d_scores.contiguous(),
        d_incoming, d_outgoing, d_state, d_prediction, partial,
        nodes, per_model, channels, hidden, slots,
        *strides, PREDICTS=state is not None, BLOCKS=triton.cdiv(slots, sizes["BLOCK_K"]), **sizes,
        ROWS_PER_PROGRAM=rows_each, num_warps=num_warps(sizes["BLOCK_K"], max(sizes["BLOCK_D"], 2 * sizes["BLOCK_H"])),
    )  # fmt: skip
    return d_incoming, d_outgoing, d_state, d_prediction, partial.sum(1)


@edge_scores_backward.register_fake
def _(d_scores, incoming, outgoing, state, prediction, w_error, w_dist, w_out, nbr, valid, rev, dist):
    like_state = [incoming.new_empty(0 if state is None else state.shape) for _ in range(2)]
    sums = incoming.new_empty(len(incoming), 3 * (incoming.shape[-1] // 2) + 1, dtype=torch.float32)
    return incoming.new_empty(incoming.shape), incoming.new_empty(incoming.shape), *like_state, sums


def _save_scores(ctx, inputs, output):
    *tensors, _, nbr, valid, rev, dist = inputs
    ctx.save_for_backward(*tensors, nbr, valid, rev, dist)
    ctx.bias_type = inputs[7].dtype


def _scores_backward(ctx, d_scores):
    incoming, outgoing, state, prediction, w_error, w_dist, w_out, *tables = ctx.saved_tensors
    d_incoming, d_outgoing, d_state, d_prediction, sums = edge_scores_backward(
        d_scores, incoming, outgoing, state, prediction, w_error, w_dist, w_out, *tables
    )
    if state is None:
        d_state = d_prediction = None
    hidden = w_out.shape[1]
    d_error, d_dist, d_out, d_bias = sums.split([hidden, hidden, hidden, 1], dim=1)
    weights = [d.to(w.dtype) for d, w in ((d_error, w_error), (d_dist, w_dist), (d_out, w_out))]
    return d_incoming, d_outgoing, d_state, d_prediction, *weights, d_bias.to(ctx.bias_type), None, None, None, None


edge_scores_operator.register_autograd(_scores_backward, setup_context=_save_scores)


@torch.library.custom_op("afmp::gated_sum", mutates_args=())
def gated_sum_operator(
    message: Tensor, scores: Tensor, message_index: Tensor, gate_weight: Tensor, gate_bias: Tensor,
    nbr: Tensor, rev: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return gated messages summed at the receivers (M, B, N, D), and the sum of all gates per image (M, B) float32.

    message (M, B, N, D); scores (M, B, N, K); message_index (M, B, N, K) int32, `nbr` where a slot is kept, else -1;
    gate_weight, gate_bias (M, D) float32; nbr, rev (N, K).
    """
    models, images, nodes, channels = message.shape
    total = message.new_empty(message.shape)
    nodes_each = nodes_per_program(images * nodes)
    programs = triton.cdiv(nodes, nodes_each)
    gates = scores.new_empty(models, images, programs)
    gate_kernels.gate_kernel[(models * images * programs,)](
        *contiguous(message, scores, message_index, gate_weight, gate_bias), total, total, total, gates, gates,
        nodes, images, channels, nbr.shape[1], nodes, channels,
        EPILOGUE=False, BLOCK_K=triton.next_power_of_2(nbr.shape[1]), NODES_PER_PROGRAM=nodes_each,
        GROUP=MESSAGES_PER_GROUP, **row_tile(channels),
    )  # fmt: skip
    return total, gates.sum(2)


@gated_sum_operator.register_fake
def _(message, scores, message_index, gate_weight, gate_bias, nbr, rev):
    return message.new_empty(message.shape), scores.new_empty(message.shape[:2])


@torch.library.custom_op("afmp::gated_sum_backward", mutates_args=())
def gated_sum_backward(
    d_total: Tensor, d_gates: Tensor, message: Tensor, scores: Tensor, message_index: Tensor,
    gate_weight: Tensor, gate_bias: Tensor, nbr: Tensor, rev: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of message, scores and the gates' weights, from d_total (M, B, N, D) and d_gates (M, B).

    That of the weights is (M, 2D), with columns [gate_weight | gate_bias].
    """
    models, images, nodes, channels = message.shape
    per_model = images * nodes
    d_message, d_scores = message.new_empty(message.shape), scores.new_empty(scores.shape)
    rows_each = rows_per_program(per_model)
    programs = triton.cdiv(per_model, rows_each)
    partial = scores.new_empty(models, programs, 2 * channels)
    gate_kernels.gate_backward_kernel[(programs, models)](
        *contiguous(message, scores, message_index, rev, nbr, gate_weight, gate_bias, d_total, d_gates),
        d_message, d_scores, partial, nodes, per_model, channels, nbr.shape[1],
        **row_tile(channels), ROWS_PER_PROGRAM=rows_each,
    )  # fmt: skip
    return d_message, d_scores, partial.sum(1)


@gated_sum_backward.register_fake
def _(d_total, d_gates, message, scores, message_index, gate_weight, gate_bias, nbr, rev):
    sums = scores.new_empty(len(message), 2 * message.shape[-1])
    return message.new_empty(message.shape), scores.new_empty(scores.shape), sums


def _save_gates(ctx, inputs, output):
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _gates_backward(ctx, d_total, d_gates):
    message, scores, message_index, gate_weight, gate_bias, nbr, rev = ctx.saved_tensors
    d_total = torch.zeros_like(message) if d_total is None else d_total
    d_gates = scores.new_zeros(scores.shape[:2]) if d_gates is None else d_gates
    d_message, d_scores, sums = gated_sum_backward(
        d_total, d_gates, message, scores, message_index, gate_weight, gate_bias, nbr, rev
    )
    d_weight, d_bias = sums.chunk(2, dim=1)
    return d_message, d_scores, None, d_weight.to(gate_weight.dtype), d_bias.to(gate_bias.dtype), None, None


gated_sum_operator.register_autograd(_gates_backward, setup_context=_save_gates)
