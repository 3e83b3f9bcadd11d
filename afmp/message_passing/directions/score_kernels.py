"""Triton kernels of the edge scores with directions. `directions.pytorch.edge_scores` has the equation.

Sizes: M models, B images per model, N nodes per image, K slots per node, E edges, T offsets, r channels of the router.
The nodes of all images of all models are R = M * B * N rows, one after another. SCALE is 1 / sqrt(r). As in
`all_edges`, nothing is scattered, sums are in float32, and row indices are int64.

The backward pass has two kernels. One visits nodes, and finds through `rev` what a node sent. The other visits edges in
the order of their directions, and sums up the gradients of weights.
"""

import triton
import triton.language as tl

from afmp.message_passing.triton_rows import load_row, load_rows, share_of, store_rows, tile_of_nodes


@triton.jit
def hidden_units(a, b, direction, p, z, error, RANK: tl.constexpr, PREDICTS: tl.constexpr):
    """Return of some edges the hidden units before the ReLU [E, r], z - p [E, r], and err [E, 1]."""
    # One function for all passes, so that rounding gives every pass the same sign of each unit.
    unit = a + b + direction
    surprise = z - p
    size = tl.sqrt(tl.sum(surprise * surprise, 1) / RANK)[:, None]
    if PREDICTS:
        unit += size * error
    return unit, surprise, size


@triton.jit
def slope_of(d_unit, error, size, RANK: tl.constexpr):
    """Return the factor [E, 1] of z - p in the gradient of z: 0 where err is 0."""
    slope = tl.sum(d_unit * error, 1)[:, None]
    return tl.where(size > 0, slope / (tl.where(size > 0, size, 1.0) * RANK), 0.0)


@triton.jit
def weight_rows(out, error, model, c, RANK: tl.constexpr, PREDICTS: tl.constexpr):
    """Return the rows [1, r] of out and of error of one model; without PREDICTS the second is not used."""
    out_row = load_row(out + model * RANK, c, RANK)[None, :]
    error_row = out_row
    if PREDICTS:
        error_row = load_row(error + model * RANK, c, RANK)[None, :]
    return out_row, error_row


