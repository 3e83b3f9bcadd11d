"""The k best of images with many slots: digits of 8 bits, highest first, counted by many programs at once.

A program holds one chunk of an image's slots. Each of four launches counts the slots that share the k-th best's digits
so far by their next digit; the launch after it adds up the chunks' counts to find that digit; the fifth writes. Large
images have larger chunks, not more than 128, which bounds what a program adds up: time is linear in the slots. No
atomics, no sort, and as many passes at any size.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 4096  # slots a program holds at once; a larger chunk goes step by step
SMALLEST_CHUNK, MOST_CHUNKS = 1024, 128
PROGRAMS = 128  # about one a multiprocessor
BINS = tl.constexpr(256)


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
def next_slots(slot, step, steps, num_slots, BLOCK: tl.constexpr):
    """The slots of a chunk's next step; after the last one none, so that nothing is loaded."""
    return tl.where(step + 1 < steps, slot + BLOCK, num_slots)


@triton.jit
def _descend(counts, state, image, num_chunks, LEVEL: tl.constexpr, ROWS: tl.constexpr):
    """LEVEL digits of the k-th best, how many of the slots that share them are wanted, the last digit's bin, and the
    counts (ROWS, 256) of the level before."""
    chunks, bins = tl.arange(0, ROWS), tl.arange(0, BINS)
    before = image * 4 + LEVEL - 1
    digits = tl.load(state + before * 2).to(tl.uint32)
    wanted = tl.load(state + before * 2 + 1)
    # All chunks in one load: in a loop each step would wait for memory anew.
    at = counts + (before * num_chunks + chunks)[:, None] * BINS + bins[None, :]
    found = tl.load(at, mask=(chunks < num_chunks)[:, None], other=0).to(tl.int32)
    total = tl.sum(found, 0)
    # Bins above the k-th best's and the slots in them in one sum: bins in the upper half.
    better = tl.cumsum(total, 0) < wanted
    both = tl.sum(tl.where(better, total.to(tl.int64) + (1 << 32), 0), 0)
    last = (both >> 32).to(tl.int32)
    digits = (digits << 8) | (255 - last).to(tl.uint32)
    return digits, wanted - (both & 0xFFFFFFFF).to(tl.int32), last, found


