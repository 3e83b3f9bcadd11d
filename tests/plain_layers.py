"""One layer with random weights, for the tests of the fast paths: its plain form, and the results to compare.

The plain form stores edges x channels, and autograd computes its gradients.
"""

from typing import NamedTuple

import torch
from graphs import grid_graph, lone_node_graph
from torch import Tensor

from afmp.message_passing.implementation import KEPT_FUSED, KEPT_PYTORCH
from afmp.message_passing.layer import LayerOutput
from afmp.message_passing.neighbours import Neighbours, build_neighbours
from afmp.message_passing.selection import top_k_edges
from afmp.message_passing.weights import KEPT_EDGES, NARROW, Layout, PackedLayer, ScoreWeights, WideMaps, fold_query

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HIDDEN = 5


GRAPHS = {
    "two nodes": grid_graph((4, 8)),  # for checks that run an operator many times
    "grid": grid_graph(),
    "lone node": lone_node_graph(),
    "9 slots per node": grid_graph((4, 40), scaffold="window", window_size=5),
    "17 slots per node": grid_graph((4, 72), scaffold="window", window_size=9),
}
SIZES = [(1, 1, 16), (2, 2, 33)]  # models, images, channels
CASES = [(graph, sizes) for graph in GRAPHS for sizes in SIZES if graph != "two nodes"]


class LinearMap(NamedTuple):
    """A linear map per model: weight (M, out, in), bias (M, out)."""

    weight: Tensor
    bias: Tensor


class LayerWeights(NamedTuple):
    """Weights of one layer, not packed.

    - own, message, prediction: D -> D; no prediction in the first layer
    - incoming: D -> 2H [query | receiver]; outgoing: D -> 2H [key | sender]
    - gate_weight, gate_bias (M, D)
    """

    own: LinearMap
    message: LinearMap
    incoming: LinearMap
    outgoing: LinearMap
    prediction: LinearMap | None
    score: ScoreWeights
    gate_weight: Tensor
    gate_bias: Tensor


def tables_of(graph, dtype=torch.float32):
    """Return the neighbour tables and edge slots of one of GRAPHS, with distances in `dtype`."""
    tables, edge_slots = build_neighbours(*GRAPHS[graph])
    tables = tables._replace(dist=tables.dist.to(dtype))
    return type(tables)(*(table.to(DEVICE) for table in tables)), edge_slots.to(DEVICE)


def normal(*shape, generator, scale=1.0):
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale


def layer_inputs(num_nodes, models, images, width, *, predicts=True, seed=0):
    """Return a state and a layer's weights, random, in float64."""
    generator = torch.Generator().manual_seed(seed)
    state = normal(models, images, num_nodes, width, generator=generator)

    def linear(out):
        return LinearMap(
            normal(models, out, width, generator=generator, scale=width**-0.5),
            normal(models, out, generator=generator, scale=0.1),
        )

    own, message, incoming, outgoing, prediction = map(linear, (width, width, 2 * HIDDEN, 2 * HIDDEN, width))
    score = ScoreWeights(*(normal(models, n, generator=generator, scale=0.3) for n in (HIDDEN, HIDDEN, HIDDEN, 1)))
    # Small, because the slope g (1 - g) of a saturated gate is nothing but rounding.
    gates = [normal(models, width, generator=generator, scale=0.2) for _ in range(2)]
    return state, LayerWeights(own, message, incoming, outgoing, prediction if predicts else None, score, *gates)


def leaves_of(state, weights):
    """Return all tensors that have a gradient."""
    maps = [part for part in weights[:5] if part is not None]
    return [state, *(tensor for part in maps for tensor in part), *weights.score, *weights[6:]]


def convert(state, weights, dtype):
    """Return leaves on the device: state and maps in `dtype`, the weights that act on edges in float32 or wider."""
    edge_type = torch.promote_types(dtype, torch.float32)

    def leaf(tensor, kind):
        return tensor.to(DEVICE, kind).requires_grad_()

    maps = [part if part is None else LinearMap(*(leaf(tensor, dtype) for tensor in part)) for part in weights[:5]]
    score = ScoreWeights(*(leaf(tensor, edge_type) for tensor in weights.score))
    gates = [leaf(tensor, edge_type) for tensor in weights[6:]]
    return leaf(state, dtype), LayerWeights(*maps, score, *gates)


def packed(weights) -> PackedLayer:
    """Return the same weights, packed for the fused path over kept edges."""
    own, message, incoming, outgoing, prediction, score, *gates = weights
    maps = [own, prediction, incoming, outgoing, message]
    weight, bias = (torch.cat(parts, dim=1) for parts in zip(*filter(None, maps), strict=True))
    layout = Layout(own.weight.shape[1], score.out.shape[1], prediction is not None, KEPT_EDGES)
    return PackedLayer(weight, bias, score, *gates, layout, KEPT_FUSED)


def packed_for_cpu(weights) -> PackedLayer:
    """Return the same weights, packed for the path of a CPU over kept edges, which reads wide maps where they are."""
    own, message, incoming, outgoing, prediction, score, *gates = weights
    weight, bias = (torch.cat(parts, dim=1) for parts in zip(incoming, outgoing, strict=True))
    layout = Layout(own.weight.shape[1], score.out.shape[1], prediction is not None, NARROW)
    wide = WideMaps(*own, *message, *(prediction or (None, None)))
    return PackedLayer(weight, bias, score, *gates, layout, KEPT_PYTORCH, wide)


