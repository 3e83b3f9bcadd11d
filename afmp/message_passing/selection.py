"""Which edges carry a message: the highest-scored of every image."""

import torch
from torch import Tensor


def top_k_edges(scores: Tensor, valid: Tensor, k: int) -> Tensor:
    """keep (M, B, N, K) bool: the `k` highest-scored edges of every image, of equal scores the lower edge first.

    scores (M, B, N, K), valid (N, K), k at most the number of valid slots. Exactly `k` survive whatever the scores
    are. Not differentiable: gradients reach the scores of kept edges through their gates.
    """
    if k == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    ranked = scores.detach().masked_fill(~valid, -torch.inf).flatten(-2)
    # No index list is made: a threshold and a running count are enough, and need neither scatter nor host.
    ranked, threshold = _ranked(ranked, k)
    above = ranked > threshold
    tied = (ranked == threshold) & valid.flatten()
    places_left = k - above.sum(dim=-1, keepdim=True, dtype=torch.int32)
    keep = above | (tied & (tied.cumsum(dim=-1, dtype=torch.int32) <= places_left))
    return keep.view_as(scores)


def _ranked(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores (..., E) as they rank, and the k-th best (..., 1)."""
    # NaN ranks highest: a score that diverged must reach the loss, not be pruned out of sight.
    ranked = scores.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return ranked, torch.topk(ranked, k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)


def kept_slots(keep: Tensor, k: int) -> Tensor:
    """Flat slots (M, B, k) int64, ascending, that keep (M, B, N, K) holds true in: exactly `k` an image."""
    flat = keep.flatten(2)
    # A sort has a static shape, which nonzero has not: kept slots come first, and a stable one leaves them in order.
    return torch.sort(~flat, dim=-1, stable=True).indices[..., :k]


def top_k_numbers(scores: Tensor, k: int) -> Tensor:
    """Numbers (M, B, k) int64, ascending, of the edges that `top_k_edges` keeps of scores (M, B, E), all valid; 1 <= k.

    What a CPU does instead: k numbers an image are put in order, and not E.
    """
    ranked, threshold = _ranked(scores, k)
    # First what is above the threshold, then what is at it, of each the lower edge first: no two of these are alike.
    count = scores.shape[-1]
    rank = torch.arange(count, 0, -1, dtype=torch.int32, device=scores.device)
    rank = rank.mul(ranked >= threshold).add_(ranked > threshold, alpha=count)
    return torch.topk(rank, k, dim=-1, sorted=False).indices.sort(dim=-1).values
