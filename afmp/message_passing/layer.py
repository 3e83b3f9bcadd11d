"""The fast paths of a layer: they score all edges, keep the best, and sum their gated messages at the receivers.

Every tensor has a leading model axis M, with one set of weights per model: models that train together share every
product. They give the same result as the plain path, which is the equations in the `forward` of a layer.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from afmp.message_passing.all_edges import pytorch as all_edges
from afmp.message_passing.autocast import autocast_dtype, without_autocast
from afmp.message_passing.implementation import ALL_FUSED, KEPT_FUSED, KEPT_PYTORCH, PLAIN, path_of
from afmp.message_passing.kept_edges.pytorch import KeptEdgesLayer
from afmp.message_passing.neighbours import Graph, Neighbours
from afmp.message_passing.selection import top_k_edges
from afmp.message_passing.weights import (
    ALL_EDGES,
    INCOMING,
    NARROW,
    OUTGOING,
    LayerParameters,
    PackedLayer,
    map_nodes,
    pack_layer,
)


class LayerOutput(NamedTuple):
    """The output of one layer. A stack of models has a model axis M in front of every tensor.

    - state (B, N, D): the new node states
    - mean (B, D): their mean over nodes
    - scores (B, N, K): scores of all slots, before any edge is pruned
    - gate_scores (B, N, K): the scores from which the gates are computed
    - keep (B, N, K) bool: slots that carry a message
    - gate_sum (B,): sum of all gates of an image

    Under `notebook` the last four have one image: only the first image of a batch exchanges messages.
    """

    state: Tensor
    mean: Tensor
    scores: Tensor
    gate_scores: Tensor
    keep: Tensor
    gate_sum: Tensor


class ReadableLayer(Protocol):
    """The interface of a layer that `prepare_layers` uses."""

    def is_readable(self) -> bool:
        """Return True if the weights of its inner modules may be read instead of calling the modules."""

    def parameters_by_kind(self) -> LayerParameters:
        """Return its parameters, with a model axis in front."""


def prepare_layers(
    layers: Sequence[ReadableLayer], state: Tensor, *, k: int | None = None, num_edges: int = 0
) -> list[PackedLayer | None]:
    """Choose the path of each layer for states like `state` (..., N, D), and pack the weights that it reads.

    None means the plain path. k, num_edges: as in `path_of`.
    """
    paths = [path_of(state, readable=layer.is_readable(), k=k, num_edges=num_edges) for layer in layers]
    fast = [path for path in paths if path != PLAIN]  # all of them have the same path
    readable = [layer.parameters_by_kind() for layer, path in zip(layers, paths, strict=True) if path != PLAIN]
    packed = iter(_pack(readable, state, fast[0]) if fast else [])
    return [None if path == PLAIN else next(packed) for path in paths]


def _pack(parameters: list[LayerParameters], state: Tensor, path: str) -> list[PackedLayer]:
    if path not in (KEPT_FUSED, KEPT_PYTORCH):
        return [pack_layer(layer, path=path, order=ALL_EDGES, dtype=layer.own.dtype) for layer in parameters]
    dtype = autocast_dtype(state) or state.dtype
    if path == KEPT_PYTORCH:
        return [pack_layer(layer, path=path, order=NARROW, dtype=dtype) for layer in parameters]
    from afmp.message_passing.kept_edges.packing import pack_layers

    return pack_layers(parameters, dtype)  # all layers at once: layer by layer it starts many small kernels


def message_passing_layer(state: Tensor, weights: PackedLayer, graph: Graph, *, k: int) -> LayerOutput:
    """Compute one layer on state (M, B, N, D), keeping the `k` best edges per image, by the path of `weights`.

    Gradients reach state and weights from the new state, its mean and the sum of gates. Do not use gradients of the
    returned scores: where few edges are kept, these have none.
    """
    if weights.path == KEPT_FUSED:
        return _kept_edges_fused(state, weights, graph, k)
    if weights.path == KEPT_PYTORCH:
        return _kept_edges_pytorch(state, weights, graph, k)
    own, message, scores = score_all_edges(state, weights, graph.neighbours)
    valid = graph.neighbours.valid
    keep = top_k_edges(scores, valid, k) if k < len(graph.edge_slots) else valid.expand_as(scores)
    heard, gate_sum = sum_gated_messages(message, scores, keep, weights, graph.neighbours)
    new_state = F.gelu(own + heard)
    return LayerOutput(new_state, new_state.mean(dim=2), scores, scores, keep, gate_sum)


def score_all_edges(state: Tensor, weights: PackedLayer, tables: Neighbours) -> tuple[Tensor, Tensor, Tensor]:
    """Map the nodes of state (M, B, N, D), and score every edge.

    Returns own and message (M, B, N, D), and scores (M, B, N, K). own is empty, (M, B, N, 0), where the layout of
    `weights` does not contain it.
    """
    mapped = map_nodes(state, weights.weight, weights.bias)
    groups = ("own", "message", INCOMING, OUTGOING, "prediction")
    own, message, incoming, outgoing, prediction = mapped.split(weights.layout.sizes(*groups), dim=-1)
    surprise = {"state": state, "prediction": prediction} if weights.layout.predicts else {}
    scores = _operations(weights).edge_scores(incoming, outgoing, weights.score, tables, **surprise)
    return own, message, scores


def sum_gated_messages(
    message: Tensor, scores: Tensor, keep: Tensor, weights: PackedLayer, tables: Neighbours
) -> tuple[Tensor, Tensor]:
    """Return gated messages summed at the receivers (M, B, N, D), and the sum of all gates per image (M, B).

    message (M, B, N, D); scores (M, B, N, K); keep (M, B, N, K) bool.
    """
    operations = _operations(weights)
    return operations.gated_sum(message, scores, keep, weights.gate_weight, weights.gate_bias, tables)


def _operations(weights: PackedLayer):
    """Return the module that implements `edge_scores` and `gated_sum` for the path of `weights`."""
    if weights.path != ALL_FUSED:
        return all_edges
    from afmp.message_passing.all_edges import fused

    return fused


def _kept_edges_pytorch(state: Tensor, weights: PackedLayer, graph: Graph, k: int) -> LayerOutput:
    tables, edge_slots = graph.neighbours, graph.edge_slots
    with without_autocast(state):
        new_state, mean, gate_sum, scores, kept = KeptEdgesLayer.apply(
            state.to(weights.weight.dtype), *weights.wide, weights.weight, weights.bias, *weights.score,
            weights.gate_weight, weights.gate_bias, tables, edge_slots, k,
        )  # fmt: skip
    slots = scores.new_zeros(*state.shape[:2], tables.nbr.numel()).index_copy_(2, edge_slots, scores)
    keep = torch.zeros_like(slots, dtype=torch.bool).scatter_(2, edge_slots.take(kept), True)
    slots, keep = (part.view(*state.shape[:3], tables.nbr.shape[1]) for part in (slots, keep))
    return LayerOutput(new_state, mean, slots, slots, keep, gate_sum)


def _kept_edges_fused(state: Tensor, weights: PackedLayer, graph: Graph, k: int) -> LayerOutput:
    from afmp.message_passing.kept_edges.fused import kept_edges_layer

    new_state, mean, gate_sum, scores, _, _, kept_index, *_ = kept_edges_layer(
        state.to(weights.weight.dtype), weights.weight, weights.bias, *weights.score,
        weights.gate_weight, weights.gate_bias, *graph.neighbours, k, weights.layout.predicts,
    )  # fmt: skip
    return LayerOutput(new_state, mean, scores, scores, kept_index >= 0, gate_sum)
