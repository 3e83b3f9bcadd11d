"""Triton kernels that select the k best edges of each image: a radix select, its counting shared by many programs.

A score is read as four digits of 8 bits. The digits of the k-th best score are found one by one, the highest first.
Each of four launches looks at the slots whose score begins with the digits found so far, and counts them by their next
digit. The next launch adds up these counts and so finds that digit. A fifth launch writes the result.

One program reads one chunk of an image's slots. An image has at most MAX_CHUNKS chunks, because every program adds up
the counts of all of them. So chunks grow with the image. Time is linear in the number of slots. There are no atomics
and no sort. Images of at most MAX_BLOCK slots need one launch, with one program per image (`select_kernel`).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_BLOCK = 4096  # slots that a program reads at once; a larger chunk is read in steps
MIN_CHUNK, MAX_CHUNKS = 1024, 128
TARGET_PROGRAMS = 128  # about one per multiprocessor
BINS = tl.constexpr(256)


@triton.jit
def ordered_scores(
    scores,  # (M, B, N, K) float32
    valid,  # (N, K) bool
    image, slot, num_slots,
):  # fmt: skip
    """Return the scores of the slots `slot` as unsigned integers in the same order, and whether each slot is an edge.

    NaN is the highest, and -0.0 equals 0.0.
    """
    inside = slot < num_slots
    score = tl.load(scores + image * num_slots + slot, mask=inside, other=0.0)
    live = inside & (tl.load(valid + slot, mask=inside, other=0) != 0)
    score = tl.where(score == 0.0, 0.0, score)
    score = tl.where(score != score, float("inf"), score)
    bits = score.to(tl.int32, bitcast=True)
    order = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.uint32, bitcast=True) ^ 0x80000000
    return tl.where(live, order, 0), live  # 0 is below every score, -inf included


@triton.jit
def next_slots(slot, step, steps, num_slots, BLOCK: tl.constexpr):
    """Return the slots of a chunk's next step. After the last step there are none, and nothing is loaded."""
    return tl.where(step + 1 < steps, slot + BLOCK, num_slots)


