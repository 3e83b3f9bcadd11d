"""The k best of images with many slots: digits of 8 bits, highest first, counted by many programs at once.

A program holds one chunk of an image's slots. After each digit it adds up what all chunks counted and goes on among the
slots that share the digits so far; the fifth launch writes. No atomics, no sort, and as many passes at any size.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 4096
BINS = tl.constexpr(256)
CHUNKS_AT_ONCE = tl.constexpr(16)


@triton.jit
def ordered_scores(scores, valid, image, slot, num_slots):
    """Scores as unsigned integers of the same order, with NaN the highest, -0.0 as 0.0, and whether they count."""
    inside = slot < num_slots
    score = tl.load(scores + image * num_slots + slot, mask=inside, other=0.0)
    live = inside & (tl.load(valid + slot, mask=inside, other=0) != 0)
    score = tl.where(score == 0.0, 0.0, score)
    score = tl.where(score != score, float("inf"), score)
    bits = score.to(tl.int32, bitcast=True)
    order = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.uint32, bitcast=True) ^ 0x80000000
    return tl.where(live, order, 0), live  # 0 is below all scores: -inf is above it


@triton.jit
def _descend(counts, image, chunk, num_chunks, k, LEVELS: tl.constexpr):
    """Digits of the k-th best so far, how many of those that share them are wanted, and how many slots of earlier
    chunks are above it, and share its digits."""
    digits = tl.zeros([1], tl.uint32)
    wanted = tl.zeros([1], tl.int32) + k
    above_before = tl.zeros([1], tl.int32)
    tied_before = tl.zeros([1], tl.int32)
    bins = tl.arange(0, BINS)
    for level in tl.static_range(LEVELS):
        total = tl.zeros([BINS], tl.int32)
        before = tl.zeros([BINS], tl.int32)
        for first in range(0, num_chunks, CHUNKS_AT_ONCE):
            chunks = first + tl.arange(0, CHUNKS_AT_ONCE)
            at = counts + ((image * 4 + level) * num_chunks + chunks)[:, None] * BINS + bins[None, :]
            found = tl.load(at, mask=(chunks < num_chunks)[:, None], other=0)
            total += tl.sum(found, 0)
            before += tl.sum(tl.where((chunks < chunk)[:, None], found, 0), 0)
        at_least = tl.sum(total, 0) - tl.cumsum(total, 0) + total
        digit = tl.sum((at_least >= wanted).to(tl.int32), 0) - 1
        wanted -= tl.sum(tl.where(bins > digit, total, 0), 0)
        above_before += tl.sum(tl.where(bins > digit, before, 0), 0)
        tied_before = tl.zeros([1], tl.int32) + tl.sum(tl.where(bins == digit, before, 0), 0)
        digits = (digits << 8) | digit.to(tl.uint32)
    return digits, wanted, above_before, tied_before


@triton.jit
def count_kernel(scores, valid, counts, num_slots, num_chunks, k, LEVEL: tl.constexpr, BLOCK: tl.constexpr):
    """counts (images, 4, chunks, 256): slots by their next digit, among those that share the k-th best's so far."""
    program = tl.program_id(0).to(tl.int64)
    image, chunk = program // num_chunks, (program % num_chunks).to(tl.int32)
    order, live = ordered_scores(scores, valid, image, chunk * BLOCK + tl.arange(0, BLOCK), num_slots)
    if LEVEL > 0:
        digits, _, _, _ = _descend(counts, image, chunk, num_chunks, k, LEVEL)
        live = live & ((order >> (32 - 8 * LEVEL)) == digits)
    digit = ((order >> (24 - 8 * LEVEL)) & 255).to(tl.int32)
    found = tl.histogram(digit, BINS, mask=live)
    tl.store(counts + ((image * 4 + LEVEL) * num_chunks + chunk) * BINS + tl.arange(0, BINS), found)


@triton.jit
def place_kernel(scores, valid, counts, slots, place, num_slots, num_chunks, k, BLOCK: tl.constexpr):
    """Write `slots` and `place` of one chunk."""
    program = tl.program_id(0).to(tl.int64)
    image, chunk = program // num_chunks, (program % num_chunks).to(tl.int32)
    slot = chunk * BLOCK + tl.arange(0, BLOCK)
    order, live = ordered_scores(scores, valid, image, slot, num_slots)
    threshold, wanted, above_before, tied_before = _descend(counts, image, chunk, num_chunks, k, 4)
    write_ranks(order, live, threshold, wanted, above_before, tied_before, slots, place, image, slot, num_slots, k)


@triton.jit
def write_ranks(order, live, threshold, wanted, above_before, tied_before, slots, place, image, slot, num_slots, k):
    """Ranks of the slots above the threshold, and of the first `wanted` that equal it."""
    above = live & (order > threshold)
    tied = live & (order == threshold)
    # Both running counts in one scan: ties in the upper half.
    running = tl.cumsum(above.to(tl.int64) + (tied.to(tl.int64) << 32), 0)
    num_tied = (running >> 32).to(tl.int32) + tied_before
    keep = above | (tied & (num_tied <= wanted))
    rank = (running & 0xFFFFFFFF).to(tl.int32) + above_before + tl.minimum(num_tied, wanted) - 1
    tl.store(place + image * num_slots + slot, tl.where(keep, rank, -1), mask=slot < num_slots)
    tl.store(slots + image * k + rank, slot, mask=keep)


@triton.jit
def select_kernel(scores, valid, slots, place, num_slots, k, BLOCK: tl.constexpr):
    """All of a small image in one program: the k-th best is found bit by bit."""
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
    write_ranks(order, live, threshold, wanted, 0, 0, slots, place, image, slot, num_slots, k)


def select(scores: Tensor, valid: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """slots (M, B, k) int32 of the k best of an image, ascending; place (M, B, N, K) int32, their ranks, else -1.

    Of equal scores the lower slot first; k at most the number of valid slots.
    """
    models, images, nodes, width = scores.shape
    num_slots = nodes * width
    slots = torch.empty(models, images, k, dtype=torch.int32, device=scores.device)
    place = torch.empty(scores.shape, dtype=torch.int32, device=scores.device)
    if num_slots <= CHUNK:
        block = triton.next_power_of_2(num_slots)
        warps = min(8, max(1, block // 256))
        select_kernel[(models * images,)](scores, valid, slots, place, num_slots, k, BLOCK=block, num_warps=warps)
        return slots, place
    num_chunks = triton.cdiv(num_slots, CHUNK)
    counts = torch.empty(models * images, 4, num_chunks, 256, dtype=torch.int32, device=scores.device)
    grid = (models * images * num_chunks,)
    for level in range(4):
        count_kernel[grid](scores, valid, counts, num_slots, num_chunks, k, LEVEL=level, BLOCK=CHUNK, num_warps=8)
    place_kernel[grid](scores, valid, counts, slots, place, num_slots, num_chunks, k, BLOCK=CHUNK, num_warps=8)
    return slots, place
