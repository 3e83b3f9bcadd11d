"""One layer of `paper`: every edge scored, an image's best kept, their gated messages added to the nodes' own map.

Everything has a leading model axis M, one set of weights each: models that train together share every product.
Where an image keeps no more edges than it has nodes, only the kept edges' ends take part in the backward pass:
a pruned edge passes no gradient, and most nodes send nothing.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from afmp.message_passing.all_edges.pytorch import edge_scores, gated_sum
from afmp.message_passing.implementation import uses_triton
from afmp.message_passing.kept_edges.pytorch import ExchangeFew
from afmp.message_passing.neighbours import Neighbours
from afmp.message_passing.selection import top_k_edges
from afmp.message_passing.weights import PackedLayer, map_nodes


class Exchange(NamedTuple):
    """What one layer's exchange gives. Under `notebook` the last four are of each batch's first image alone.

    - state (M, B, N, D): the layer's output
    - mean (M, B, D): its mean over nodes
    - scores (M, B, N, K): of all slots, none pruned yet
    - gate_scores (M, B, N, K): what the gates are computed from
    - keep (M, B, N, K) bool: slots that carry a message
    - gate_sum (M, B): all gates of an image
    """

    state: Tensor
    mean: Tensor
    scores: Tensor
    gate_scores: Tensor
    keep: Tensor
    gate_sum: Tensor


def exchange(state: Tensor, weights, tables: Neighbours, edge_slots: Tensor, *, k: int) -> Exchange:
    """One layer on state (M, B, N, D), keeping `k` of an image's edges, whose slots are edge_slots (E,), ascending
    (semantics.md, `paper`).

    weights: ExchangeWeights, or a PackedLayer where `keeps_few`. Gradients reach state and weights; scores are to be
    looked at.
    """
    if isinstance(weights, PackedLayer):
        return (_exchange_few_fused if uses_triton(state) else _exchange_few)(state, weights, tables, edge_slots, k)
    maps = [weights.own, weights.message, weights.incoming, weights.outgoing]
    own, message, *mapped = map_nodes(state, maps + ([weights.prediction] if weights.prediction else []))
    scores = edge_scores(*mapped[:2], weights.score, tables, **_surprise(state, mapped[2:]))
    keep = top_k_edges(scores, tables.valid, k) if k < len(edge_slots) else tables.valid.expand_as(scores)
    heard, gate_sum = gated_sum(message, scores, keep, weights.gate_weight, weights.gate_bias, tables)
    new_state = F.gelu(own + heard)
    return Exchange(new_state, new_state.mean(dim=2), scores, scores, keep, gate_sum)


def keeps_few(state: Tensor, k: int, num_edges: int) -> bool:
    """Whether the kept edges' ends are so few that they alone are worth a backward pass."""
    return 0 < k < num_edges and k <= state.shape[2]


def _surprise(state: Tensor, prediction: list[Tensor]) -> dict[str, Tensor]:
    return {"state": state, "prediction": prediction[0]} if prediction else {}


def _exchange_few(state: Tensor, weights: PackedLayer, tables: Neighbours, edge_slots: Tensor, k: int) -> Exchange:
    with torch.autocast(state.device.type, enabled=False):
        new_state, mean, gate_sum, scores, kept = ExchangeFew.apply(
            state.to(weights.weight.dtype), *weights[:-1], tables, edge_slots, k, weights.predicts
        )
    slots = scores.new_zeros(*state.shape[:2], tables.nbr.numel()).index_copy_(2, edge_slots, scores)
    keep = torch.zeros_like(slots, dtype=torch.bool).scatter_(2, edge_slots.take(kept), True)
    slots, keep = (part.view(*state.shape[:3], tables.nbr.shape[1]) for part in (slots, keep))
    return Exchange(new_state, mean, slots, slots, keep, gate_sum)


def _exchange_few_fused(state: Tensor, weights: PackedLayer, tables: Neighbours, _: Tensor, k: int) -> Exchange:
    from afmp.message_passing.kept_edges.fused import exchange_few

    new_state, mean, gate_sum, scores, _, _, place, *_ = exchange_few(
        state.to(weights.weight.dtype), *weights[:-1], *tables, k, weights.predicts
    )
    return Exchange(new_state, mean, scores, scores, place >= 0, gate_sum)
