"""Which edges carry a message: the highest-scored of every image."""

import torch
from torch import Tensor


def top_k_edges(scores: Tensor, valid: Tensor, k: int) -> Tensor:
    """keep (B, N, K) bool: the `k` highest-scored edges of every image, equal scores by the lower edge first.

    scores (B, N, K), valid (N, K), k at most the number of valid slots. Exactly `k` survive whatever the scores are, NaN
    included (those rank highest, so that a run which diverges is seen to). Not differentiable: gradients reach the
    scores of kept edges through their gates alone.
    """
    flat = scores.detach().masked_fill(~valid, -torch.inf).flatten(1)
    if k == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    # No index list is made: a threshold and a running count are enough, and need neither scatter nor host.
    threshold = torch.topk(flat, k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    above = flat > threshold
    tied = ~above & ~(flat < threshold) & valid.flatten()
    places_left = k - above.sum(dim=1, keepdim=True, dtype=torch.int32)
    keep = above | (tied & (tied.cumsum(dim=1, dtype=torch.int32) <= places_left))
    return keep.view_as(scores)
