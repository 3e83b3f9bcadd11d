"""The functions of `operation` in their plainest form: every edge gathered at once, autograd for the rest.

Stores edges x channels, so nothing runs on it: it is what `operation`, and any faster version, must equal.
"""

import torch
from torch import Tensor

from afmp.message_passing.neighbours import Neighbours
from afmp.message_passing.weights import ScoreWeights


def edge_scores(
    incoming: Tensor,
    outgoing: Tensor,
    weights: ScoreWeights,
    tables: Neighbours,
    *,
    state: Tensor | None = None,
    prediction: Tensor | None = None,
) -> Tensor:
    """Scores (M, B, N, K), 0 where `tables.valid` is false. Arguments as in `operation.edge_scores`."""
    query, receiver = incoming[..., None, :].chunk(2, dim=-1)  # (M, B, N, 1, H) each
    key, sender = outgoing[:, :, tables.nbr].chunk(2, dim=-1)  # (M, B, N, K, H) each
    hidden = receiver + sender + tables.dist[..., None] * _edge(weights.dist)
    if state is not None:
        difference = state[:, :, tables.nbr] - prediction[..., None, :]  # (M, B, N, K, D)
        hidden = hidden + torch.linalg.vector_norm(difference, dim=-1, keepdim=True) * _edge(weights.error)
    scores = (query * key + hidden.relu() * _edge(weights.out)).sum(dim=-1) + weights.out_bias[:, :, None, None]
    return torch.where(tables.valid, scores, 0)


def gated_sum(
    message: Tensor, scores: Tensor, keep: Tensor, gate_weight: Tensor, gate_bias: Tensor, tables: Neighbours
) -> tuple[Tensor, Tensor]:
    """Gated messages summed at every node (M, B, N, D), and the sum (M, B) of all gates of every image."""
    gates = (
        torch.sigmoid(scores[..., None] * _edge(gate_weight) + _edge(gate_bias)) * keep[..., None]
    )  # (M, B, N, K, D)
    return (gates * message[:, :, tables.nbr]).sum(dim=3), gates.sum(dim=(2, 3, 4))


def _edge(weights: Tensor) -> Tensor:
    return weights[:, None, None, None]  # (M, 1, 1, 1, C): one row a model, for all edges of all its images