@triton.jit
def slots_of(begin, num_nodes, block, K, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """Return node, number and liveness [BLOCK_N * BLOCK_K] of a block of slots of the nodes from `begin` on."""
    member = tl.arange(0, BLOCK_N * BLOCK_K)
    node = begin + member // BLOCK_K
    slot = block * BLOCK_K + member % BLOCK_K
    return node, slot, (node < num_nodes) & (slot < K)


@triton.jit
def score_kernel(
    mapped,  # (R, 6r) [q | a | p | k | b | z]
    error,  # (M, r), None if err is 0
    direction,  # (M, T, r)
    out,  # (M, r)
    out_bias,  # (M, 1)
    nbr,  # (N, K) int64
    valid,  # (N, K) bool
    offset_index,  # (N, K) int64
    scores,  # (R, K) float32, result: 0 in slots that are not valid
    num_nodes, images_per_model, num_offsets, K,
    RANK: tl.constexpr, SCALE: tl.constexpr, PREDICTS: tl.constexpr,
    BLOCKS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per BLOCK_N nodes of one image: the scores of all their slots, BLOCK_K at a time."""
    model, first, begin = tile_of_nodes(num_nodes, images_per_model, BLOCK_N)
    c = tl.arange(0, BLOCK_D)
    width = 6 * RANK
    out_row, error_row = weight_rows(out, error, model, c, RANK, PREDICTS)
    bias = tl.load(out_bias + model).to(tl.float32)
    for block in range(BLOCKS):
        node, slot, inside = slots_of(begin, num_nodes, block, K, BLOCK_N, BLOCK_K)
        edge = node * K + slot
        live = tl.load(valid + edge, mask=inside, other=0) != 0
        receiver = first + node
        sender = first + tl.load(nbr + edge, mask=live, other=0)
        offset = model * num_offsets + tl.load(offset_index + edge, mask=live, other=0)
        directions = load_rows(direction, offset, RANK, live, c, RANK)
        q = load_rows(mapped, receiver, width, live, c, RANK)
        a = load_rows(mapped + RANK, receiver, width, live, c, RANK)
        p = load_rows(mapped + 2 * RANK, receiver, width, live, c, RANK)
        k = load_rows(mapped + 3 * RANK, sender, width, live, c, RANK)
        b = load_rows(mapped + 4 * RANK, sender, width, live, c, RANK)
        z = load_rows(mapped + 5 * RANK, sender, width, live, c, RANK)
        unit, _, _ = hidden_units(a, b, directions, p, z, error_row, RANK, PREDICTS)
        score = tl.sum(q * k, 1) * SCALE + tl.sum(tl.maximum(unit, 0.0) * out_row, 1) + bias
        tl.store(scores + first * K + edge, tl.where(live, score, 0.0), mask=inside)


@triton.jit
def sum_of_slots(rows, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr):
    """Return for each node [BLOCK_N, BLOCK_D] the sum of the rows [BLOCK_N * BLOCK_K, BLOCK_D] of its slots."""
    return tl.sum(tl.reshape(rows, (BLOCK_N, BLOCK_K, BLOCK_D)), 1)


@triton.jit
def score_nodes_backward_kernel(
    mapped,  # (R, 6r) [q | a | p | k | b | z]
    error,  # (M, r), None if err is 0
    direction,  # (M, T, r)
    out,  # (M, r)
    nbr,  # (N, K) int64
    valid,  # (N, K) bool
    rev,  # (N, K) int64
    offset_index,  # (N, K) int64
    d_scores,  # (R, K) float32
    d_mapped,  # (R, 6r), result
    num_nodes, images_per_model, num_offsets, K,
    RANK: tl.constexpr, SCALE: tl.constexpr, PREDICTS: tl.constexpr,
    BLOCKS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per BLOCK_N nodes of one image: their gradients as receivers, and as senders of opposite slots."""
    model, first, begin = tile_of_nodes(num_nodes, images_per_model, BLOCK_N)
    c = tl.arange(0, BLOCK_D)
    width = 6 * RANK
    out_row, error_row = weight_rows(out, error, model, c, RANK, PREDICTS)
    d_q = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    d_a = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    d_p = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    d_k = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    d_b = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    d_z = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for block in range(BLOCKS):
        node, slot, inside = slots_of(begin, num_nodes, block, K, BLOCK_N, BLOCK_K)
        edge = node * K + slot
        row = first + node
        other = first + tl.load(nbr + edge, mask=inside, other=0)

        # The nodes as receivers of their slots.
        live = tl.load(valid + edge, mask=inside, other=0) != 0
        offset = model * num_offsets + tl.load(offset_index + edge, mask=live, other=0)
        directions = load_rows(direction, offset, RANK, live, c, RANK)
        d_score = tl.load(d_scores + first * K + edge, mask=live, other=0.0)[:, None]
        a = load_rows(mapped + RANK, row, width, live, c, RANK)
        p = load_rows(mapped + 2 * RANK, row, width, live, c, RANK)
        k_j = load_rows(mapped + 3 * RANK, other, width, live, c, RANK)
        b_j = load_rows(mapped + 4 * RANK, other, width, live, c, RANK)
        z_j = load_rows(mapped + 5 * RANK, other, width, live, c, RANK)
        unit, surprise, size = hidden_units(a, b_j, directions, p, z_j, error_row, RANK, PREDICTS)
        d_unit = tl.where(unit > 0, d_score * out_row, 0.0)
        d_q += sum_of_slots(d_score * k_j, BLOCK_N, BLOCK_K, BLOCK_D)
        d_a += sum_of_slots(d_unit, BLOCK_N, BLOCK_K, BLOCK_D)
        if PREDICTS:
            d_surprise = slope_of(d_unit, error_row, size, RANK) * surprise
            d_p -= sum_of_slots(d_surprise, BLOCK_N, BLOCK_K, BLOCK_D)

        # The nodes as senders of the opposite slots.
        opposite = tl.load(rev + edge, mask=inside, other=0)
        sends = tl.load(valid + opposite, mask=inside, other=0) != 0
        offset = model * num_offsets + tl.load(offset_index + opposite, mask=sends, other=0)
        directions = load_rows(direction, offset, RANK, sends, c, RANK)
        d_score = tl.load(d_scores + first * K + opposite, mask=sends, other=0.0)[:, None]
        b = load_rows(mapped + 4 * RANK, row, width, sends, c, RANK)
        z = load_rows(mapped + 5 * RANK, row, width, sends, c, RANK)
        q_i = load_rows(mapped, other, width, sends, c, RANK)
        a_i = load_rows(mapped + RANK, other, width, sends, c, RANK)
        p_i = load_rows(mapped + 2 * RANK, other, width, sends, c, RANK)
        unit, surprise, size = hidden_units(a_i, b, directions, p_i, z, error_row, RANK, PREDICTS)
        d_unit = tl.where(unit > 0, d_score * out_row, 0.0)
        d_k += sum_of_slots(d_score * q_i, BLOCK_N, BLOCK_K, BLOCK_D)
        d_b += sum_of_slots(d_unit, BLOCK_N, BLOCK_K, BLOCK_D)
        if PREDICTS:
            d_surprise = slope_of(d_unit, error_row, size, RANK) * surprise
            d_z += sum_of_slots(d_surprise, BLOCK_N, BLOCK_K, BLOCK_D)
    node = begin + tl.arange(0, BLOCK_N)
    row, inside = first + node, node < num_nodes
    store_rows(d_mapped, row, width, inside, c, RANK, d_q * SCALE)
    store_rows(d_mapped + RANK, row, width, inside, c, RANK, d_a)
    store_rows(d_mapped + 2 * RANK, row, width, inside, c, RANK, d_p)
    store_rows(d_mapped + 3 * RANK, row, width, inside, c, RANK, d_k * SCALE)
    store_rows(d_mapped + 4 * RANK, row, width, inside, c, RANK, d_b)
    store_rows(d_mapped + 5 * RANK, row, width, inside, c, RANK, d_z)


@triton.jit
def score_weights_backward_kernel(
    mapped,  # (R, 6r) [q | a | p | k | b | z]
    error,  # (M, r), None if err is 0
    direction,  # (M, T, r)
    out,  # (M, r)
    nbr,  # (N, K) int64
    direction_slots,  # (E,) int64: the flat slots of the edges, in the order of their directions
    direction_start,  # (T + 1,) int64: where each direction starts in direction_slots
    d_scores,  # (R, K) float32
    partial,  # (M, T, chunks, 3r + 1) float32, result: this program's sums for direction, error, out, out_bias
    num_nodes, images, image_chunks,
    K: tl.constexpr, RANK: tl.constexpr, PREDICTS: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per chunk of the images, and of the edges of one direction in them; BLOCK_E edges at a time."""
    chunk = tl.program_id(0)
    offset = tl.program_id(1).to(tl.int64)
    model = tl.program_id(2).to(tl.int64)
    chunks = tl.num_programs(0)
    c = tl.arange(0, BLOCK_D)
    width = 6 * RANK
    start = tl.load(direction_start + offset)
    count = (tl.load(direction_start + offset + 1) - start).to(tl.int32)
    directions = load_row(direction + (model * tl.num_programs(1) + offset) * RANK, c, RANK)[None, :]
    out_row, error_row = weight_rows(out, error, model, c, RANK, PREDICTS)
    sum_direction = tl.zeros([BLOCK_E, BLOCK_D], tl.float32)
    sum_error = tl.zeros([BLOCK_E, BLOCK_D], tl.float32)
    sum_out = tl.zeros([BLOCK_E, BLOCK_D], tl.float32)
    sum_bias = tl.zeros([BLOCK_E], tl.float32)
    begin_image, end_image = share_of(images, chunk % image_chunks, image_chunks)
    begin_edge, end_edge = share_of(count, chunk // image_chunks, chunks // image_chunks)
    for in_model in range(begin_image, end_image):
        first = (model * images + in_model) * num_nodes
        for begin in range(begin_edge, end_edge, BLOCK_E):
            edge = begin + tl.arange(0, BLOCK_E)
            live = edge < end_edge
            slot = tl.load(direction_slots + start + edge, mask=live, other=0)
            receiver = first + slot.to(tl.int32) // K
            sender = first + tl.load(nbr + slot, mask=live, other=0)
            d_score = tl.load(d_scores + first * K + slot, mask=live, other=0.0)
            a = load_rows(mapped + RANK, receiver, width, live, c, RANK)
            p = load_rows(mapped + 2 * RANK, receiver, width, live, c, RANK)
            b = load_rows(mapped + 4 * RANK, sender, width, live, c, RANK)
            z = load_rows(mapped + 5 * RANK, sender, width, live, c, RANK)
            unit, _, size = hidden_units(a, b, directions, p, z, error_row, RANK, PREDICTS)
            d_unit = tl.where(unit > 0, d_score[:, None] * out_row, 0.0)
            sum_direction += d_unit
            sum_error += size * d_unit
            sum_out += d_score[:, None] * tl.maximum(unit, 0.0)
            sum_bias += d_score
    sums = partial + ((model * tl.num_programs(1) + offset) * chunks + chunk) * (3 * RANK + 1)
    tl.store(sums + c, tl.sum(sum_direction, 0), mask=c < RANK)
    tl.store(sums + RANK + c, tl.sum(sum_error, 0), mask=c < RANK)
    tl.store(sums + 2 * RANK + c, tl.sum(sum_out, 0), mask=c < RANK)
    tl.store(sums + 3 * RANK, tl.sum(sum_bias, 0))
