"""Triton kernels of the gated sums with directions. `directions.pytorch.directed_sum` has the equation.

Sizes: M models, B images per model, N nodes per image, K slots per node, E edges, T offsets, D channels. The nodes of
all images of all models are R = M * B * N rows, one after another. `keep` says which slots carry a message: it is
(R, K), or (N, K) if PER_IMAGE is false and all images keep the same. As in the kernels of the scores, sums are in
float32, nothing is scattered, row indices are int64, and one backward kernel visits nodes and the other edges by
direction.

A program computes BLOCK_D of the channels of a tile of rows, so that the loads of several rows are under way at once.
"""

import triton
import triton.language as tl

from afmp.message_passing.triton_rows import load_row, load_rows, share_of, store_rows, tile_of_nodes


@triton.jit
def gates_of(score, weight, bias):
    """Return the gates [rows, BLOCK_D] of scores [rows]; weight [BLOCK_D], bias [rows, BLOCK_D] or [1, BLOCK_D]."""
    return tl.sigmoid(score[:, None] * weight[None, :] + bias)


@triton.jit
def sum_kernel(
    nodes,  # (R, D)
    scores,  # (R, K) float32
    keep,  # (R, K) or (N, K) bool
    nbr,  # (N, K) int64
    offset_index,  # (N, K) int64
    kernel,  # (M, T, D)
    gate_weight,  # (M, D)
    gate_bias,  # (M, T, D)
    total,  # (R, D), result
    gate_sums,  # (M, B, tiles per image, blocks of channels) float32, result: the sum of this program's gates
    num_nodes, images_per_model, channels, num_offsets,
    K: tl.constexpr, PER_IMAGE: tl.constexpr, UNROLL: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per BLOCK_N nodes of one image and BLOCK_D channels."""
    model, first, begin = tile_of_nodes(num_nodes, images_per_model, BLOCK_N)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    node = begin + tl.arange(0, BLOCK_N)
    inside = node < num_nodes
    row = first + node
    weight = load_row(gate_weight + model * channels, d, channels)
    own = 1.0 + load_row(kernel + model * num_offsets * channels, d, channels)
    heard = own[None, :] * load_rows(nodes, row, channels, inside, d, channels)
    gates = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for slot in tl.range(0, K, loop_unroll_factor=UNROLL):
        kept = tl.load(keep + (row if PER_IMAGE else node) * K + slot, mask=inside, other=0) != 0
        sender = first + tl.load(nbr + node * K + slot, mask=kept, other=0)
        score = tl.load(scores + row * K + slot, mask=kept, other=0.0)
        offset = model * num_offsets + tl.load(offset_index + node * K + slot, mask=kept, other=0)
        bias = load_rows(gate_bias, offset, channels, kept, d, channels)
        factor = load_rows(kernel, offset, channels, kept, d, channels)
        sent = load_rows(nodes, sender, channels, kept, d, channels)
        gate = tl.where(kept[:, None] & (d < channels)[None, :], gates_of(score, weight, bias), 0.0)
        gates += gate
        heard += gate * factor * sent
    store_rows(total, row, channels, inside, d, channels, heard)
    tl.store(gate_sums + tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1), tl.sum(gates))


@triton.jit
def sum_nodes_backward_kernel(
    scores,  # (R, K) float32
    keep,  # (R, K) or (N, K) bool
    nbr,  # (N, K) int64
    rev,  # (N, K) int64
    offset_index,  # (N, K) int64
    kernel,  # (M, T, D)
    gate_weight,  # (M, D)
    gate_bias,  # (M, T, D)
    d_total,  # (R, D)
    d_nodes,  # (R, D), result
    num_nodes, images_per_model, channels, num_offsets,
    K: tl.constexpr, PER_IMAGE: tl.constexpr, UNROLL: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per BLOCK_N nodes of one image and BLOCK_D channels: gradients through what the nodes sent."""
    model, first, begin = tile_of_nodes(num_nodes, images_per_model, BLOCK_N)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    node = begin + tl.arange(0, BLOCK_N)
    inside = node < num_nodes
    row = first + node
    weight = load_row(gate_weight + model * channels, d, channels)
    own = 1.0 + load_row(kernel + model * num_offsets * channels, d, channels)
    d_node = own[None, :] * load_rows(d_total, row, channels, inside, d, channels)
    for slot in tl.range(0, K, loop_unroll_factor=UNROLL):
        opposite = tl.load(rev + node * K + slot, mask=inside, other=0)
        kept = tl.load(keep + (first * K if PER_IMAGE else 0) + opposite, mask=inside, other=0) != 0
        receiver = first + tl.load(nbr + node * K + slot, mask=kept, other=0)
        score = tl.load(scores + first * K + opposite, mask=kept, other=0.0)
        offset = model * num_offsets + tl.load(offset_index + opposite, mask=kept, other=0)
        bias = load_rows(gate_bias, offset, channels, kept, d, channels)
        factor = load_rows(kernel, offset, channels, kept, d, channels)
        # Without a message, d_heard is 0.
        d_heard = load_rows(d_total, receiver, channels, kept, d, channels)
        d_node += gates_of(score, weight, bias) * factor * d_heard
    store_rows(d_nodes, row, channels, inside, d, channels, d_node)


@triton.jit
def sum_edges_backward_kernel(
    nodes,  # (R, D)
    scores,  # (R, K) float32
    keep,  # (R, K) or (N, K) bool
    nbr,  # (N, K) int64
    direction_slots,  # (E,) int64: the flat slots of the edges, in the order of their directions
    direction_start,  # (T + 1,) int64: where each direction starts in direction_slots
    kernel,  # (M, T, D)
    gate_weight,  # (M, D)
    gate_bias,  # (M, T, D)
    d_total,  # (R, D)
    d_gate_sum,  # (M, B) float32
    d_scores,  # (blocks of channels, R, K) float32, result at kept edges, else 0 as before
    partial,  # (M, T + 1, chunks, 3D) float32, result: this program's sums for kernel, gate_bias, gate_weight
    num_nodes, images, channels, num_offsets, image_chunks, num_scores,
    K: tl.constexpr, PER_IMAGE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per chunk of the images, of the edges of one direction in them, and per BLOCK_D channels.

    After the T directions comes that of nodes to themselves, which has no gate.
    """
    chunk = tl.program_id(0)
    chunks = tl.num_programs(0)
    offset = tl.program_id(1).to(tl.int64)
    blocks = tl.cdiv(channels, BLOCK_D)
    model = tl.program_id(2).to(tl.int64) // blocks
    block = tl.program_id(2) % blocks
    d = block * BLOCK_D + tl.arange(0, BLOCK_D)
    edge_chunk, edge_chunks = chunk // image_chunks, chunks // image_chunks
    begin_image, end_image = share_of(images, chunk % image_chunks, image_chunks)
    sum_factor = tl.zeros([BLOCK_E, BLOCK_D], tl.float32)
    sum_bias = tl.zeros([BLOCK_E, BLOCK_D], tl.float32)
    sum_weight = tl.zeros([BLOCK_E, BLOCK_D], tl.float32)
    if offset == num_offsets:
        begin_node, end = share_of(num_nodes, edge_chunk, edge_chunks)
        for in_model in range(begin_image, end_image):
            first = (model * images + in_model) * num_nodes
            for begin in range(begin_node, end, BLOCK_E):
                node = begin + tl.arange(0, BLOCK_E)
                own = load_rows(nodes, first + node, channels, node < end, d, channels)
                sum_factor += own * load_rows(d_total, first + node, channels, node < end, d, channels)
    else:
        start = tl.load(direction_start + offset)
        count = (tl.load(direction_start + offset + 1) - start).to(tl.int32)
        place = (model * num_offsets + offset) * channels
        weight = load_row(gate_weight + model * channels, d, channels)
        bias = load_row(gate_bias + place, d, channels)[None, :]
        factor = load_row(kernel + place, d, channels)[None, :]
        begin_edge, end = share_of(count, edge_chunk, edge_chunks)
        for in_model in range(begin_image, end_image):
            image = model * images + in_model
            first = image * num_nodes
            d_gates = tl.load(d_gate_sum + image)
            for begin in range(begin_edge, end, BLOCK_E):
                edge = begin + tl.arange(0, BLOCK_E)
                slot = tl.load(direction_slots + start + edge, mask=edge < end, other=0)
                kept = (edge < end) & (
                    tl.load(keep + (first * K if PER_IMAGE else 0) + slot, mask=edge < end, other=0) != 0
                )
                sender = first + tl.load(nbr + slot, mask=kept, other=0)
                score = tl.load(scores + first * K + slot, mask=kept, other=0.0)
                product = load_rows(nodes, sender, channels, kept, d, channels)
                product *= load_rows(d_total, first + slot.to(tl.int32) // K, channels, kept, d, channels)
                gate = gates_of(score, weight, bias)
                d_logit = (product * factor + d_gates) * gate * (1.0 - gate)
                d_logit = tl.where(kept[:, None] & (d < channels)[None, :], d_logit, 0.0)
                sum_factor += product * gate
                sum_bias += d_logit
                sum_weight += d_logit * score[:, None]
                d_score = d_scores + block.to(tl.int64) * num_scores + first * K + slot
                tl.store(d_score, tl.sum(d_logit * weight[None, :], 1), mask=kept)
    sums = partial + ((model * tl.num_programs(1) + offset) * chunks + chunk) * 3 * channels
    tl.store(sums + d, tl.sum(sum_factor, 0), mask=d < channels)
    tl.store(sums + channels + d, tl.sum(sum_bias, 0), mask=d < channels)
    tl.store(sums + 2 * channels + d, tl.sum(sum_weight, 0), mask=d < channels)
