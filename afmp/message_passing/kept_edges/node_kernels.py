"""Triton kernels of a layer's nodes: their mean, the gradient of GELU, and partial sums added up.

Sizes: M models, B images per model, N nodes per image, D channels; R = M * B * N rows of nodes. Many programs each
write the sum over their part of the rows. A second kernel adds the parts up in a fixed order, without atomics.
"""

import triton
import triton.language as tl

from afmp.message_passing.triton_rows import load_row, load_rows, store_rows


@triton.jit
def mean_kernel(
    state_sums,  # (M, B, parts, D) float32
    gate_sums,  # (M, B, parts) float32
    mean,  # (M, B, D), result
    gates,  # (M, B) float32, result
    parts, num_nodes, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program per image and BLOCK_C channels: the mean over nodes; the first one also adds up all gates."""
    image = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    total_gates = tl.zeros([BLOCK_P], tl.float32)
    for first in range(0, parts, BLOCK_P):
        part = first + tl.arange(0, BLOCK_P)
        total += load_rows(state_sums, image * parts + part, channels, part < parts, c, channels)
        total_gates += tl.load(gate_sums + image * parts + part, mask=part < parts, other=0.0)
    tl.store(mean + image * channels + c, tl.sum(total, 0) / num_nodes, mask=c < channels)
    if tl.program_id(1) == 0:
        tl.store(gates + image, tl.sum(total_gates, 0))


@triton.jit
def gelu_backward_kernel(
    total,  # (R, D): the input of GELU
    d_new_state,  # (R, D): gradient of the new state; read with FROM_STATE only
    d_mean,  # (M, B, D): gradient of the new state's mean over nodes
    d_total,  # (R, D), result
    sums,  # (M, B, programs per image, D) float32, result: this program's sum of d_total
    num_nodes, channels,
    FROM_STATE: tl.constexpr, BLOCK_D: tl.constexpr, NODES_PER_STEP: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """One program per STEPS * NODES_PER_STEP nodes of one image: the gradient of GELU and of the mean over nodes."""
    # The grid has one axis, because the others are limited to 65,535 programs.
    program = tl.program_id(0).to(tl.int64)
    programs_per_image = tl.cdiv(num_nodes, NODES_PER_STEP * STEPS)
    image, chunk = program // programs_per_image, program % programs_per_image
    d = tl.arange(0, BLOCK_D)
    from_mean = (load_row(d_mean + image * channels, d, channels) / num_nodes)[None, :]
    total_sum = tl.zeros([BLOCK_D], tl.float32)
    for step in range(STEPS):
        node = (chunk * STEPS + step) * NODES_PER_STEP + tl.arange(0, NODES_PER_STEP)
        live = node < num_nodes
        row = image * num_nodes + node
        x = load_rows(total, row, channels, live, d, channels)
        slope = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
        d_rows = from_mean * slope
        if FROM_STATE:
            d_rows += load_rows(d_new_state, row, channels, live, d, channels) * slope
        total_sum += tl.sum(tl.where(live[:, None], d_rows, 0.0), 0)
        store_rows(d_total, row, channels, live, d, channels, d_rows)
    tl.store(sums + program * channels + d, total_sum, mask=d < channels)


@triton.jit
def add_parts_kernel(
    own_sums,  # (M, own_parts, own_width) float32
    edge_sums,  # (M, edge_parts, edge_width) float32
    d_bias,  # (M, bias_width), result: the sums over parts of own_sums, then of the first columns of edge_sums
    d_edges,  # (M, own_width + edge_width - bias_width) float32, result: the sums of the other columns of edge_sums
    own_parts, edge_parts, own_width, edge_width, bias_width,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One program per model and BLOCK_C columns of own_sums or of edge_sums: add up all parts."""
    model = tl.program_id(1).to(tl.int64)
    own_blocks = tl.cdiv(own_width, BLOCK_C)
    block = tl.program_id(0)
    own = block < own_blocks
    parts = tl.where(own, own_parts, edge_parts)
    width = tl.where(own, own_width, edge_width)
    c = tl.where(own, block, block - own_blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for first in range(0, parts, BLOCK_P):
        part = first + tl.arange(0, BLOCK_P)
        row, live = model * parts + part, part < parts
        total += load_rows(own_sums, row, width, live & own, c, width)
        total += load_rows(edge_sums, row, width, live & (own == 0), c, width)
    sums = tl.sum(total, 0)
    column = tl.where(own, c, own_width + c)
    tl.store(d_bias + model * bias_width + column, sums, mask=(c < width) & (column < bias_width))
    edges_width = own_width + edge_width - bias_width
    tl.store(d_edges + model * edges_width + column - bias_width, sums, mask=(c < width) & (column >= bias_width))
