"""Edge scores and gated sums with a kernel for each direction: Triton kernels, registered as operators of PyTorch.

As operators they work under torch.compile, autocast and CUDA graphs. Nodes may be float32, float16 or bfloat16, and
results have their type. Scores, sums of gates and weights are float32. `directions.pytorch` has the equations.

Sizes: M models, B images per model, N nodes per image, K slots per node, T offsets, D channels, r channels of the
router.
"""

import torch
import triton
from torch import Tensor

from afmp.message_passing.directions import score_kernels, sum_kernels
from afmp.message_passing.launch import (
    chunks_per_direction,
    contiguous,
    nodes_per_program,
    row_tile,
    rows_per_program,
    tile_sizes,
)
from afmp.message_passing.neighbours import Graph

Optional = Tensor | None
MESSAGES_PER_GROUP = 4  # messages of one node that are loaded together
EDGES_PER_TILE = 16


def edge_scores(
    mapped: Tensor, graph: Graph, *, error: Optional, direction: Tensor, out: Tensor, out_bias: Tensor
) -> Tensor:
    """Return the scores (M, B, N, K) of all slots, as `directions.pytorch.edge_scores`."""
    weights = (None if part is None else part.float() for part in (error, direction, out, out_bias))
    nbr, valid, rev, _ = graph.neighbours
    tables = (nbr, valid, rev, graph.offset_index, graph.direction_slots, graph.direction_start)
    return directed_scores_operator(mapped, *weights, *tables)