@triton.jit
def count_kernel(
    scores, valid, counts, state, above, num_slots, num_chunks, steps, k,
    LEVEL: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """counts (images, 4, chunks, 256): slots by their next digit, the highest in bin 0, among those that share the k-th
    best's so far. state (images, 4, 2): its digits so far, and how many that share them are wanted. above (images,
    chunks), by the last level: slots above all that share them."""
    program = tl.program_id(0).to(tl.int64)
    image, chunk = program // num_chunks, (program % num_chunks).to(tl.int32)
    slot = chunk * steps * BLOCK + tl.arange(0, BLOCK)
    order, live = ordered_scores(scores, valid, image, slot, num_slots)
    digits, wanted = 0, k
    if LEVEL > 0:
        digits, wanted, _, _ = _descend(counts, state, image, num_chunks, LEVEL, ROWS)
    found = tl.zeros([BINS], tl.int32)
    num_above = 0
    for step in range(steps):
        if LEVEL > 0:
            shared = order >> (32 - 8 * LEVEL)
            live = live & (shared == digits)
            if LEVEL == 3:
                num_above += tl.sum((shared > digits).to(tl.int32), 0)
        found += tl.histogram(255 - ((order >> (24 - 8 * LEVEL)) & 255).to(tl.int32), BINS, mask=live)
        slot = next_slots(slot, step, steps, num_slots, BLOCK)
        order, live = ordered_scores(scores, valid, image, slot, num_slots)
    tl.store(counts + ((image * 4 + LEVEL) * num_chunks + chunk) * BINS + tl.arange(0, BINS), found)
    if LEVEL == 3:
        tl.store(above + image * num_chunks + chunk, num_above)
    tl.store(state + (image * 4 + LEVEL) * 2, digits, mask=chunk == 0)
    tl.store(state + (image * 4 + LEVEL) * 2 + 1, wanted, mask=chunk == 0)


@triton.jit
def place_kernel(
    scores, valid, counts, state, above, slots, place, num_slots, num_chunks, steps, k,
    BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write `slots` and `place` of one chunk."""
    program = tl.program_id(0).to(tl.int64)
    image, chunk = program // num_chunks, (program % num_chunks).to(tl.int32)
    slot = chunk * steps * BLOCK + tl.arange(0, BLOCK)
    order, live = ordered_scores(scores, valid, image, slot, num_slots)
    chunks, bins = tl.arange(0, ROWS), tl.arange(0, BINS)
    above_before = tl.load(above + image * num_chunks + chunks, mask=chunks < chunk, other=0)
    threshold, wanted, last, found = _descend(counts, state, image, num_chunks, 4, ROWS)
    earlier = tl.sum(tl.where((chunks < chunk)[:, None], found, 0), 0)
    above_before = tl.sum(above_before, 0) + tl.sum(tl.where(bins < last, earlier, 0), 0)
    tied_before = tl.sum(tl.where(bins == last, earlier, 0), 0)
    for step in range(steps):
        above_before, tied_before = write_ranks(
            order, live, threshold, wanted, above_before, tied_before, slots, place, image, slot, num_slots, k
        )
        slot = next_slots(slot, step, steps, num_slots, BLOCK)
        order, live = ordered_scores(scores, valid, image, slot, num_slots)


@triton.jit
def write_ranks(order, live, threshold, wanted, above_before, tied_before, slots, place, image, slot, num_slots, k):
    """Ranks of the slots above the threshold, and of the first `wanted` that equal it; how many of both there were."""
    above = live & (order > threshold)
    tied = live & (order == threshold)
    # Both running counts in one scan: ties in the upper half.
    both = above.to(tl.int64) + (tied.to(tl.int64) << 32)
    running = tl.cumsum(both, 0)
    num_tied = (running >> 32).to(tl.int32) + tied_before
    keep = above | (tied & (num_tied <= wanted))
    rank = (running & 0xFFFFFFFF).to(tl.int32) + above_before + tl.minimum(num_tied, wanted) - 1
    tl.store(place + image * num_slots + slot, tl.where(keep, rank, -1), mask=slot < num_slots)
    tl.store(slots + image * k + rank, slot, mask=keep)
    both = tl.sum(both, 0)
    return above_before + (both & 0xFFFFFFFF).to(tl.int32), tied_before + (both >> 32).to(tl.int32)


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
    chunk = chunk_size(models * images, num_slots)
    block = min(chunk, CHUNK)
    num_chunks = triton.cdiv(num_slots, chunk)
    # Half the bytes for as long as a count fits: adding up chunks is bound by reading them.
    dtype = torch.int16 if chunk < 2**15 else torch.int32
    counts = torch.empty(models * images, 4, num_chunks, 256, dtype=dtype, device=scores.device)
    state = torch.empty(models * images, 4, 2, dtype=torch.int32, device=scores.device)
    above = torch.empty(models * images, num_chunks, dtype=torch.int32, device=scores.device)
    grid = (models * images * num_chunks,)
    sizes = (num_slots, num_chunks, chunk // block, k)
    shape = {"BLOCK": block, "ROWS": triton.next_power_of_2(num_chunks), "num_warps": 8}
    for level in range(4):
        count_kernel[grid](scores, valid, counts, state, above, *sizes, LEVEL=level, **shape)
    place_kernel[grid](scores, valid, counts, state, above, slots, place, *sizes, **shape)
    return slots, place


def chunk_size(images: int, num_slots: int) -> int:
    """Slots of a chunk, a power of 2: small if few programs run, larger if an image had more than MOST_CHUNKS."""
    # One image fills half the multiprocessors: more chunks take longer to add up than they save in counting.
    fill = triton.next_power_of_2(triton.cdiv(max(images, 2) * num_slots, PROGRAMS))
    return max(min(max(fill, SMALLEST_CHUNK), CHUNK), triton.next_power_of_2(triton.cdiv(num_slots, MOST_CHUNKS)))
