"""Selection of the edges that carry a message: the k highest-scored of each image."""

import torch
from torch import Tensor


def top_k_edges(scores: Tensor, valid: Tensor, k: int) -> Tensor:
    """Return keep (M, B, N, K) bool: the k highest-scored edges of each image; of equal scores, the earlier slot first.

    scores (M, B, N, K), with slots in (receiver, sender) order; valid (N, K) bool; k is at most the number of valid
    slots. Exactly k edges are kept, whatever the scores are. Not differentiable: gradients reach the scores of kept
    edges through their gates.
    """
    if k == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    return _top_k(scores.flatten(-2), valid.flatten(), k).view_as(scores)


def top_k_edges_of_nodes(scores: Tensor, valid: Tensor, k: int) -> Tensor:
    """Return keep (..., N, K) bool: the k highest-scored slots of each node; of equal scores, the earlier slot first.

    scores (..., N, K); valid (N, K) bool. A node with fewer than k neighbours keeps all of them.
    """
    return _top_k(scores, valid, min(k, scores.shape[-1]))


def _top_k(scores: Tensor, valid: Tensor, k: int) -> Tensor:
    """Return keep (..., S) bool: the k highest-scored valid slots of each row, or all of them if there are fewer.

    scores (..., S); valid (..., S) bool; k is 1 to S. Of equal scores, the earlier slot first.
    """
    # A threshold and a running count are enough: they need no sort, no scatter and no synchronisation with the host.
    ranked, threshold = _ranked(scores.detach().masked_fill(~valid, -torch.inf), k)
    above = ranked > threshold
    tied = (ranked == threshold) & valid
    ties_kept = k - above.sum(dim=-1, keepdim=True, dtype=torch.int32)
    return above | (tied & (tied.cumsum(dim=-1, dtype=torch.int32) <= ties_kept))


def _ranked(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return scores (..., E) with NaN replaced by +inf, and the k-th best of them (..., 1)."""
    # NaN ranks highest: a diverged score must reach the loss and not be hidden by pruning.
    ranked = scores.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return ranked, torch.topk(ranked, k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)


def kept_slots(keep: Tensor, k: int) -> Tensor:
    """Return the flat slots (M, B, k) int64, ascending, where keep (M, B, N, K) is true: exactly k per image."""
    flat = keep.flatten(2)
    # Unlike nonzero, a sort has a static shape. Kept slots come first, and a stable sort leaves them in order.
    return torch.sort(~flat, dim=-1, stable=True).indices[..., :k]


def top_k_indices(scores: Tensor, k: int) -> Tensor:
    """Return the indices (M, B, k) int64, ascending, of the edges that `top_k_edges` keeps; for a CPU.

    scores (M, B, E) are those of valid slots only; k is at least 1. Sorts only the k kept indices per image.
    """
    ranked, threshold = _ranked(scores, k)
    # The highest ranks are those of edges above the threshold, then those of edges equal to it. Among each of the two,
    # an earlier edge ranks higher. All these ranks differ. The ranks of all other edges are 0.
    count = scores.shape[-1]
    rank = torch.arange(count, 0, -1, dtype=torch.int32, device=scores.device)
    rank = rank.mul(ranked >= threshold).add_(ranked > threshold, alpha=count)
    return torch.topk(rank, k, dim=-1, sorted=False).indices.sort(dim=-1).values
