"""Rows in Triton kernels: loads, stores, and the hidden layer of v, for the kernels of message passing.

A program works on all channels of a row at once, BLOCK of them, padded to a power of two; the sums of directions/ on a
block of the channels. It computes in float32.
"""

import triton
import triton.language as tl


@triton.jit
def load_row(
    start,  # (width,)
    columns, width,
):  # fmt: skip
    """Return one row [BLOCK] in float32, 0 beyond its `width`."""
    return tl.load(start + columns, mask=columns < width, other=0.0).to(tl.float32)


@triton.jit
def load_rows(
    start,  # (rows, width), `stride` elements from row to row
    index, stride, live, columns, width,
):  # fmt: skip
    """Return the rows [R, BLOCK] at `index` [R] in float32, 0 where not `live` [R]."""
    mask = live[:, None] & (columns < width)[None, :]
    return tl.load(start + index[:, None] * stride + columns[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_rows(
    start,  # (rows, width), `stride` elements from row to row
    index, stride, live, columns, width, rows,
):  # fmt: skip
    """Write `rows` [R, BLOCK] to the places `index` [R], where `live` [R]."""
    mask = live[:, None] & (columns < width)[None, :]
    tl.store(start + index[:, None] * stride + columns[None, :], rows, mask=mask)


@triton.jit
def share_of(count, chunk, chunks):
    """Return begin and end of the part of `count` things that is chunk number `chunk` of `chunks`."""
    each = tl.cdiv(count, chunks)
    return chunk * each, min((chunk + 1) * each, count)


@triton.jit
def tile_of_nodes(num_nodes, images_per_model, BLOCK_N: tl.constexpr):
    """Return of this program's tile of nodes its model, the row of its image's first node, and its own first node."""
    program = tl.program_id(0).to(tl.int64)  # one axis: the others are limited to 65,535 programs
    tiles = tl.cdiv(num_nodes, BLOCK_N)
    image = program // tiles
    return image // images_per_model, image * num_nodes, program % tiles * BLOCK_N


@triton.jit
def pre_activation(receiver, sender, dist, w_dist, error, w_error):
    """Return the hidden units of v before the ReLU, [H] or [slots, H]."""
    # One function for all passes, so that rounding gives every pass the same sign of each unit.
    return receiver + sender + dist * w_dist + error * w_error
