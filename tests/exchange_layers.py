"""One layer of messages for the tests: weights drawn at random, its reference, and what is compared of the two."""

import torch
from graphs import grid_graph, lone_node_graph

from afmp.message_passing import reference
from afmp.message_passing.layer import Exchange
from afmp.message_passing.neighbours import build_neighbours
from afmp.message_passing.selection import top_k_edges
from afmp.message_passing.weights import ExchangeWeights, LinearMap, PackedLayer, ScoreWeights, map_nodes

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HIDDEN = 5


GRAPHS = {
    "grid": grid_graph(),
    "lone node": lone_node_graph(),
    "wider than the grid's": grid_graph((4, 28), scaffold="window", window_size=5),
    "more slots than a block": grid_graph((4, 80), scaffold="window", window_size=9),
}
SIZES = [(1, 1, 16), (2, 2, 33)]  # models, images, channels
# The largest graph in the smaller size alone: Triton's interpreter takes its time.
CASES = [(graph, sizes) for graph in GRAPHS for sizes in SIZES[: 1 if graph == "more slots than a block" else None]]


def tables_of(graph, dtype=torch.float32):
    tables, edge_slots = build_neighbours(*GRAPHS[graph])
    tables = tables._replace(dist=tables.dist.to(dtype))
    return type(tables)(*(table.to(DEVICE) for table in tables)), edge_slots.to(DEVICE)


def normal(*shape, generator, scale=1.0):
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale


def layer_inputs(num_nodes, models, images, width, *, predicts=True, seed=0):
    """A state and a layer's weights, float64."""
    generator = torch.Generator().manual_seed(seed)
    state = normal(models, images, num_nodes, width, generator=generator)

    def linear(out):
        return LinearMap(
            normal(models, out, width, generator=generator, scale=width**-0.5),
            normal(models, out, generator=generator, scale=0.1),
        )

    own, message, incoming, outgoing, prediction = map(linear, (width, width, 2 * HIDDEN, 2 * HIDDEN, width))
    score = ScoreWeights(*(normal(models, n, generator=generator, scale=0.3) for n in (HIDDEN, HIDDEN, HIDDEN, 1)))
    # Small, or gates saturate and their slope, g (1 - g), is rounding alone.
    gates = [normal(models, width, generator=generator, scale=0.2) for _ in range(2)]
    return state, ExchangeWeights(own, message, incoming, outgoing, prediction if predicts else None, score, *gates)


def leaves_of(state, weights):
    maps = [part for part in weights[:5] if part is not None]
    return [state, *(tensor for part in maps for tensor in part), *weights.score, *weights[6:]]


def convert(state, weights, dtype):
    """Leaves on the device: state and maps in `dtype`, what edges take in float32 at least."""
    edge_type = torch.promote_types(dtype, torch.float32)

    def leaf(tensor, kind):
        return tensor.to(DEVICE, kind).requires_grad_()

    maps = [part if part is None else LinearMap(*(leaf(tensor, dtype) for tensor in part)) for part in weights[:5]]
    score = ScoreWeights(*(leaf(tensor, edge_type) for tensor in weights.score))
    gates = [leaf(tensor, edge_type) for tensor in weights[6:]]
    return leaf(state, dtype), ExchangeWeights(*maps, score, *gates)


def packed(weights) -> PackedLayer:
    """The same weights as an exchange that keeps few edges takes them."""
    maps = [weights.own, weights.prediction, weights.incoming, weights.outgoing, weights.message]
    weight, bias = (torch.cat(parts, dim=1) for parts in zip(*filter(None, maps), strict=True))
    edges = (*weights.score, weights.gate_weight, weights.gate_bias)
    return PackedLayer(weight, bias, *edges, weights.prediction is not None)


def reference_layer(state, weights, tables, *, keep=None, k=None):
    """A layer by the reference's two functions; `keep` given, or the k best."""
    maps = [weights.own, weights.message, weights.incoming, weights.outgoing]
    own, message, *mapped = map_nodes(state, maps + ([weights.prediction] if weights.prediction else []))
    surprise = {"state": state, "prediction": mapped[2]} if weights.prediction else {}
    scores = reference.edge_scores(mapped[0], mapped[1], weights.score, tables, **surprise)
    keep = top_k_edges(scores, tables.valid, k) if keep is None else keep
    heard, gate_sum = reference.gated_sum(message, scores, keep, weights.gate_weight, weights.gate_bias, tables)
    return new_exchange(own + heard, scores, keep, gate_sum)


def new_exchange(total, scores, keep, gate_sum):
    state = torch.nn.functional.gelu(total)
    return Exchange(state, state.mean(dim=2), scores, scores, keep, gate_sum)


def results(exchange, leaves, seed=1):
    """New state, gate sums, and the gradients of a random combination of both."""
    generator = torch.Generator().manual_seed(seed)
    target = sum(
        (part * normal(*part.shape, generator=generator).to(part)).sum()
        for part in (
            exchange.state.double(),
            exchange.mean.double(),
            exchange.gate_sum.double() / exchange.state.shape[-1],
        )
    )
    # A first layer has no error, and its column of weights no gradient: zero.
    gradients = torch.autograd.grad(target, leaves, allow_unused=True)
    zeros = [torch.zeros_like(leaf) if d is None else d for d, leaf in zip(gradients, leaves, strict=True)]
    return [exchange.state, exchange.mean, exchange.gate_sum, *zeros]


def relative_error(found, exact):
    return ((found.double() - exact).norm() / exact.norm().clamp(min=1e-30)).item()
