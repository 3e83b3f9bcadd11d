"""The weights of a layer that keeps few edges, packed: whatever maps nodes stands in one matrix."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerParameters(NamedTuple):
    """What one layer's exchange is parametrised by; every tensor has a model axis M in front.

    u (M, H, H); query, key (M, H, D) and biases (M, H); own, message, prediction (M, D, D) and biases (M, D), no
    prediction in the first layer; hidden (M, H, 2D + 2), its columns [receiver | sender | error | dist], and bias
    (M, H); out (M, 1, H), bias (M, 1); gate (M, D, 1), bias (M, D).
    """

    u: Tensor
    query: Tensor
    query_bias: Tensor
    own: Tensor
    own_bias: Tensor
    prediction: Tensor | None
    prediction_bias: Tensor | None
    hidden: Tensor
    hidden_bias: Tensor
    key: Tensor
    key_bias: Tensor
    message: Tensor
    message_bias: Tensor
    out: Tensor
    out_bias: Tensor
    gate: Tensor
    gate_bias: Tensor


class PackedLayer(NamedTuple):
    """One layer's weights as an exchange that keeps few edges takes them.

    weight (M, width, D) and bias (M, width) in the products' type, their rows [own | prediction | incoming | outgoing |
    message]: incoming are [query | receiver], outgoing [key | sender], and U is in the query. error, dist, out (M, H),
    out_bias (M, 1), gate_weight, gate_bias (M, D) in float32 or wider.
    """

    weight: Tensor
    bias: Tensor
    error: Tensor
    dist: Tensor
    out: Tensor
    out_bias: Tensor
    gate_weight: Tensor
    gate_bias: Tensor
    predicts: bool


def fold_query(u: Tensor, query: Tensor, query_bias: Tensor) -> Tensor:
    """u^T [query | query_bias], (M, H, D + 1), once a step: neither autocast nor TF32 reaches it."""
    # Where products in float32 are TF32's, those in float64 are not. This switch torch.compile can read.
    wide = torch.float64 if u.is_cuda and torch.backends.cuda.matmul.allow_tf32 else u.dtype
    with torch.autocast(u.device.type, enabled=False):
        both = torch.cat([query, query_bias[..., None]], dim=-1)
        return (u.mT.to(wide) @ both.to(wide)).to(u.dtype)


def pack_layer(layer: LayerParameters, dtype: torch.dtype) -> PackedLayer:
    """Pack one layer's parameters; gradients flow back to them. dtype: of weight and bias."""
    d_model = layer.key.shape[-1]
    query = fold_query(layer.u, layer.query, layer.query_bias)
    receiver, sender, error, dist = layer.hidden.split([d_model, d_model, 1, 1], dim=-1)
    weights = [layer.own, layer.prediction, query[..., :-1], receiver, layer.key, sender, layer.message]
    silent = torch.zeros_like(layer.hidden_bias)  # the hidden layer's bias is the receiver's
    biases = [layer.own_bias, layer.prediction_bias, query[..., -1], layer.hidden_bias]
    biases += [layer.key_bias, silent, layer.message_bias]
    weight, bias = (torch.cat([part for part in parts if part is not None], dim=1) for parts in (weights, biases))
    edges = (error[..., 0], dist[..., 0], layer.out[:, 0], layer.out_bias, layer.gate[..., 0], layer.gate_bias)
    wide = torch.promote_types(layer.u.dtype, torch.float32)
    return PackedLayer(
        weight.to(dtype), bias.to(dtype), *(part.to(wide) for part in edges), layer.prediction is not None
    )


def map_rows(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """rows (M, R, in) by weight (M, out, in), plus bias (M, out)."""
    if len(weight) == 1:  # libraries are at their best there
        return torch.addmm(bias[0], rows[0], weight[0].t())[None]
    return torch.baddbmm(bias[:, None], rows, weight.mT)


class ScoreWeights(NamedTuple):
    """What an edge itself takes of the router's v, a row a model: two columns (M, H) of its first layer, and its last
    layer, (M, H) and (M, 1)."""

    error: Tensor
    dist: Tensor
    out: Tensor
    out_bias: Tensor


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


def linear_map(linear: nn.Linear) -> LinearMap:
    """The weights of `linear`, which are (out, in), or (M, out, in) in a stack of models, with their model axis."""
    return LinearMap(per_model(linear.weight, 2), per_model(linear.bias, 1))


def map_nodes(state: Tensor, maps: list[LinearMap]) -> list[Tensor]:
    """All linear `maps` of state (M, B, N, D) in one product: a (M, B, N, width) each."""
    weight, bias = (torch.cat(parts, dim=1) for parts in zip(*maps, strict=True))
    if len(weight) == 1:  # a plain product: libraries are at their best there
        mapped = F.linear(state, weight[0], bias[0])
    else:
        mapped = torch.bmm(state.flatten(1, -2), weight.mT).view(*state.shape[:-1], weight.shape[1])
        mapped = mapped + bias[:, None, None].to(mapped.dtype)
    return list(mapped.split([map.weight.shape[1] for map in maps], dim=-1))


def per_model(parameter: Tensor, dim: int) -> Tensor:
    """A parameter that has `dim` dimensions in a single model, with a model axis in front of them."""
    return parameter if parameter.dim() > dim else parameter[None]
