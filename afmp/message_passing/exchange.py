"""One layer of `paper`: every edge scored, an image's best kept, their gated messages added to the nodes' own map.

Everything has a leading model axis M, one set of weights each: models that train together share every product.
Where an image keeps no more edges than it has nodes, only the kept edges' ends take part in the backward pass:
a pruned edge passes no gradient, and most nodes send nothing.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afmp.message_passing.neighbours import Neighbours
from afmp.message_passing.operation import ScoreWeights, edge_scores, gated_sum
from afmp.message_passing.selection import kept_slots, top_k_edges


class LinearMap(NamedTuple):
    """A linear map of every model: weight (M, out, in), bias (M, out)."""

    weight: Tensor
    bias: Tensor


class ExchangeWeights(NamedTuple):
    """What one layer's exchange takes of its router and capsule, a set a model.

    own, message, prediction: D -> D; incoming, of receivers: D -> 2H [query | receiver]; outgoing, of senders:
    D -> 2H [key | sender]. prediction is None in the first layer. gate_weight, gate_bias (M, D).
    """

    own: LinearMap
    message: LinearMap
    incoming: LinearMap
    outgoing: LinearMap
    prediction: LinearMap | None
    score: ScoreWeights
    gate_weight: Tensor
    gate_bias: Tensor


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


def exchange(state: Tensor, weights, tables: Neighbours, *, k: int, num_edges: int) -> Exchange:
    """One layer on state (M, B, N, D), keeping `k` of an image's `num_edges` edges (semantics.md, `paper`).

    weights: ExchangeWeights, or a PackedLayer where `keeps_few` and the fused kernels compute. Gradients reach state
    and weights; scores are to be looked at.
    """
    if not isinstance(weights, ExchangeWeights):
        return _exchange_few_fused(state, weights, tables, k)
    if keeps_few(state, k, num_edges) and state.device.type == "cpu":  # elsewhere its sums would be taken by atomics
        return _exchange_few(state, weights, tables, k)
    maps = [weights.own, weights.message, weights.incoming, weights.outgoing]
    own, message, *mapped = map_nodes(state, maps + ([weights.prediction] if weights.prediction else []))
    scores = edge_scores(*mapped[:2], weights.score, tables, **_surprise(state, mapped[2:]))
    keep = top_k_edges(scores, tables.valid, k) if k < num_edges else tables.valid.expand_as(scores)
    heard, gate_sum = gated_sum(message, scores, keep, weights.gate_weight, weights.gate_bias, tables)
    new_state = F.gelu(own + heard)
    return Exchange(new_state, new_state.mean(dim=2), scores, scores, keep, gate_sum)


def keeps_few(state: Tensor, k: int, num_edges: int) -> bool:
    """Whether the kept edges' ends are so few that they alone are worth a backward pass."""
    return 0 < k < num_edges and k <= state.shape[2]


def linear_map(linear: nn.Linear) -> LinearMap:
    """The weights of `linear`, which are (out, in), or (M, out, in) in a stack of models, with their model axis."""
    return LinearMap(per_model(linear.weight, 2), per_model(linear.bias, 1))


def per_model(parameter: Tensor, dim: int) -> Tensor:
    """A parameter that has `dim` dimensions in a single model, with a model axis in front of them."""
    return parameter if parameter.dim() > dim else parameter[None]


def map_nodes(state: Tensor, maps: list[LinearMap]) -> list[Tensor]:
    """All linear `maps` of state (M, B, N, D) in one product: a (M, B, N, width) each."""
    weight, bias = (torch.cat(parts, dim=1) for parts in zip(*maps, strict=True))
    mapped = _linear(state, weight, bias)
    return list(mapped.split([map.weight.shape[1] for map in maps], dim=-1))


def _linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if len(weight) == 1:  # a plain product: libraries are at their best there
        return F.linear(rows, weight[0], bias[0])
    mapped = torch.bmm(rows.flatten(1, -2), weight.mT).view(*rows.shape[:-1], -1)
    return mapped + bias.view(len(bias), *[1] * (rows.dim() - 2), -1).to(mapped.dtype)


def _surprise(state: Tensor, prediction: list[Tensor]) -> dict[str, Tensor]:
    return {"state": state, "prediction": prediction[0]} if prediction else {}


def _exchange_few(state: Tensor, weights: ExchangeWeights, tables: Neighbours, k: int) -> Exchange:
    maps = [weights.incoming, weights.outgoing] + ([weights.prediction] if weights.prediction else [])
    with torch.no_grad():
        mapped = map_nodes(state, maps)
        scores = edge_scores(*mapped[:2], weights.score, tables, **_surprise(state, mapped[2:]))
        keep = top_k_edges(scores, tables.valid, k)
        slots = kept_slots(keep, k)  # (M, B, k)
        sender, receiver = tables.nbr.take(slots), slots // tables.nbr.shape[1]
        dist = tables.dist.take(slots)

    # The kept edges again, as rows (M, B, k, width), now with gradients.
    sending = _rows(state, sender)
    message, outgoing = map_nodes(sending, [weights.message, weights.outgoing])
    incoming, *prediction = map_nodes(_rows(state, receiver), [maps[0], *maps[2:]])
    score = _scores(incoming, outgoing, weights.score, dist, sending, *prediction)
    logit = score[..., None] * _row(weights.gate_weight) + _row(weights.gate_bias)
    gates = logit.sigmoid()
    own = _linear(state, *weights.own)
    heard = (gates * message).to(own.dtype)
    own = own.scatter_add(2, receiver[..., None].expand_as(heard), heard)
    new_state = F.gelu(own)
    return Exchange(new_state, new_state.mean(dim=2), scores, scores, keep, gates.sum(dim=(2, 3)))


def _exchange_few_fused(state: Tensor, weights, tables: Neighbours, k: int) -> Exchange:
    from afmp.message_passing.fused_exchange import exchange_few

    new_state, mean, gate_sum, scores, _, _, place, *_ = exchange_few(
        state.to(weights.weight.dtype), *weights[:-1], *tables, k, weights.predicts
    )
    return Exchange(new_state, mean, scores, scores, place >= 0, gate_sum)


def _scores(incoming, outgoing, weights: ScoreWeights, dist, sending, prediction=None) -> Tensor:
    """Scores (M, B, k) of edges given by rows of their ends."""
    query, receiver = incoming.chunk(2, dim=-1)
    key, sender = outgoing.chunk(2, dim=-1)
    hidden = receiver + sender + dist[..., None] * _row(weights.dist)
    if prediction is not None:
        error = torch.linalg.vector_norm(sending - prediction, dim=-1, keepdim=True)
        hidden = hidden + error * _row(weights.error)
    return (query * key + hidden.relu() * _row(weights.out)).sum(dim=-1) + weights.out_bias[..., None]


def _rows(state: Tensor, index: Tensor) -> Tensor:
    """Rows (M, B, k, D) of state (M, B, N, D) at index (M, B, k)."""
    return state.gather(2, index[..., None].expand(*index.shape, state.shape[-1]))


def _row(weights: Tensor) -> Tensor:
    return weights[:, None, None]  # (M, 1, 1, C): one row a model, for all of its images and edges
