"""Edge scores and gated sums over all edges as Triton kernels, registered as operators of PyTorch.

As operators they work under torch.compile, autocast and CUDA graphs. Inputs may be float32, float16 or bfloat16, and
outputs have the inputs' type. Scores and sums of gates are float32.
"""

import torch
import triton
from torch import Tensor

from afmp.message_passing.all_edges import kernels
from afmp.message_passing.neighbours import Neighbours
from afmp.message_passing.weights import ScoreWeights

Optional = Tensor | None
SCORE_CHANNELS_A_WARP = 512
MESSAGES_AT_ONCE = 4  # of a node
SLOTS_A_BLOCK = 16  # of a node; a grid's has 8


def edge_scores(
    incoming: Tensor,
    outgoing: Tensor,
    weights: ScoreWeights,
    tables: Neighbours,
    *,
    state: Optional = None,
    prediction: Optional = None,
) -> Tensor:
    """Return the scores of all slots, as `all_edges.pytorch.edge_scores` does."""
    surprise = [part if part is None else part.to(incoming.dtype) for part in (state, prediction)]
    return edge_scores_operator(incoming, outgoing, *surprise, *(part.float() for part in weights), *tables)


def gated_sum(
    message: Tensor, scores: Tensor, keep: Tensor, gate_weight: Tensor, gate_bias: Tensor, tables: Neighbours
) -> tuple[Tensor, Tensor]:
    """Return gated messages summed at the receivers, and all gates per image, as `all_edges.pytorch.gated_sum` does."""
    place = torch.where(keep, tables.nbr, -1).to(torch.int32).contiguous()
    return gated_sum_operator(message, scores, place, gate_weight.float(), gate_bias.float(), tables.nbr, tables.rev)


def block_sizes(slots: int, width: int, hidden: int | None = None) -> dict[str, int]:
    """Sizes of the tiles: powers of two that hold some of a node's slots, channels and, if given, hidden units."""
    block_k = min(triton.next_power_of_2(slots), SLOTS_A_BLOCK)
    sizes = {"BLOCK_K": block_k, "BLOCK_D": max(triton.next_power_of_2(width), 16)}
    return sizes if hidden is None else sizes | {"BLOCK_H": max(triton.next_power_of_2(hidden), 16)}


