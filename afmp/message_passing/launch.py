"""Launches of the Triton kernels: tile sizes, warps, work per program, and tensors laid out as kernels read them.

If a program computes more rows, fewer partial sums are written. If it computes fewer rows, more programs run, and they
fill the device. `nodes_per_program`, `rows_per_program` and `edges_per_program` balance the two.
"""

import triton
from torch import Tensor

MAX_SLOTS_PER_TILE = 16  # a node of a grid has 8
MAX_CHANNELS_PER_TILE = 128
PROGRAMS_THAT_FILL_A_DEVICE = 8192  # a few for each place where a GPU of 132 multiprocessors can run one


def tile_sizes(slots: int, channels: int, hidden: int | None = None) -> dict[str, int]:
    """Return powers of two for tiles of one node: BLOCK_K slots, BLOCK_D channels and, if given, BLOCK_H hidden units.

    A tile has room for all channels and hidden units, and for at most MAX_SLOTS_PER_TILE of the slots.
    """
    block_k = min(triton.next_power_of_2(slots), MAX_SLOTS_PER_TILE)
    sizes = {"BLOCK_K": block_k, "BLOCK_D": max(triton.next_power_of_2(channels), 16)}
    return sizes if hidden is None else sizes | {"BLOCK_H": max(triton.next_power_of_2(hidden), 16)}


def num_warps(rows: int, width: int) -> int:
    """Return the warps of a program with tiles of `rows` by `width` elements: up to 16 elements per thread."""
    return min(16, max(1, triton.next_power_of_2(rows * width) // (32 * 16)))


def row_tile(channels: int) -> dict[str, int]:
    """Return BLOCK_D and num_warps of a program that reads one row at a time.

    A thread has 8 elements, as many bfloat16 values as it loads at once.
    """
    block = max(triton.next_power_of_2(channels), 32)
    return {"BLOCK_D": block, "num_warps": min(16, max(1, block // 256))}


def nodes_per_program(rows_per_model: int) -> int:
    """Return how many nodes of an image one program computes."""
    return 8 if rows_per_model <= 1 << 14 else 16 if rows_per_model <= 1 << 15 else 32


def rows_per_program(rows_per_model: int) -> int:
    """Return how many rows one backward program computes."""
    return max(1, min(8, rows_per_model // 1024))


def channel_tile(channels: int) -> dict[str, int]:
    """Return BLOCK_D and num_warps of a program with a few rows and a block of their channels."""
    return {"BLOCK_D": min(MAX_CHANNELS_PER_TILE, max(32, triton.next_power_of_2(channels))), "num_warps": 1}


def channel_blocks(channels: int) -> int:
    """Return the number of blocks of `channel_tile` that all channels take."""
    return triton.cdiv(channels, channel_tile(channels)["BLOCK_D"])


def chunks_of_direction(images: int, nodes: int, programs_per_chunk: int) -> tuple[int, int]:
    """Return into how many chunks the images, and the edges of one direction in them, are cut.

    `programs_per_chunk` is the number of other programs, of directions, models and blocks of channels.
    """
    wanted = max(1, min(PROGRAMS_THAT_FILL_A_DEVICE // programs_per_chunk, triton.cdiv(images * nodes, 32)))
    image_chunks = max(1, min(images, wanted))
    return image_chunks, triton.cdiv(wanted, image_chunks)


def edges_per_program(edges_per_model: int) -> int:
    """Return how many kept edges one backward program computes."""
    return 4 if edges_per_model <= 1 << 13 else 8


def contiguous(*tensors: Tensor) -> list[Tensor]:
    """Return the tensors contiguous, as kernels read them. A tensor that is not, such as a matrix column, is copied."""
    return [tensor.contiguous() for tensor in tensors]


def evenly_spaced_rows(rows: Tensor | None) -> tuple[Tensor | None, int]:
    """Return rows (M, B, N, C) with one stride between all M * B * N of them, and that stride in elements.

    Rows with other strides are copied. Without rows it returns None and 0.
    """
    if rows is None:
        return None, 0
    models, images, nodes, width = rows.shape
    stride = rows.stride(2)
    even = rows.stride(3) == 1 and rows.stride(1) == stride * nodes
    if even and (models == 1 or rows.stride(0) == stride * nodes * images):
        return rows, stride
    return rows.contiguous(), width
