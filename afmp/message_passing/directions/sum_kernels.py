"""Triton kernels of the gated sums with directions. `directions.pytorch.directed_sum` has the equation.

Sizes: M models, B images per model, N nodes per image, K slots per node, E edges, T offsets, D channels. The nodes of
all images of all models are R = M * B * N rows, one after another. `sender_index` is, for a kept slot, the sender's
index among the nodes of its image, and -1 for a pruned slot. As in the kernels of the scores, sums are in float32,
nothing is scattered, row indices are int64, and one backward kernel visits nodes and the other edges by direction.
"""

import triton
import triton.language as tl

from afmp.message_passing.triton_rows import load_row


@triton.jit
def sum_kernel(
    nodes,  # (R, D)
    scores,  # (R, K) float32
    sender_index,  # (R, K) int32
    offset_index,  # (N, K) int64
    kernel,  # (M, T, D)
    gate_weight,  # (M, D)
    gate_bias,  # (M, T, D)
    total,  # (R, D), result
    gate_sums,  # (M, B, programs per image) float32, result: the sum of this program's gates
    num_nodes, images_per_model, channels, K, num_offsets,
    BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr, NODES_PER_PROGRAM: tl.constexpr,
):  # fmt: skip
    """One program per NODES_PER_PROGRAM nodes of one image, one node at a time, GROUP slots at a time."""
    program = tl.program_id(0).to(tl.int64)  # one axis: the others are limited to 65,535 programs
    programs = tl.cdiv(num_nodes, NODES_PER_PROGRAM)
    image = program // programs
    model = image // images_per_model
    d = tl.arange(0, BLOCK_D)
    slots = tl.arange(0, BLOCK_K)
    weight = load_row(gate_weight + model * channels, d, channels)
    own = 1.0 + load_row(kernel + model * num_offsets * channels, d, channels)
    gates = tl.zeros([BLOCK_D], tl.float32)
    first = image * num_nodes
    begin = program % programs * NODES_PER_PROGRAM
    for node in range(begin, min(begin + NODES_PER_PROGRAM, num_nodes)):
        row = first + node
        indices = tl.load(sender_index + row * K + slots, mask=slots < K, other=-1)
        heard = own * load_row(nodes + row * channels, d, channels)
        for group in range(0, K, GROUP):
            if tl.max(tl.where((slots >= group) & (slots < group + GROUP), indices, -1), 0) >= 0:
                # No branch separates the messages of a group, so they are loaded together.
                for member in tl.static_range(GROUP):
                    slot = group + member
                    index = tl.load(sender_index + row * K + slot, mask=slot < K, other=-1).to(tl.int64)
                    kept = (d < channels) & (index >= 0)
                    score = tl.load(scores + row * K + slot, mask=index >= 0, other=0.0)
                    offset = tl.load(offset_index + node * K + slot, mask=index >= 0, other=0)
                    place = (model * num_offsets + offset) * channels + d
                    bias = tl.load(gate_bias + place, mask=kept, other=0.0).to(tl.float32)
                    factor = tl.load(kernel + place, mask=kept, other=0.0).to(tl.float32)
                    sent = tl.load(nodes + (first + index) * channels + d, mask=kept, other=0.0).to(tl.float32)
                    gate = tl.where(kept, tl.sigmoid(score * weight + bias), 0.0)
                    gates += gate
                    heard += gate * factor * sent
        tl.store(total + row * channels + d, heard, mask=d < channels)
    tl.store(gate_sums + program, tl.sum(gates, 0))