def warps(rows: int, width: int) -> int:
    """Warps of a program whose tile has `rows` by `width` numbers: up to 16 of them a thread."""
    return min(16, max(1, triton.next_power_of_2(rows * width) // (32 * 16)))


def row_block(width: int) -> dict[str, int]:
    """Tile and warps of a program that walks single rows: 8 numbers a thread, as many as one load of bfloat16 has."""
    block = max(triton.next_power_of_2(width), 32)
    return {"BLOCK_D": block, "num_warps": min(16, max(1, block // 256))}


def nodes_a_program(rows_per_model: int) -> int:
    """Nodes of an image that a program walks: more save partial sums, fewer fill the device."""
    return 8 if rows_per_model <= 1 << 14 else 16 if rows_per_model <= 1 << 15 else 32


def rows_a_program(rows_per_model: int) -> int:
    """Rows that a backward program walks: more save partial sums, fewer fill the device."""
    return max(1, min(8, rows_per_model // 1024))


def together(*tensors: Tensor) -> list[Tensor]:
    """The tensors with their numbers one after another, as kernels read them: a column of a weight is not."""
    return [tensor.contiguous() for tensor in tensors]


def even_rows(rows: Optional) -> tuple[Optional, int]:
    """Rows (M, B, N, C) that lie evenly apart, and the numbers from one to the next; copied where they do not.

    Of no rows None and 0.
    """
    if rows is None:
        return None, 0
    models, images, nodes, width = rows.shape
    stride = rows.stride(2)
    even = rows.stride(3) == 1 and rows.stride(1) == stride * nodes
    if even and (models == 1 or rows.stride(0) == stride * nodes * images):
        return rows, stride
    return rows.contiguous(), width


@torch.library.custom_op("afmp::edge_scores", mutates_args=())
def edge_scores_operator(
    incoming: Tensor, outgoing: Tensor, state: Optional, prediction: Optional,
    w_error: Tensor, w_dist: Tensor, w_out: Tensor, out_bias: Tensor,
    nbr: Tensor, valid: Tensor, rev: Tensor, dist: Tensor,
) -> Tensor:  # fmt: skip
    """Scores (M, B, N, K) as `all_edges.pytorch.edge_scores` defines them."""
    state = state if state is None else state.contiguous()  # the first images of several models are not
    w_error, w_dist, w_out, out_bias = together(w_error, w_dist, w_out, out_bias)
    models, images, nodes, width = incoming.shape
    hidden, slots = width // 2, nbr.shape[1]
    scores = incoming.new_empty(models, images, nodes, slots, dtype=torch.float32)
    channels = 1 if state is None else state.shape[-1]
    sizes = block_sizes(slots, channels, hidden)
    (incoming, outgoing, prediction), strides = zip(*map(even_rows, (incoming, outgoing, prediction)), strict=True)
    kernels.score_kernel[(models * images * nodes,)](
        incoming, outgoing, state, prediction, w_error, w_dist, w_out, out_bias, nbr, valid, dist, scores,
        nodes, images * nodes, channels, hidden,
        *strides, K=slots, PREDICTS=state is not None, BLOCK_D=sizes["BLOCK_D"], BLOCK_H=sizes["BLOCK_H"],
        num_warps=min(16, max(1, sizes["BLOCK_D"] // SCORE_CHANNELS_A_WARP)),
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
    """Gradients of incoming, outgoing, state, prediction (empty without them), and of the weights (M, 3H + 1)."""
    state = state if state is None else state.contiguous()
    w_error, w_dist, w_out = together(w_error, w_dist, w_out)
    models, images, nodes, width = incoming.shape
    hidden, slots, per_model = width // 2, nbr.shape[1], images * nodes
    channels = 1 if state is None else state.shape[-1]
    d_incoming, d_outgoing = (incoming.new_empty(incoming.shape) for _ in range(2))
    d_state, d_prediction = (incoming.new_empty(0 if state is None else state.shape) for _ in range(2))
    rows = rows_a_program(per_model)
    programs = triton.cdiv(per_model, rows)
    partial = incoming.new_empty(models, programs, 3 * hidden + 1, dtype=torch.float32)
    sizes = block_sizes(slots, channels, hidden)
    (incoming, outgoing, prediction), strides = zip(*map(even_rows, (incoming, outgoing, prediction)), strict=True)
    kernels.score_backward_kernel[(programs, models)](
        incoming, outgoing, state, prediction, w_error, w_dist, w_out, nbr, valid, rev, dist, d_scores.contiguous(),
        d_incoming, d_outgoing, d_state, d_prediction, partial,
        nodes, per_model, channels, hidden, slots,
        *strides, PREDICTS=state is not None, BLOCKS=triton.cdiv(slots, sizes["BLOCK_K"]), **sizes, ROWS=rows,
        num_warps=warps(sizes["BLOCK_K"], max(sizes["BLOCK_D"], 2 * sizes["BLOCK_H"])),
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
    message: Tensor, scores: Tensor, place: Tensor, gate_weight: Tensor, gate_bias: Tensor, nbr: Tensor, rev: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums (M, B, N, D) and gates (M, B) as `all_edges.pytorch.gated_sum` defines them.

    place (M, B, N, K) int32 is `nbr` where a slot is kept, else -1.
    """
    models, images, nodes, width = message.shape
    total = message.new_empty(message.shape)
    rows = nodes_a_program(images * nodes)
    programs = triton.cdiv(nodes, rows)
    gates = scores.new_empty(models, images, programs)
    kernels.gate_kernel[(models * images * programs,)](
        *together(message, scores, place, gate_weight, gate_bias), total, total, total, gates, gates,
        nodes, images, width, nbr.shape[1], nodes, width,
        EPILOGUE=False, BLOCK_K=triton.next_power_of_2(nbr.shape[1]), ROWS=rows, GROUP=MESSAGES_AT_ONCE,
        **row_block(width),
    )  # fmt: skip
    return total, gates.sum(2)


@gated_sum_operator.register_fake
def _(message, scores, place, gate_weight, gate_bias, nbr, rev):
    return message.new_empty(message.shape), scores.new_empty(message.shape[:2])


@torch.library.custom_op("afmp::gated_sum_backward", mutates_args=())
def gated_sum_backward(
    d_total: Tensor, d_gates: Tensor, message: Tensor, scores: Tensor, place: Tensor,
    gate_weight: Tensor, gate_bias: Tensor, nbr: Tensor, rev: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of message and scores, and of the gates' weight and bias (M, 2D)."""
    models, images, nodes, width = message.shape
    per_model = images * nodes
    d_message, d_scores = message.new_empty(message.shape), scores.new_empty(scores.shape)
    rows = rows_a_program(per_model)
    programs = triton.cdiv(per_model, rows)
    partial = scores.new_empty(models, programs, 2 * width)
    kernels.gate_backward_kernel[(programs, models)](
        *together(message, scores, place, rev, nbr, gate_weight, gate_bias, d_total, d_gates),
        d_message, d_scores, partial, nodes, per_model, width, nbr.shape[1],
        **row_block(width), ROWS=rows,
    )  # fmt: skip
    return d_message, d_scores, partial.sum(1)


@gated_sum_backward.register_fake
def _(d_total, d_gates, message, scores, place, gate_weight, gate_bias, nbr, rev):
    sums = scores.new_empty(len(message), 2 * message.shape[-1])
    return message.new_empty(message.shape), scores.new_empty(scores.shape), sums


def _save_gates(ctx, inputs, output):
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _gates_backward(ctx, d_total, d_gates):
    message, scores, place, gate_weight, gate_bias, nbr, rev = ctx.saved_tensors
    d_total = torch.zeros_like(message) if d_total is None else d_total
    d_gates = scores.new_zeros(scores.shape[:2]) if d_gates is None else d_gates
    d_message, d_scores, sums = gated_sum_backward(
        d_total, d_gates, message, scores, place, gate_weight, gate_bias, nbr, rev
    )
    d_weight, d_bias = sums.chunk(2, dim=1)
    return d_message, d_scores, None, d_weight.to(gate_weight.dtype), d_bias.to(gate_bias.dtype), None, None


gated_sum_operator.register_autograd(_gates_backward, setup_context=_save_gates)
