"""A whole layer that keeps k edges per image, as one operator: matrix products by cuBLAS, the rest by Triton.

Forward: one product maps all nodes (own, prediction, incoming, outgoing). All edges are scored, and the k best of each
image are kept. Only the senders of kept edges are mapped to messages.

Backward: a pruned edge has no gradient. So all products except those with `own` have k rows per image and not N. For
this pass, the forward pass saves the input state, the input of GELU, the kept edges with their messages and rows, and
the scores of all slots.

Sizes: M models, B images per model, N nodes per image, K slots per node, D channels, H hidden units of v.
"""

import torch
import triton
from torch import Tensor

from afmp.message_passing.all_edges.fused import MESSAGES_PER_GROUP, edge_scores_operator
from afmp.message_passing.all_edges.gate_kernels import gate_kernel
from afmp.message_passing.autocast import without_autocast
from afmp.message_passing.kept_edges import edge_kernels, node_kernels
from afmp.message_passing.kept_edges.selection import select
from afmp.message_passing.launch import (
    contiguous,
    edges_per_program,
    evenly_spaced_rows,
    nodes_per_program,
    num_warps,
    row_tile,
    tile_sizes,
)
from afmp.message_passing.weights import INCOMING, OUTGOING, RECEIVING, Layout, map_rows

GELU_NODES_PER_STEP = 2  # in the backward pass of GELU
# Kernels that add up partial sums: how many of them per step, and how many columns per program.
MAX_PARTS_PER_STEP = 512
MEAN_COLUMNS, BIAS_COLUMNS = 16, 8


def _parts_tile(parts: int, columns: int) -> dict[str, int]:
    block = min(MAX_PARTS_PER_STEP, triton.next_power_of_2(max(parts, 1)))
    return {"BLOCK_P": block, "BLOCK_C": columns, "num_warps": num_warps(block, columns)}


def _gather_ends(
    slots: Tensor, nbr: Tensor, senders: Tensor, receivers: Tensor, also_senders: Tensor | None = None
) -> list[Tensor]:
    """Return the rows (M, B, k, C) of the kept edges' ends, one tensor per source.

    senders (M, B, N, D) and, if given, also_senders (M, B, N, C) are read at the senders, receivers (M, B, N, C) at the
    receivers.
    """
    models, images, nodes, channels = senders.shape
    k = slots.shape[-1]
    sources = [senders.contiguous(), receivers, *([] if also_senders is None else [also_senders])]
    rows = [senders.new_empty(models, images, k, source.shape[-1]) for source in sources]
    receivers, receiver_stride = evenly_spaced_rows(receivers)
    also, also_stride = evenly_spaced_rows(also_senders)
    widths = [source.shape[-1] for source in (*sources, senders)]
    blocks = [triton.next_power_of_2(width) for width in widths]
    edge_kernels.gather_kernel[(models * images * k,)](
        sources[0], receivers, senders if also is None else also, slots, nbr, rows[0], rows[1], rows[-1],
        nodes, k, nbr.shape[1], channels, widths[1], widths[2], receiver_stride, also_stride,
        ALSO=also is not None, BLOCK_D=blocks[0], BLOCK_RECEIVER=blocks[1], BLOCK_ALSO=blocks[2],
        num_warps=num_warps(1, max(blocks)),
    )  # fmt: skip
    return rows


