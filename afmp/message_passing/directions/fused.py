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
    channel_blocks,
    channel_tile,
    chunks_of_direction,
    contiguous,
    tile_sizes,
)
from afmp.message_passing.neighbours import Graph

Optional = Tensor | None
# Rows that a program has under way at once: the fastest of those measured on an H200 (docs/history/performance.md).
NODES_PER_TILE = 2
EDGES_PER_TILE = 2
SLOTS_PER_STEP = 2  # the loop over a node's slots is unrolled by this
NODES_PER_SCORE_TILE = 4
EDGES_PER_SCORE_TILE = 16


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
    keep = valid if keep is None else keep
    tables = (nbr, rev, graph.offset_index, graph.direction_slots, graph.direction_start)
    weights = (part.float() for part in (kernel, gate_weight, gate_bias))
    return directed_sum_operator(nodes, scores.float(), keep, *weights, *tables)


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
    score_kernels.score_kernel[(models * images * triton.cdiv(nodes, NODES_PER_SCORE_TILE),)](
        mapped, error, direction, out, out_bias, nbr, valid, offset_index, scores,
        nodes, images, direction.shape[1], slots,
        RANK=rank, SCALE=rank**-0.5, PREDICTS=error is not None,
        BLOCKS=triton.cdiv(slots, sizes["BLOCK_K"]), BLOCK_N=NODES_PER_SCORE_TILE, **sizes, num_warps=1,
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
    """Return the gradient of mapped, and in parts to be added up that of the weights, from d_scores (M, B, N, K).

    The parts are (M, T, chunks, 3r + 1), with columns [direction | error | out | out_bias], per direction.
    """
    d_scores, mapped, direction, out = contiguous(d_scores, mapped, direction, out)
    error = error if error is None else error.contiguous()
    models, images, nodes, width = mapped.shape
    slots, rank, offsets = nbr.shape[1], width // 6, direction.shape[1]
    d_mapped = torch.empty_like(mapped)
    sizes = tile_sizes(slots, rank)
    settings = {"RANK": rank, "PREDICTS": error is not None, "num_warps": 1}
    score_kernels.score_nodes_backward_kernel[(models * images * triton.cdiv(nodes, NODES_PER_SCORE_TILE),)](
        mapped, error, direction, out, nbr, valid, rev, offset_index, d_scores, d_mapped,
        nodes, images, offsets, slots,
        SCALE=rank**-0.5, BLOCKS=triton.cdiv(slots, sizes["BLOCK_K"]), BLOCK_N=NODES_PER_SCORE_TILE,
        **sizes, **settings,
    )  # fmt: skip
    image_chunks, _ = chunks_of_direction(images, nodes, offsets * models)
    partial = _score_parts_like(mapped, direction)
    score_kernels.score_weights_backward_kernel[(partial.shape[2], offsets, models)](
        mapped, error, direction, out, nbr, direction_slots, direction_start, d_scores, partial,
        nodes, images, image_chunks, K=slots, BLOCK_E=EDGES_PER_SCORE_TILE, BLOCK_D=sizes["BLOCK_D"], **settings,
    )  # fmt: skip
    return d_mapped, partial


def _score_parts_like(mapped: Tensor, direction: Tensor) -> Tensor:
    """Return uninitialised parts of the gradients of weights, as `directed_scores_backward` returns them."""
    (images, nodes), (models, offsets, rank) = mapped.shape[1:3], direction.shape
    image_chunks, edge_chunks = chunks_of_direction(images, nodes, offsets * models)
    return direction.new_empty(models, offsets, image_chunks * edge_chunks, 3 * rank + 1)


@directed_scores_backward.register_fake
def _(d_scores, mapped, error, direction, out, nbr, valid, rev, offset_index, direction_slots, direction_start):
    return mapped.new_empty(mapped.shape), _score_parts_like(mapped, direction)


def _save_scores(ctx, inputs, output):
    mapped, error, direction, out, _, *tables = inputs
    ctx.save_for_backward(mapped, error, direction, out, *tables)


def _scores_backward(ctx, d_scores):
    mapped, error, direction, out, *tables = ctx.saved_tensors
    d_mapped, partial = directed_scores_backward(d_scores, mapped, error, direction, out, *tables)
    rank, sums = out.shape[1], partial.sum(2)
    d_direction = sums[..., :rank]
    d_error, d_out, d_bias = sums[..., rank:].sum(1).split([rank, rank, 1], dim=1)
    d_error = None if error is None else d_error
    return d_mapped, d_error, d_direction, d_out, d_bias, *[None] * 6


directed_scores_operator.register_autograd(_scores_backward, setup_context=_save_scores)


@torch.library.custom_op("afmp::directed_sum", mutates_args=())
def directed_sum_operator(
    nodes: Tensor, scores: Tensor, keep: Tensor, kernel: Tensor, gate_weight: Tensor, gate_bias: Tensor,
    nbr: Tensor, rev: Tensor, offset_index: Tensor, direction_slots: Tensor, direction_start: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the sums (M, B, N, D), and the sum of all gates per image (M, B) float32.

    nodes (M, B, N, D); scores (M, B, N, K) float32; keep (M, B, N, K) bool, or (N, K) if all images keep the same
    slots; kernel and gate_bias (M, T, D), gate_weight (M, D) float32; tables as in `directed_scores_operator`.
    """
    models, images, num_nodes, channels = nodes.shape
    total, tile, blocks = nodes.new_empty(nodes.shape), channel_tile(channels), channel_blocks(channels)
    tiles = triton.cdiv(num_nodes, NODES_PER_TILE)
    gates = scores.new_empty(models, images, tiles * blocks)
    sum_kernels.sum_kernel[(models * images * tiles, blocks)](
        *contiguous(nodes, scores, keep, nbr, offset_index, kernel, gate_weight, gate_bias), total, gates,
        num_nodes, images, channels, kernel.shape[1],
        K=nbr.shape[1], PER_IMAGE=keep.dim() == 4, BLOCK_N=NODES_PER_TILE, UNROLL=SLOTS_PER_STEP, **tile,
    )  # fmt: skip
    return total, gates.sum(2)


@directed_sum_operator.register_fake
def _(nodes, scores, keep, kernel, gate_weight, gate_bias, *tables):
    return nodes.new_empty(nodes.shape), scores.new_empty(nodes.shape[:2])


@torch.library.custom_op("afmp::directed_sum_backward", mutates_args=())
def directed_sum_backward(
    d_total: Tensor, d_gate_sum: Tensor, nodes: Tensor, scores: Tensor, keep: Tensor,
    kernel: Tensor, gate_weight: Tensor, gate_bias: Tensor,
    nbr: Tensor, rev: Tensor, offset_index: Tensor, direction_slots: Tensor, direction_start: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradient of nodes, and in parts to be added up those of scores and of the weights.

    d_total is (M, B, N, D), d_gate_sum (M, B). Scores have parts (blocks, M, B, N, K), one per block of channels.
    Weights have parts (M, T + 1, chunks, 3D), with columns [kernel | gate_bias | gate_weight], per direction. The last
    direction is that of nodes to themselves.
    """
    d_total, d_gate_sum, nodes, scores, keep, kernel, gate_weight, gate_bias = contiguous(
        d_total, d_gate_sum, nodes, scores, keep, kernel, gate_weight, gate_bias
    )
    models, images, num_nodes, channels = nodes.shape
    d_nodes = torch.empty_like(nodes)
    d_scores, partial = _parts_like(nodes, scores, kernel)
    offsets, (image_chunks, edge_chunks) = kernel.shape[1], chunks_of(nodes, kernel)
    blocks, weights = channel_blocks(channels), (kernel, gate_weight, gate_bias)
    settings = {"K": nbr.shape[1], "PER_IMAGE": keep.dim() == 4, **channel_tile(channels)}
    tiles = triton.cdiv(num_nodes, NODES_PER_TILE)
    sum_kernels.sum_nodes_backward_kernel[(models * images * tiles, blocks)](
        scores, keep, nbr, rev, offset_index, *weights, d_total, d_nodes, num_nodes, images, channels, offsets,
        BLOCK_N=NODES_PER_TILE, UNROLL=SLOTS_PER_STEP, **settings,
    )  # fmt: skip
    sum_kernels.sum_edges_backward_kernel[(image_chunks * edge_chunks, offsets + 1, models * blocks)](
        nodes, scores, keep, nbr, direction_slots, direction_start, *weights, d_total, d_gate_sum,
        d_scores.zero_(), partial, num_nodes, images, channels, offsets, image_chunks, scores.numel(),
        BLOCK_E=EDGES_PER_TILE, **settings,
    )  # fmt: skip
    return d_nodes, d_scores, partial


def chunks_of(nodes: Tensor, kernel: Tensor) -> tuple[int, int]:
    """Return into how many chunks the backward pass cuts the images, and the edges of one direction in them."""
    models, images, num_nodes, channels = nodes.shape
    programs = (kernel.shape[1] + 1) * models * channel_blocks(channels)
    return chunks_of_direction(images, num_nodes, programs)


def _parts_like(nodes: Tensor, scores: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return uninitialised parts of the gradients of scores and weights, as `directed_sum_backward` returns them."""
    models, channels, offsets = len(nodes), nodes.shape[3], kernel.shape[1]
    image_chunks, edge_chunks = chunks_of(nodes, kernel)
    partial = scores.new_empty(models, offsets + 1, image_chunks * edge_chunks, 3 * channels)
    return scores.new_empty(channel_blocks(channels), *scores.shape), partial


@directed_sum_backward.register_fake
def _(d_total, d_gate_sum, nodes, scores, keep, kernel, gate_weight, gate_bias, *tables):
    return nodes.new_empty(nodes.shape), *_parts_like(nodes, scores, kernel)


def _save_sum(ctx, inputs, output):
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _sum_backward(ctx, d_total, d_gate_sum):
    nodes, scores, *others = ctx.saved_tensors
    d_total = torch.zeros_like(nodes) if d_total is None else d_total
    d_gate_sum = scores.new_zeros(scores.shape[:2]) if d_gate_sum is None else d_gate_sum
    d_nodes, d_scores, partial = directed_sum_backward(d_total, d_gate_sum, nodes, scores, *others)
    d_kernel, d_bias, d_weight = partial.sum(2).chunk(3, dim=-1)
    d_own = torch.cat([d_kernel[:, -1:], torch.zeros_like(d_kernel[:, 1:-1])], dim=1)
    return d_nodes, d_scores.sum(0), None, d_kernel[:, :-1] + d_own, d_weight.sum(1), d_bias[:, :-1], *[None] * 5


directed_sum_operator.register_autograd(_sum_backward, setup_context=_save_sum)
