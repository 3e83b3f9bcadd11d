"""The functions of `operation` in their plainest form: every edge gathered at once, autograd for the rest.

Stores edges x channels, so nothing runs on it: it is what `operation`, and any faster version, must equal.
"""

import torch
from torch import Tensor

from afmp.message_passing.neighbours import Neighbours
from afmp.message_passing.operation import ScoreWeights


def edge_scores(
    incoming: Tensor,
    outgoing: Tensor,
    weights: ScoreWeights,
    tables: Neighbours,
    *,
    state: Tensor | None = None,
    prediction: Tensor | None = None,
) -> Tensor:
    """Scores (B, N, K), 0 where `tables.valid` is false. Arguments as in `operation.edge_scores`."""
    query, receiver = incoming[:, :, None].chunk(2, dim=-1)  # (B, N, 1, 64) each
    key, sender = outgoing[:, tables.nbr].chunk(2, dim=-1)  # (B, N, K, 64) each
    hidden = receiver + sender + tables.dist[..., None] * weights.dist
    if state is not None:
        difference = state[:, tables.nbr] - prediction[:, :, None]  # (B, N, K, D)
        hidden = hidden + torch.linalg.vector_norm(difference, dim=-1, keepdim=True) * weights.error
    scores = (query * key).sum(dim=-1) + hidden.relu() @ weights.out + weights.out_bias
    return torch.where(tables.valid, scores, 0)


def gated_sum(
    message: Tensor, scores: Tensor, keep: Tensor, gate_weight: Tensor, gate_bias: Tensor, tables: Neighbours
) -> tuple[Tensor, Tensor]:
    """Gated messages summed at every node (B, N, D), and the sum (B,) of all gates of every image."""
    gates = torch.sigmoid(scores[..., None] * gate_weight + gate_bias) * keep[..., None]  # (B, N, K, D)
    return (gates * message[:, tables.nbr]).sum(dim=2), gates.sum(dim=(1, 2, 3))