@triton.jit
def sum_nodes_backward_kernel(
    scores,  # (R, K) float32
    sender_index,  # (R, K) int32
    nbr,  # (N, K) int64
    rev,  # (N, K) int64
    offset_index,  # (N, K) int64
    kernel,  # (M, T, D)
    gate_weight,  # (M, D)
    gate_bias,  # (M, T, D)
    d_total,  # (R, D)
    d_nodes,  # (R, D), result
    num_nodes, rows_per_model, channels, K, num_offsets,
    BLOCK_D: tl.constexpr, ROWS_PER_PROGRAM: tl.constexpr,
):  # fmt: skip
    """One program per ROWS_PER_PROGRAM nodes of one model: their gradients, through what they sent."""
    model = tl.program_id(1).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    weight = load_row(gate_weight + model * channels, d, channels)
    own = 1.0 + load_row(kernel + model * num_offsets * channels, d, channels)
    begin = tl.program_id(0).to(tl.int64) * ROWS_PER_PROGRAM
    for in_model in range(begin, min(begin + ROWS_PER_PROGRAM, rows_per_model)):
        row = model * rows_per_model + in_model
        node = row % num_nodes
        first = row - node
        d_node = own * load_row(d_total + row * channels, d, channels)
        for slot in range(K):
            opposite = tl.load(rev + node * K + slot)
            if tl.load(sender_index + first * K + opposite) >= 0:
                receiver = first + tl.load(nbr + node * K + slot)
                place = (model * num_offsets + tl.load(offset_index + opposite)) * channels
                bias = load_row(gate_bias + place, d, channels)
                gate = tl.sigmoid(tl.load(scores + first * K + opposite) * weight + bias)
                factor = gate * load_row(kernel + place, d, channels)
                d_node += factor * load_row(d_total + receiver * channels, d, channels)
        tl.store(d_nodes + row * channels + d, d_node, mask=d < channels)


@triton.jit
def sum_edges_backward_kernel(
    nodes,  # (R, D)
    scores,  # (R, K) float32
    sender_index,  # (R, K) int32
    direction_slots,  # (E,) int64: the flat slots of the edges, in the order of their directions
    direction_start,  # (T + 1,) int64: where each direction starts in direction_slots
    kernel,  # (M, T, D)
    gate_weight,  # (M, D)
    gate_bias,  # (M, T, D)
    d_total,  # (R, D)
    d_gate_sum,  # (M, B) float32
    d_scores,  # (R, K) float32, result at kept edges, else 0 as before
    partial,  # (M, T + 1, chunks, 3D) float32, result: this program's sums for kernel, gate_bias, gate_weight
    num_nodes, images, channels, K, num_offsets, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per chunk of the edges of one direction, over all images of one model, one edge at a time.

    After the T directions comes that of nodes to themselves, which has no gate.
    """
    chunk = tl.program_id(0).to(tl.int64)
    offset = tl.program_id(1).to(tl.int64)
    model = tl.program_id(2).to(tl.int64)
    chunks = tl.num_programs(0)
    d = tl.arange(0, BLOCK_D)
    sum_factor = tl.zeros([BLOCK_D], tl.float32)
    sum_bias = tl.zeros([BLOCK_D], tl.float32)
    sum_weight = tl.zeros([BLOCK_D], tl.float32)
    if offset == num_offsets:
        rows_each = tl.cdiv(images * num_nodes, chunks)
        for in_model in range(chunk * rows_each, min((chunk + 1) * rows_each, images * num_nodes)):
            row = (model * images * num_nodes + in_model) * channels
            sum_factor += load_row(nodes + row, d, channels) * load_row(d_total + row, d, channels)
    else:
        start = tl.load(direction_start + offset)
        count = tl.load(direction_start + offset + 1) - start
        place = (model * num_offsets + offset) * channels
        weight = load_row(gate_weight + model * channels, d, channels)
        bias = load_row(gate_bias + place, d, channels)
        factor = load_row(kernel + place, d, channels)
        each = tl.cdiv(images * count, chunks)
        for pair in range(chunk * each, min((chunk + 1) * each, images * count)):
            image = model * images + pair // count
            flat = tl.load(direction_slots + start + pair % count)
            edge = image * num_nodes * K + flat
            sender = tl.load(sender_index + edge).to(tl.int64)
            if sender >= 0:
                first = image * num_nodes
                product = load_row(nodes + (first + sender) * channels, d, channels)
                product *= load_row(d_total + (first + flat // K) * channels, d, channels)
                score = tl.load(scores + edge)
                gate = tl.sigmoid(score * weight + bias)
                d_gate = product * factor + tl.load(d_gate_sum + image)
                d_logit = tl.where(d < channels, d_gate * gate * (1.0 - gate), 0.0)
                sum_factor += product * gate
                sum_bias += d_logit
                sum_weight += d_logit * score
                tl.store(d_scores + edge, tl.sum(d_logit * weight, 0))
    sums = partial + ((model * tl.num_programs(1) + offset) * chunks + chunk) * 3 * channels
    tl.store(sums + d, sum_factor, mask=d < channels)
    tl.store(sums + channels + d, sum_bias, mask=d < channels)
    tl.store(sums + 2 * channels + d, sum_weight, mask=d < channels)