def weights_of(layer) -> LayerWeights:
    """Return the weights of a model's layer, not packed, with a model axis in front."""
    router, pcu = layer.router, layer.pcu
    single = router.U.dim() == 2

    def per_model(tensor):
        return tensor[None] if single else tensor

    def linear(module):
        return LinearMap(per_model(module.weight), per_model(module.bias))

    d_model = pcu.W_self.in_features
    query, key, hidden, out, gate = map(linear, (router.W_q, router.W_k, router.v[0], router.v[2], router.W_gate))
    folded = fold_query(per_model(router.U), query.weight, query.bias)
    receiver, sender = hidden.weight[..., : 2 * d_model].split(d_model, dim=-1)
    incoming = LinearMap(
        torch.cat([folded[..., :-1], receiver], dim=1), torch.cat([folded[..., -1], hidden.bias], dim=1)
    )
    outgoing = LinearMap(
        torch.cat([key.weight, sender], dim=1), torch.cat([key.bias, torch.zeros_like(key.bias)], dim=1)
    )
    prediction = linear(router.W_pred) if layer.predicts else None
    error, dist = hidden.weight[..., -2:].unbind(dim=-1)
    score = ScoreWeights(error, dist, out.weight[:, 0], out.bias)
    maps = (linear(pcu.W_self), linear(pcu.W_msg), incoming, outgoing, prediction)
    return LayerWeights(*maps, score, gate.weight[..., 0], gate.bias)


def packed_tensors(layer: PackedLayer) -> list[Tensor]:
    """Return all tensors of a packed layer."""
    wide = [part for part in layer.wide or () if part is not None]
    return [layer.weight, layer.bias, *layer.score, layer.gate_weight, layer.gate_bias, *wide]


def map_nodes(state, maps) -> list[Tensor]:
    """Map nodes (M, B, N, D) by each of the linear maps."""
    return [torch.einsum("mbnd,mod->mbno", state, map.weight) + map.bias[:, None, None] for map in maps]


def plain_edge_scores(
    incoming: Tensor,
    outgoing: Tensor,
    weights: ScoreWeights,
    tables: Neighbours,
    *,
    state: Tensor | None = None,
    prediction: Tensor | None = None,
) -> Tensor:
    """Return the scores (M, B, N, K), 0 where `tables.valid` is false."""
    query, receiver = incoming[..., None, :].chunk(2, dim=-1)  # (M, B, N, 1, H) each
    key, sender = outgoing[:, :, tables.nbr].chunk(2, dim=-1)  # (M, B, N, K, H) each
    hidden = receiver + sender + tables.dist[..., None] * _edge(weights.dist)
    if state is not None:
        difference = state[:, :, tables.nbr] - prediction[..., None, :]  # (M, B, N, K, D)
        hidden = hidden + torch.linalg.vector_norm(difference, dim=-1, keepdim=True) * _edge(weights.error)
    scores = (query * key + hidden.relu() * _edge(weights.out)).sum(dim=-1) + weights.out_bias[:, :, None, None]
    return torch.where(tables.valid, scores, 0)


def plain_gated_sum(
    message: Tensor, scores: Tensor, keep: Tensor, gate_weight: Tensor, gate_bias: Tensor, tables: Neighbours
) -> tuple[Tensor, Tensor]:
    """Return gated messages summed at every node (M, B, N, D), and the sum of all gates per image (M, B)."""
    gates = (
        torch.sigmoid(scores[..., None] * _edge(gate_weight) + _edge(gate_bias)) * keep[..., None]
    )  # (M, B, N, K, D)
    return (gates * message[:, :, tables.nbr]).sum(dim=3), gates.sum(dim=(2, 3, 4))


def _edge(weights: Tensor) -> Tensor:
    return weights[:, None, None, None]  # (M, 1, 1, 1, C): one row per model, for all edges of all its images


def reference_layer(state, weights, tables, *, keep=None, k=None):
    """Compute a layer by the two plain functions, on the edges `keep`, or on the k best."""
    maps = [weights.own, weights.message, weights.incoming, weights.outgoing]
    own, message, *mapped = map_nodes(state, maps + ([weights.prediction] if weights.prediction else []))
    surprise = {"state": state, "prediction": mapped[2]} if weights.prediction else {}
    scores = plain_edge_scores(mapped[0], mapped[1], weights.score, tables, **surprise)
    keep = top_k_edges(scores, tables.valid, k) if keep is None else keep
    heard, gate_sum = plain_gated_sum(message, scores, keep, weights.gate_weight, weights.gate_bias, tables)
    return layer_output(own + heard, scores, keep, gate_sum)


def layer_output(total, scores, keep, gate_sum):
    """Return the output of a layer whose GELU has the input `total`."""
    state = torch.nn.functional.gelu(total)
    return LayerOutput(state, state.mean(dim=2), scores, scores, keep, gate_sum)


def results(output, leaves, seed=1):
    """Return the new state, its mean, the gate sums, and the gradients of a random combination of the three."""
    generator = torch.Generator().manual_seed(seed)
    target = sum(
        (part * normal(*part.shape, generator=generator).to(part)).sum()
        for part in (
            output.state.double(),
            output.mean.double(),
            output.gate_sum.double() / output.state.shape[-1],
        )
    )
    # A first layer has no error, so the weights of the error have no gradient: it counts as zero.
    gradients = torch.autograd.grad(target, leaves, allow_unused=True)
    zeros = [torch.zeros_like(leaf) if d is None else d for d, leaf in zip(gradients, leaves, strict=True)]
    return [output.state, output.mean, output.gate_sum, *zeros]


def relative_error(found, exact):
    """Return || found - exact || / || exact ||."""
    return ((found.double() - exact).norm() / exact.norm().clamp(min=1e-30)).item()