@triton.jit
def _next_digit(
    counts,  # (M * B, 4, chunks, 256) int16 or int32
    prefix,  # (M * B, 4, 2) int32
    image, num_chunks, LEVEL: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Find the next digit of the k-th best score from the counts of the previous launch.

    Returns the score's first LEVEL digits, how many of the slots with these digits are kept, the bin of the last digit,
    and the counts [ROWS, 256] of all chunks.
    """
    chunks, bins = tl.arange(0, ROWS), tl.arange(0, BINS)
    before = image * 4 + LEVEL - 1
    digits = tl.load(prefix + before * 2).to(tl.uint32)
    wanted = tl.load(prefix + before * 2 + 1)
    # One load for all chunks: in a loop every step would wait for memory.
    rows = counts + (before * num_chunks + chunks)[:, None] * BINS + bins[None, :]
    counted = tl.load(rows, mask=(chunks < num_chunks)[:, None], other=0).to(tl.int32)
    total = tl.sum(counted, 0)
    # One sum of two counts: upper half, the bins above that of the k-th best score; lower half, the slots in them.
    better = tl.cumsum(total, 0) < wanted
    both = tl.sum(tl.where(better, total.to(tl.int64) + (1 << 32), 0), 0)
    last = (both >> 32).to(tl.int32)
    digits = (digits << 8) | (255 - last).to(tl.uint32)
    return digits, wanted - (both & 0xFFFFFFFF).to(tl.int32), last, counted


@triton.jit
def count_kernel(
    scores,  # (M, B, N, K) float32
    valid,  # (N, K) bool
    counts,  # (M * B, 4, chunks, 256) int16 or int32, result: slots by their next digit, the highest digit in bin 0
    prefix,  # (M * B, 4, 2) int32, result: the k-th best score's digits so far; how many slots with them are kept
    above,  # (M * B, chunks) int32, result of the last level: slots with higher digits
    num_slots, num_chunks, steps, k, LEVEL: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One program per chunk of an image: count the slots that have the k-th best score's first LEVEL digits."""
    program = tl.program_id(0).to(tl.int64)
    image, chunk = program // num_chunks, (program % num_chunks).to(tl.int32)
    slot = chunk * steps * BLOCK + tl.arange(0, BLOCK)
    order, live = ordered_scores(scores, valid, image, slot, num_slots)
    digits, wanted = 0, k
    if LEVEL > 0:
        digits, wanted, _, _ = _next_digit(counts, prefix, image, num_chunks, LEVEL, ROWS)
    counted = tl.zeros([BINS], tl.int32)
    num_above = 0
    for step in range(steps):
        if LEVEL > 0:
            shared = order >> (32 - 8 * LEVEL)
            live = live & (shared == digits)
            if LEVEL == 3:
                num_above += tl.sum((shared > digits).to(tl.int32), 0)
        counted += tl.histogram(255 - ((order >> (24 - 8 * LEVEL)) & 255).to(tl.int32), BINS, mask=live)
        slot = next_slots(slot, step, steps, num_slots, BLOCK)
        order, live = ordered_scores(scores, valid, image, slot, num_slots)
    tl.store(counts + ((image * 4 + LEVEL) * num_chunks + chunk) * BINS + tl.arange(0, BINS), counted)
    if LEVEL == 3:
        tl.store(above + image * num_chunks + chunk, num_above)
    tl.store(prefix + (image * 4 + LEVEL) * 2, digits, mask=chunk == 0)
    tl.store(prefix + (image * 4 + LEVEL) * 2 + 1, wanted, mask=chunk == 0)


@triton.jit
def write_kept_kernel(
    scores,  # (M, B, N, K) float32
    valid,  # (N, K) bool
    counts,  # (M * B, 4, chunks, 256) int16 or int32
    prefix,  # (M * B, 4, 2) int32
    above,  # (M * B, chunks) int32
    slots,  # (M, B, k) int32, result
    kept_index,  # (M, B, N, K) int32, result
    num_slots, num_chunks, steps, k, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One program per chunk of an image: write its kept slots, and the index of each."""
    program = tl.program_id(0).to(tl.int64)
    image, chunk = program // num_chunks, (program % num_chunks).to(tl.int32)
    slot = chunk * steps * BLOCK + tl.arange(0, BLOCK)
    order, live = ordered_scores(scores, valid, image, slot, num_slots)
    chunks, bins = tl.arange(0, ROWS), tl.arange(0, BINS)
    above_before = tl.load(above + image * num_chunks + chunks, mask=chunks < chunk, other=0)
    threshold, wanted, last, counted = _next_digit(counts, prefix, image, num_chunks, 4, ROWS)
    earlier = tl.sum(tl.where((chunks < chunk)[:, None], counted, 0), 0)
    above_before = tl.sum(above_before, 0) + tl.sum(tl.where(bins < last, earlier, 0), 0)
    tied_before = tl.sum(tl.where(bins == last, earlier, 0), 0)
    for step in range(steps):
        above_before, tied_before = write_kept(
            order, live, threshold, wanted, above_before, tied_before, slots, kept_index, image, slot, num_slots, k
        )
        slot = next_slots(slot, step, steps, num_slots, BLOCK)
        order, live = ordered_scores(scores, valid, image, slot, num_slots)


@triton.jit
def write_kept(
    order, live, threshold, wanted, above_before, tied_before,
    slots,  # (M, B, k) int32, result
    kept_index,  # (M, B, N, K) int32, result
    image, slot, num_slots, k,
):  # fmt: skip
    """Keep the slots above the threshold and, over all steps, the first `wanted` that equal it.

    `above_before` and `tied_before` count both kinds in earlier slots. Returns both after this step.
    """
    above = live & (order > threshold)
    tied = live & (order == threshold)
    # One scan for both running counts: ties in the upper half.
    both = above.to(tl.int64) + (tied.to(tl.int64) << 32)
    running = tl.cumsum(both, 0)
    num_tied = (running >> 32).to(tl.int32) + tied_before
    keep = above | (tied & (num_tied <= wanted))
    index = (running & 0xFFFFFFFF).to(tl.int32) + above_before + tl.minimum(num_tied, wanted) - 1
    tl.store(kept_index + image * num_slots + slot, tl.where(keep, index, -1), mask=slot < num_slots)
    tl.store(slots + image * k + index, slot, mask=keep)
    both = tl.sum(both, 0)
    return above_before + (both & 0xFFFFFFFF).to(tl.int32), tied_before + (both >> 32).to(tl.int32)


@triton.jit
def select_kernel(
    scores,  # (M, B, N, K) float32
    valid,  # (N, K) bool
    slots,  # (M, B, k) int32, result
    kept_index,  # (M, B, N, K) int32, result
    num_slots, k, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program per image, for small images: find the k-th best score bit by bit."""
    image = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, BLOCK)
    order, live = ordered_scores(scores, valid, image, slot, num_slots)
    threshold = tl.zeros([1], tl.uint32)
    bit = tl.full([1], 0x80000000, tl.uint32)
    for _ in range(32):
        candidate = threshold | bit
        enough = tl.sum((order >= candidate).to(tl.int32), 0) >= k
        threshold = tl.where(enough, candidate, threshold)
        bit = bit >> 1
    wanted = k - tl.sum((live & (order > threshold)).to(tl.int32), 0)
    write_kept(order, live, threshold, wanted, 0, 0, slots, kept_index, image, slot, num_slots, k)


def select(scores: Tensor, valid: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Select the k best of each image's scores (M, B, N, K) float32; of equal scores, the earlier slot first.

    valid (N, K) bool; k is at most the number of valid slots. Returns slots (M, B, k) int32, the kept flat slots,
    ascending, and kept_index (M, B, N, K) int32, the index of each kept slot in `slots`, -1 for a pruned slot.
    """
    models, images, nodes, width = scores.shape
    num_slots = nodes * width
    slots = torch.empty(models, images, k, dtype=torch.int32, device=scores.device)
    kept_index = torch.empty(scores.shape, dtype=torch.int32, device=scores.device)
    if num_slots <= MAX_BLOCK:
        block = triton.next_power_of_2(num_slots)
        warps = min(8, max(1, block // 256))
        select_kernel[(models * images,)](scores, valid, slots, kept_index, num_slots, k, BLOCK=block, num_warps=warps)
        return slots, kept_index
    chunk = chunk_size(models * images, num_slots)
    block = min(chunk, MAX_BLOCK)
    num_chunks = triton.cdiv(num_slots, chunk)
    # int16 if a count fits: the time to add up the chunks is the time to read their counts, so smaller is faster.
    dtype = torch.int16 if chunk < 2**15 else torch.int32
    counts = torch.empty(models * images, 4, num_chunks, 256, dtype=dtype, device=scores.device)
    prefix = torch.empty(models * images, 4, 2, dtype=torch.int32, device=scores.device)
    above = torch.empty(models * images, num_chunks, dtype=torch.int32, device=scores.device)
    grid = (models * images * num_chunks,)
    sizes = (num_slots, num_chunks, chunk // block, k)
    tile = {"BLOCK": block, "ROWS": triton.next_power_of_2(num_chunks), "num_warps": 8}
    for level in range(4):
        count_kernel[grid](scores, valid, counts, prefix, above, *sizes, LEVEL=level, **tile)
    write_kept_kernel[grid](scores, valid, counts, prefix, above, slots, kept_index, *sizes, **tile)
    return slots, kept_index


def chunk_size(images: int, num_slots: int) -> int:
    """Return the slots per chunk, a power of 2 with which about TARGET_PROGRAMS programs run.

    It is from MIN_CHUNK to MAX_BLOCK, or more if an image would otherwise have more than MAX_CHUNKS chunks.
    """
    # A single image gets only half as many programs: more chunks take longer to add up than they save in counting.
    fill = triton.next_power_of_2(triton.cdiv(max(images, 2) * num_slots, TARGET_PROGRAMS))
    return max(min(max(fill, MIN_CHUNK), MAX_BLOCK), triton.next_power_of_2(triton.cdiv(num_slots, MAX_CHUNKS)))