@torch.library.custom_op("afmp::kept_edges_layer", mutates_args=())
def kept_edges_layer(
    state: Tensor, weight: Tensor, bias: Tensor,
    w_error: Tensor, w_dist: Tensor, w_out: Tensor, out_bias: Tensor, gate_weight: Tensor, gate_bias: Tensor,
    nbr: Tensor, valid: Tensor, rev: Tensor, dist: Tensor, k: int, predicts: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute one layer on state (M, B, N, D) with weight (M, rows, D) and bias (M, rows), packed as KEPT_EDGES.

    w_error, w_dist, w_out (M, H), out_bias (M, 1) and gate_weight, gate_bias (M, D) are float32; nbr, valid, rev, dist
    (N, K). Returns the new state (M, B, N, D), its mean over nodes (M, B, D), the sum of all gates per image (M, B),
    scores (M, B, N, K), and for the backward pass:

    - total (M, B, N, D): the input of GELU
    - slots (M, B, k) int32: the kept flat slots, ascending
    - kept_index (M, B, N, K) int32: the index of a kept slot in `slots`, -1 for a pruned slot
    - message (M, B, k, D), receiving (M, B, k, D + 2H) [prediction | incoming], outgoing (M, B, k, 2H)
    """
    models, images, nodes, d_model = state.shape
    layout = Layout(d_model, w_out.shape[1], predicts)
    *groups, _ = layout.sizes("own", RECEIVING, OUTGOING, "message")
    state = state.contiguous()
    gate_weight, gate_bias = contiguous(gate_weight, gate_bias)
    with without_autocast(state):
        mapped = map_rows(state.flatten(1, 2), weight[:, : sum(groups)], bias[:, : sum(groups)])
        mapped = mapped.view(models, images, nodes, sum(groups))
        own, receiving, outgoing = mapped.split(groups, dim=-1)
        prediction, incoming = receiving.split(layout.sizes("prediction", INCOMING), dim=-1)
        surprise = (state, prediction) if predicts else (None, None)
        scores = edge_scores_operator(
            incoming, outgoing, *surprise, w_error, w_dist, w_out, out_bias, nbr, valid, rev, dist
        )
        slots, kept_index = select(scores, valid, k)
        sending, receiving, outgoing = _gather_ends(slots, nbr, state, receiving, outgoing)
        message = map_rows(sending.flatten(1, 2), weight[:, sum(groups) :], bias[:, sum(groups) :])
        message = message.view(sending.shape)
    total, new_state = torch.empty_like(state), torch.empty_like(state)
    own, own_stride = evenly_spaced_rows(own)
    nodes_each = nodes_per_program(images * nodes)
    programs = triton.cdiv(nodes, nodes_each)
    gate_sums = scores.new_empty(models, images, programs)
    state_sums = scores.new_empty(models, images, programs, d_model)
    gate_kernel[(models * images * programs,)](
        message, scores, kept_index, gate_weight, gate_bias, own, total, new_state, gate_sums, state_sums,
        nodes, images, d_model, nbr.shape[1], k, own_stride,
        EPILOGUE=True, BLOCK_K=triton.next_power_of_2(nbr.shape[1]), NODES_PER_PROGRAM=nodes_each,
        GROUP=MESSAGES_PER_GROUP, **row_tile(d_model),
    )  # fmt: skip
    mean, gates = state.new_empty(models, images, d_model), scores.new_empty(models, images)
    node_kernels.mean_kernel[(models * images, triton.cdiv(d_model, MEAN_COLUMNS))](
        state_sums, gate_sums, mean, gates, programs, nodes, d_model, **_parts_tile(programs, MEAN_COLUMNS)
    )
    return new_state, mean, gates, scores, total, slots, kept_index, message, receiving, outgoing


@kept_edges_layer.register_fake
def _(
    state, weight, bias, w_error, w_dist, w_out, out_bias, gate_weight, gate_bias, nbr, valid, rev, dist, k, predicts
):
    models, images, _, d_model = state.shape
    sizes = Layout(d_model, w_out.shape[1], predicts).sizes("own", RECEIVING, OUTGOING)
    scores = state.new_empty(models, images, *nbr.shape, dtype=torch.float32)
    rows = [state.new_empty(models, images, k, width) for width in sizes]
    return (
        state.new_empty(state.shape), state.new_empty(models, images, d_model), scores.new_empty(models, images),
        scores, state.new_empty(state.shape),
        scores.new_empty(models, images, k, dtype=torch.int32), scores.new_empty(scores.shape, dtype=torch.int32),
        *rows,
    )  # fmt: skip


@torch.library.custom_op("afmp::kept_edges_layer_backward", mutates_args=())
def kept_edges_layer_backward(
    d_new_state: Tensor | None, d_mean: Tensor, d_gates: Tensor, state: Tensor, weight: Tensor,
    w_error: Tensor, w_dist: Tensor, w_out: Tensor, gate_weight: Tensor, gate_bias: Tensor,
    scores: Tensor, total: Tensor, slots: Tensor, kept_index: Tensor,
    message: Tensor, receiving: Tensor, outgoing: Tensor, nbr: Tensor, rev: Tensor, dist: Tensor, predicts: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of state, weight, bias and of the weights that act on edges.

    The last is (M, 2D + 3H + 1), with columns [gate_weight | gate_bias | w_error | w_dist | w_out | out_bias].
    d_new_state (M, B, N, D) is None if nothing reads the new state: of the last layer, only the mean may be read.
    d_mean (M, B, D) and d_gates (M, B) are the gradients of the mean and of the gate sums. The other tensors are those
    of `kept_edges_layer`.
    """
    models, images, nodes, d_model = state.shape
    hidden, k, num_slots = w_out.shape[1], slots.shape[-1], nbr.shape[1]
    layout = Layout(d_model, hidden, predicts)
    groups = layout.sizes("own", RECEIVING, (*OUTGOING, "message"))
    _, width_receiving, width_sending = groups
    state, edges_per_model = state.contiguous(), images * k
    edge_weights = contiguous(w_error, w_dist, w_out, gate_weight, gate_bias)
    sizes = tile_sizes(1, d_model, hidden)
    d_total = torch.empty_like(total)
    nodes_each = nodes_per_program(images * nodes)
    programs = triton.cdiv(nodes, nodes_each)
    own_sums = scores.new_empty(models, images * programs, d_model)
    node_kernels.gelu_backward_kernel[(models * images * programs,)](
        total, total if d_new_state is None else d_new_state.contiguous(), d_mean.contiguous(), d_total, own_sums,
        nodes, d_model, FROM_STATE=d_new_state is not None, NODES_PER_STEP=GELU_NODES_PER_STEP,
        STEPS=nodes_each // GELU_NODES_PER_STEP, BLOCK_D=sizes["BLOCK_D"],
        num_warps=num_warps(GELU_NODES_PER_STEP, sizes["BLOCK_D"]),
    )  # fmt: skip
    d_receiving = state.new_empty(models, edges_per_model, width_receiving)
    d_sending = state.new_empty(models, edges_per_model, width_sending)
    edges_each = edges_per_program(edges_per_model)
    programs = triton.cdiv(edges_per_model, edges_each)
    edge_sums = scores.new_empty(models, programs, width_receiving + width_sending + 2 * d_model + 3 * hidden + 1)
    edge_kernels.edge_backward_kernel[(programs, models)](
        state, message, receiving[..., sum(layout.sizes("prediction")) :], outgoing, receiving,
        scores, slots, nbr, dist, *edge_weights, d_total, d_gates.contiguous(), d_receiving, d_sending, edge_sums,
        nodes, edges_per_model, k, num_slots, d_model, hidden, width_receiving,
        PREDICTS=predicts, BLOCK_D=sizes["BLOCK_D"], BLOCK_H=sizes["BLOCK_H"], EDGES_PER_PROGRAM=edges_each,
        num_warps=num_warps(1, max(sizes["BLOCK_D"], 2 * sizes["BLOCK_H"])),
    )  # fmt: skip

    own, receivers, senders = weight.split(groups, dim=1)
    d_weight = torch.empty_like(weight)
    d_own = d_total.flatten(1, 2)
    with without_autocast(state):
        sender_state, receiver_state = (rows.flatten(1, 2) for rows in _gather_ends(slots, nbr, state, state))
        start = 0
        for rows, ends in ((d_own, state.flatten(1, 2)), (d_receiving, receiver_state), (d_sending, sender_state)):
            stop = start + rows.shape[-1]
            torch.bmm(rows.mT, ends, out=d_weight[:, start:stop])
            start = stop
        d_state = torch.bmm(d_own, own)
        d_receiver, d_sender = torch.bmm(d_receiving, receivers), torch.bmm(d_sending, senders)
    edge_kernels.collect_kernel[(models * images * nodes,)](
        d_state, d_receiver, d_sender, d_receiving, kept_index, rev, nodes, k, num_slots, d_model, width_receiving,
        PREDICTS=predicts, BLOCK_K=triton.next_power_of_2(num_slots), BLOCK_D=sizes["BLOCK_D"],
        num_warps=num_warps(1, sizes["BLOCK_D"]),
    )  # fmt: skip
    d_bias = weight.new_empty(weight.shape[:2])
    d_edges = scores.new_empty(models, 2 * d_model + 3 * hidden + 1)
    own_parts, edge_parts, edge_width = own_sums.shape[1], edge_sums.shape[1], edge_sums.shape[2]
    blocks = triton.cdiv(d_model, BIAS_COLUMNS) + triton.cdiv(edge_width, BIAS_COLUMNS)
    node_kernels.add_parts_kernel[(blocks, models)](
        own_sums, edge_sums, d_bias, d_edges, own_parts, edge_parts, d_model, edge_width, d_bias.shape[1],
        **_parts_tile(max(own_parts, edge_parts), BIAS_COLUMNS),
    )  # fmt: skip
    return d_state.view(state.shape), d_weight, d_bias, d_edges


@kept_edges_layer_backward.register_fake
def _(
    d_new_state, d_mean, d_gates, state, weight, w_error, w_dist, w_out, gate_weight, gate_bias,
    scores, total, slots, kept_index, message, receiving, outgoing, nbr, rev, dist, predicts,
):  # fmt: skip
    sums = scores.new_empty(len(state), 2 * state.shape[-1] + 3 * w_out.shape[1] + 1)
    return state.new_empty(state.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape[:2]), sums


def _save(ctx, inputs, output):
    state, weight, _, w_error, w_dist, w_out, _, gate_weight, gate_bias, nbr, _, rev, dist, _, predicts = inputs
    ctx.save_for_backward(state, weight, w_error, w_dist, w_out, gate_weight, gate_bias, *output[3:], nbr, rev, dist)
    ctx.mark_non_differentiable(*output[3:])
    ctx.set_materialize_grads(False)
    ctx.predicts = predicts


def _backward(ctx, d_new_state, d_mean, d_gates, *_):
    state, weight, *rest = ctx.saved_tensors
    _, _, w_out, _, _, scores, *_ = rest
    d_mean = state.new_zeros(*state.shape[:2], state.shape[3]) if d_mean is None else d_mean
    d_gates = scores.new_zeros(scores.shape[:2]) if d_gates is None else d_gates
    d_state, d_weight, d_bias, sums = kept_edges_layer_backward(
        d_new_state, d_mean, d_gates, state, weight, *rest, ctx.predicts
    )
    d_model, hidden = state.shape[-1], w_out.shape[1]
    d_gate_weight, d_gate_bias, *d_score = sums.split([d_model, d_model, hidden, hidden, hidden, 1], dim=1)
    return d_state, d_weight, d_bias, *d_score, d_gate_weight, d_gate_bias, None, None, None, None, None, None


kept_edges_layer.register_autograd(_backward, setup_context=_save)