def directed_sum(
    nodes: Tensor,
    graph: Graph,
    *,
    scores: Tensor,
    keep: Optional,
    kernel: Tensor,
    gate_weight: Tensor,
    gate_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return each node with the gated sum of what it hears, as `directions.pytorch.directed_sum`."""
    nbr, valid, rev, _ = graph.neighbours
    keep = valid.expand_as(scores) if keep is None else keep
    sender_index = torch.where(keep, nbr, -1).to(torch.int32).contiguous()
    tables = (nbr, rev, graph.offset_index, graph.direction_slots, graph.direction_start)
    weights = (part.float() for part in (kernel, gate_weight, gate_bias))
    return directed_sum_operator(nodes, scores.float(), sender_index, *weights, *tables)


@torch.library.custom_op("afmp::directed_scores", mutates_args=())
def directed_scores_operator(
    mapped: Tensor, error: Optional, direction: Tensor, out: Tensor, out_bias: Tensor,
    nbr: Tensor, valid: Tensor, rev: Tensor, offset_index: Tensor, direction_slots: Tensor, direction_start: Tensor,
) -> Tensor:  # fmt: skip
    """Return scores (M, B, N, K) float32 of all slots.

    mapped (M, B, N, 6r); error (M, r) or None, direction (M, T, r), out (M, r) and out_bias (M, 1) float32; nbr, valid,
    rev, offset_index (N, K); direction_slots, direction_start as in `Graph`.
    """
    mapped, direction, out, out_bias = contiguous(mapped, direction, out, out_bias)
    error = error if error is None else error.contiguous()
    models, images, nodes, width = mapped.shape
    slots, rank = nbr.shape[1], width // 6
    scores = mapped.new_empty(models, images, nodes, slots, dtype=torch.float32)
    sizes = tile_sizes(slots, rank)
    score_kernels.score_kernel[(models * images * nodes,)](
        mapped, error, direction, out, out_bias, nbr, valid, offset_index, scores,
        nodes, images * nodes, direction.shape[1], slots,
        RANK=rank, SCALE=rank**-0.5, PREDICTS=error is not None,
        BLOCKS=triton.cdiv(slots, sizes["BLOCK_K"]), **sizes, num_warps=1,
    )  # fmt: skip
    return scores


@directed_scores_operator.register_fake
def _(mapped, error, direction, out, out_bias, nbr, valid, rev, offset_index, direction_slots, direction_start):
    return mapped.new_empty(*mapped.shape[:3], nbr.shape[1], dtype=torch.float32)


@torch.library.custom_op("afmp::directed_scores_backward", mutates_args=())
def directed_scores_backward(
    d_scores: Tensor, mapped: Tensor, error: Optional, direction: Tensor, out: Tensor,
    nbr: Tensor, valid: Tensor, rev: Tensor, offset_index: Tensor, direction_slots: Tensor, direction_start: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the gradients of mapped and of the weights, from d_scores (M, B, N, K).

    That of the weights is (M, T, 3r + 1), with columns [direction | error | out | out_bias], per direction.
    """
    d_scores, mapped, direction, out = contiguous(d_scores, mapped, direction, out)
    error = error if error is None else error.contiguous()
    models, images, nodes, width = mapped.shape
    slots, rank, offsets = nbr.shape[1], width // 6, direction.shape[1]
    d_mapped = torch.empty_like(mapped)
    sizes = tile_sizes(slots, rank)
    settings = {"RANK": rank, "PREDICTS": error is not None, "num_warps": 1}
    score_kernels.score_nodes_backward_kernel[(models * images * nodes,)](
        mapped, error, direction, out, nbr, valid, rev, offset_index, d_scores, d_mapped,
        nodes, images * nodes, offsets, slots,
        SCALE=rank**-0.5, BLOCKS=triton.cdiv(slots, sizes["BLOCK_K"]), **sizes, **settings,
    )  # fmt: skip
    chunks = chunks_per_direction(images * nodes)
    partial = mapped.new_empty(models, offsets, chunks, 3 * rank + 1, dtype=torch.float32)
    score_kernels.score_weights_backward_kernel[(chunks, offsets, models)](
        mapped, error, direction, out, nbr, direction_slots, direction_start, d_scores, partial, nodes, images, slots,
        BLOCK_E=EDGES_PER_TILE, BLOCK_D=sizes["BLOCK_D"], **settings,
    )  # fmt: skip
    return d_mapped, partial.sum(2)


@directed_scores_backward.register_fake
def _(d_scores, mapped, error, direction, out, nbr, valid, rev, offset_index, direction_slots, direction_start):
    return mapped.new_empty(mapped.shape), direction.new_empty(*direction.shape[:2], 3 * direction.shape[2] + 1)


def _save_scores(ctx, inputs, output):
    mapped, error, direction, out, _, *tables = inputs
    ctx.save_for_backward(mapped, error, direction, out, *tables)


def _scores_backward(ctx, d_scores):
    d_mapped, sums = directed_scores_backward(d_scores, *ctx.saved_tensors)
    rank = ctx.saved_tensors[3].shape[1]
    d_direction = sums[..., :rank]
    d_error, d_out, d_bias = sums[..., rank:].sum(1).split([rank, rank, 1], dim=1)
    d_error = None if ctx.saved_tensors[1] is None else d_error
    return d_mapped, d_error, d_direction, d_out, d_bias, *[None] * 6


directed_scores_operator.register_autograd(_scores_backward, setup_context=_save_scores)


@torch.library.custom_op("afmp::directed_sum", mutates_args=())
def directed_sum_operator(
    nodes: Tensor, scores: Tensor, sender_index: Tensor, kernel: Tensor, gate_weight: Tensor, gate_bias: Tensor,
    nbr: Tensor, rev: Tensor, offset_index: Tensor, direction_slots: Tensor, direction_start: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the sums (M, B, N, D), and the sum of all gates per image (M, B) float32.

    nodes (M, B, N, D); scores (M, B, N, K) float32; sender_index (M, B, N, K) int32, `nbr` where a slot is kept, else
    -1; kernel and gate_bias (M, T, D), gate_weight (M, D) float32; tables as in `directed_scores_operator`.
    """
    models, images, num_nodes, channels = nodes.shape
    slots, total = nbr.shape[1], nodes.new_empty(nodes.shape)
    nodes_each = nodes_per_program(images * num_nodes)
    programs = triton.cdiv(num_nodes, nodes_each)
    gates = scores.new_empty(models, images, programs)
    sum_kernels.sum_kernel[(models * images * programs,)](
        *contiguous(nodes, scores, sender_index, offset_index, kernel, gate_weight, gate_bias), total, gates,
        num_nodes, images, channels, slots, kernel.shape[1],
        BLOCK_K=triton.next_power_of_2(slots), GROUP=MESSAGES_PER_GROUP, NODES_PER_PROGRAM=nodes_each,
        **row_tile(channels),
    )  # fmt: skip
    return total, gates.sum(2)


@directed_sum_operator.register_fake
def _(nodes, scores, sender_index, kernel, gate_weight, gate_bias, *tables):
    return nodes.new_empty(nodes.shape), scores.new_empty(nodes.shape[:2])


@torch.library.custom_op("afmp::directed_sum_backward", mutates_args=())
def directed_sum_backward(
    d_total: Tensor, d_gate_sum: Tensor, nodes: Tensor, scores: Tensor, sender_index: Tensor,
    kernel: Tensor, gate_weight: Tensor, gate_bias: Tensor,
    nbr: Tensor, rev: Tensor, offset_index: Tensor, direction_slots: Tensor, direction_start: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of nodes, scores and the weights, from d_total (M, B, N, D) and d_gate_sum (M, B).

    That of the weights is (M, T + 1, 3D), with columns [kernel | gate_bias | gate_weight], per direction. The last row
    is that of nodes to themselves.
    """
    d_total, d_gate_sum, nodes, scores, sender_index, kernel, gate_weight, gate_bias = contiguous(
        d_total, d_gate_sum, nodes, scores, sender_index, kernel, gate_weight, gate_bias
    )
    models, images, num_nodes, channels = nodes.shape
    slots, offsets, rows = nbr.shape[1], kernel.shape[1], images * num_nodes
    d_nodes, d_scores = torch.empty_like(nodes), torch.zeros_like(scores)
    rows_each = rows_per_program(rows)
    weights = (kernel, gate_weight, gate_bias)
    sum_kernels.sum_nodes_backward_kernel[(triton.cdiv(rows, rows_each), models)](
        scores, sender_index, nbr, rev, offset_index, *weights, d_total, d_nodes,
        num_nodes, rows, channels, slots, offsets, ROWS_PER_PROGRAM=rows_each, **row_tile(channels),
    )  # fmt: skip
    chunks = chunks_per_direction(rows)
    partial = scores.new_empty(models, offsets + 1, chunks, 3 * channels)
    sum_kernels.sum_edges_backward_kernel[(chunks, offsets + 1, models)](
        nodes, scores, sender_index, direction_slots, direction_start, *weights, d_total, d_gate_sum, d_scores, partial,
        num_nodes, images, channels, slots, offsets, **row_tile(channels),
    )  # fmt: skip
    return d_nodes, d_scores, partial.sum(2)


@directed_sum_backward.register_fake
def _(d_total, d_gate_sum, nodes, scores, sender_index, kernel, gate_weight, gate_bias, *tables):
    sums = scores.new_empty(len(nodes), kernel.shape[1] + 1, 3 * nodes.shape[-1])
    return nodes.new_empty(nodes.shape), scores.new_empty(scores.shape), sums


def _save_sum(ctx, inputs, output):
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _sum_backward(ctx, d_total, d_gate_sum):
    nodes, scores = ctx.saved_tensors[:2]
    d_total = torch.zeros_like(nodes) if d_total is None else d_total
    d_gate_sum = scores.new_zeros(scores.shape[:2]) if d_gate_sum is None else d_gate_sum
    d_nodes, d_scores, sums = directed_sum_backward(d_total, d_gate_sum, *ctx.saved_tensors)
    d_kernel, d_bias, d_weight = sums.chunk(3, dim=-1)
    d_own = torch.cat([d_kernel[:, -1:], torch.zeros_like(d_kernel[:, 1:-1])], dim=1)
    return d_nodes, d_scores, None, d_kernel[:, :-1] + d_own, d_weight.sum(1), d_bias[:, :-1], *[None] * 5


directed_sum_operator.register_autograd(_sum_backward, setup_context=_save_sum)
