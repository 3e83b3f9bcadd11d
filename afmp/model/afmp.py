"""AFMP put together: patches become nodes, layers of gated messages change them, their mean is read out.

One layer of `paper`, top to bottom, is `exchange_messages`; `notebook` swaps in its own from `notebook.py`.
Shapes: B images, N nodes (patches), D channels, K neighbour slots a node, E directed edges; in front M models, which
is 1 but in a stack of models that train together (`afmp.model.stack`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afmp.errors import AfmpError, check_choice, check_flag, check_number, check_whole_number
from afmp.message_passing.implementation import implementation, uses_triton
from afmp.message_passing.layer import Exchange, exchange, keeps_few
from afmp.message_passing.weights import ExchangeWeights, LayerParameters, linear_map, map_nodes, pack_layer, per_model
from afmp.model import notebook
from afmp.model.capsule import PCU, TopDownAggregator
from afmp.model.graph import GraphModule
from afmp.model.router import PredictiveRouter
from afmp.model.scaffold import both_directions, build_edges, grid_positions, grid_shape


@dataclass(frozen=True)
class Internals:
    """Everything a forward pass went through. Edges are in the order of `AFMP.directed_edge_index`.

    logits (B, num_classes); sparsity_loss, a scalar; per layer: scores (B, E) before any is pruned,
    gates (B, E, D), states (B, N, D), refined_states (B, N, D), equal to states without the top-down pass.
    Under `notebook` only the first image has edges: all other rows of scores and gates are zero.
    """

    logits: Tensor
    sparsity_loss: Tensor
    scores: list[Tensor]
    gates: list[Tensor]
    states: list[Tensor]
    refined_states: list[Tensor]


class AFMPLayer(nn.Module):
    """The weights of one layer: a router, which gates the edges, and a capsule, which changes the nodes."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.router = PredictiveRouter(d_model)
        self.pcu = PCU(d_model)

    def exchange_weights(self, *, predicts: bool) -> ExchangeWeights:
        """This layer's weights as the exchange wants them; without `predicts` (first layer) there is no error."""
        own, message = self.pcu.maps()
        incoming, outgoing, prediction = self.router.maps(predicts=predicts)
        score, gates = self.router.score_weights(), self.router.gate_weights()
        return ExchangeWeights(own, message, incoming, outgoing, prediction, score, *gates)

    def exchange_parameters(self, *, predicts: bool) -> LayerParameters:
        """The same parameters as they are."""
        router, pcu = self.router, self.pcu
        prediction = router.W_pred if predicts else None
        maps = [router.W_q, pcu.W_self, prediction, router.v[0], router.W_k, pcu.W_msg, router.v[2], router.W_gate]
        parts = [part for linear in maps for part in (linear_map(linear) if linear else (None, None))]
        return LayerParameters(per_model(router.U, 2), *parts)


def kept_edges(model: "AFMP") -> int:
    """k = min(E, max(1, floor(sparsity * N))) edges an image; all of them in a dense model."""
    num_edges = model.num_directed_edges
    # A sparsity means the decimal it is written as: 0.29 of 100 is 29, though 0.29 * 100 < 29 in binary.
    share = math.floor(round(model.sparsity * model.num_patches, 9))
    return min(num_edges, max(1, share)) if model.is_sparse else num_edges


def layer_weights(model: "AFMP", state: Tensor) -> list[ExchangeWeights]:
    """What each layer's `exchange_messages` takes; the first layer has nothing to predict from."""
    return [layer.exchange_weights(predicts=number > 0) for number, layer in enumerate(model.layers)]


def packed_weights(model: "AFMP", state: Tensor) -> list:
    """The same, packed where few edges of state (M, B, N, D) are kept and their sums need no atomics."""
    kind, fused = state.device.type, uses_triton(state)
    if not (keeps_few(state, model.top_k, model.num_directed_edges) and (fused or kind == "cpu")):
        return layer_weights(model, state)
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else state.dtype
    layers = [layer.exchange_parameters(predicts=number > 0) for number, layer in enumerate(model.layers)]
    if not fused:
        return [pack_layer(layer, dtype) for layer in layers]
    from afmp.message_passing.kept_edges.packing import pack_layers

    return pack_layers(layers, dtype)


def exchange_messages(model: "AFMP", weights, state: Tensor) -> Exchange:
    """One layer on state (M, B, N, D): score every edge, keep an image's best, gate and sum their messages."""
    return exchange(state, weights, model.tables, model.edge_slots, k=model.top_k)


def pooled_readout(model: "AFMP", exchanges: list[Exchange]) -> Tensor:
    """What the readout reads, (M, B, D): the node mean of r_0, or of the last state without the top-down pass.

    Refinement is linear and every P_l the identity, so the mean of r_0 is the refinement of the means: the
    pass costs (B, D), not (B, N, D).
    """
    if not model.use_top_down:
        return exchanges[-1].mean
    return model.refine([exchange.mean[:, :, None] for exchange in exchanges])[0].squeeze(2)


class Semantics(NamedTuple):
    """The functions in which the two meanings of AFMP part."""

    stored_edges: Callable[..., Tensor]
    directed_edges: Callable[[Tensor], Tensor]
    kept_edges: Callable[["AFMP"], int]
    layer_weights: Callable[["AFMP", Tensor], list]
    exchange_messages: Callable[..., Exchange]
    pooled_readout: Callable[["AFMP", list[Exchange]], Tensor]


SEMANTICS = {
    "paper": Semantics(build_edges, both_directions, kept_edges, packed_weights, exchange_messages, pooled_readout),
    "notebook": Semantics(
        notebook.stored_edges,
        notebook.directed_edges,
        notebook.kept_edges,
        layer_weights,
        notebook.exchange_messages,
        notebook.pooled_readout,
    ),
}


class AFMP(GraphModule):
    """Adaptive message passing between the patches of an image.

    - num_layers, d_model (D), num_classes
    - img_size, patch_size: pixels; one side or (height, width), which patch_size must divide
    - sparsity: edges kept, per node of the image; is_sparse=False keeps all, and has no regulariser
    - use_top_down: refine the states from the last layer down to the first before the readout
    - lambda_sparse: weight of the mean gate, the second result of `forward_train`
    - semantics: "paper", what the text describes, or "notebook", what the seed's code computes
    - scaffold: "delaunay", or "window", which joins patches at most window_size numbers apart
    - batch_size: of training; `notebook` alone uses it, to count its budget

    Raises AfmpError on an argument that is not allowed. The graph travels in the weights (`static_positions`,
    `edge_index`, `edge_attr`): a model that loads weights takes over the graph they were trained with.
    """

    def __init__(
        self,
        num_layers: int = 4,
        d_model: int = 128,
        *,
        num_classes: int = 100,
        img_size: int | tuple[int, int] = 32,
        patch_size: int = 8,
        sparsity: float = 0.3,
        is_sparse: bool = True,
        use_top_down: bool = True,
        lambda_sparse: float = 1e-4,
        semantics: str = "paper",
        scaffold: str = "delaunay",
        window_size: int = 8,
        batch_size: int = 128,
    ) -> None:
        for name, value in (
            ("num_layers", num_layers),
            ("d_model", d_model),
            ("num_classes", num_classes),
            ("batch_size", batch_size),
        ):
            check_whole_number(name, value)
        check_number("sparsity", sparsity)
        check_number("lambda_sparse", lambda_sparse)
        check_flag("is_sparse", is_sparse)
        check_flag("use_top_down", use_top_down)
        check_choice("semantics", semantics, tuple(SEMANTICS))
        meaning = SEMANTICS[semantics]
        positions = grid_positions(img_size, patch_size).to(torch.get_default_dtype())
        edge_index = meaning.stored_edges(positions, scaffold=scaffold, window_size=window_size)
        super().__init__(positions, edge_index, meaning.directed_edges)

        self.semantics, self._meaning = semantics, meaning
        self.num_classes, self.d_model, self.batch_size = num_classes, d_model, batch_size
        self.grid_shape, self.patch_size = grid_shape(img_size, patch_size), patch_size
        self.sparsity, self.is_sparse, self.use_top_down = sparsity, is_sparse, use_top_down
        self.lambda_sparse = lambda_sparse if is_sparse else 0.0

        # In the notebook's order, so that one seed gives both the same initial weights, and under its names.
        self.embed = nn.Linear(3 * patch_size * patch_size, d_model)
        self.position_embed = nn.Linear(2, d_model)
        self.layers = nn.ModuleList(AFMPLayer(d_model) for _ in range(num_layers))
        num_refined = num_layers - 1 if use_top_down else 0
        self.top_down_aggregators = nn.ModuleList(TopDownAggregator(d_model) for _ in range(num_refined))
        self.readout = nn.ModuleDict({"2": nn.Linear(d_model, num_classes)})

    @property
    def top_k(self) -> int:
        """Edges an image keeps (under `notebook`: scores that the first image of a full batch keeps)."""
        return self._meaning.kept_edges(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, 3, height, width); a stack of M models has M in front of both."""
        return self._per_model(self._logits(self._exchanges(images)))

    def forward_train(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, num_classes), and lambda_sparse * mean gate over layers, images, edges and channels; a
        stack of M models gives (M, B, num_classes) and (M,)."""
        exchanges = self._exchanges(images)
        return self._per_model(self._logits(exchanges)), self._per_model(self._sparsity_loss(exchanges))

    def forward_internals(self, images: Tensor) -> Internals:
        """A pass of one model with all that it went through, edges x channels included: to study it, not to train."""
        exchanges = self._exchanges(images)
        states = [exchange.state for exchange in exchanges]
        scores, gates = [], []
        for layer, passed in zip(self.layers, exchanges, strict=True):
            slots = (passed.scores, passed.gate_scores, passed.keep)
            raw, gating, keep = (slot.flatten(2)[..., self.edge_slots] for slot in slots)  # (1, images, E) each
            silent = len(images) - keep.shape[1]  # images that exchange nothing
            scores.append(F.pad(raw, (0, 0, 0, silent))[0])
            gates.append(F.pad(layer.router.gates(gating, keep), (0, 0, 0, 0, 0, silent))[0])
        logits, sparsity_loss = self._logits(exchanges)[0], self._sparsity_loss(exchanges)[0]
        states, refined = ([state[0] for state in kind] for kind in (states, self.refine(states)))
        return Internals(logits, sparsity_loss, scores, gates, states, refined)

    def refine(self, states: list[Tensor]) -> list[Tensor]:
        """Top-down refinement of one state (M, B, n, D) a layer: r_l = h_l + W_t^l (P_l r_{l+1}), last first."""
        refined = list(states)
        for index in reversed(range(len(self.top_down_aggregators))):
            refined[index] = self.top_down_aggregators[index](states[index], refined[index + 1])
        return refined

    @property
    def implementation(self) -> str:
        """What passes this model's messages where it stands: "triton" or "pytorch"."""
        return implementation(self.embed.weight.device, self.embed.weight.dtype)

    @property
    def is_stack(self) -> bool:
        """Whether every parameter holds several models' values along a leading model axis."""
        return self.embed.weight.dim() == 3

    def _per_model(self, result: Tensor) -> Tensor:
        return result if self.is_stack else result[0]

    def _exchanges(self, images: Tensor) -> list[Exchange]:
        state = self._embed(images)
        exchanges = []
        for weights in self._meaning.layer_weights(self, state):
            exchange = self._meaning.exchange_messages(self, weights, state)
            exchanges.append(exchange)
            state = exchange.state
        return exchanges

    def _embed(self, images: Tensor) -> Tensor:
        """Nodes (M, B, N, D): every patch's pixels, ordered (channel, row, column), and its place."""
        (rows, columns), size = self.grid_shape, self.patch_size
        expected = (3, rows * size, columns * size)
        models = self.embed.weight.shape[:-2]  # (M,) in a stack, else ()
        if images.dim() != 4 + len(models) or images.shape[-3:] != expected or not images.is_floating_point():
            raise AfmpError(
                f"images are {images.dtype} of shape {tuple(images.shape)}: this model takes floating-point "
                f"images of shape ({', '.join(map(str, (*models, 'batch', *expected)))})"
            )
        patches = images.reshape(*(models or (1,)), -1, 3, rows, size, columns, size).permute(0, 1, 3, 5, 2, 4, 6)
        patches = patches.reshape(*patches.shape[:2], rows * columns, 3 * size * size)
        nodes = map_nodes(patches, [linear_map(self.embed)])[0]
        return (
            nodes + map_nodes(self.static_positions.expand(len(nodes), 1, -1, -1), [linear_map(self.position_embed)])[0]
        )

    def _logits(self, exchanges: list[Exchange]) -> Tensor:
        pooled = self._meaning.pooled_readout(self, exchanges)
        return map_nodes(pooled[:, :, None], [linear_map(self.readout["2"])])[0].squeeze(2)

    def _sparsity_loss(self, exchanges: list[Exchange]) -> Tensor:
        gates_per_image = len(exchanges) * self.num_directed_edges * self.d_model
        if self.lambda_sparse == 0 or gates_per_image == 0:
            return exchanges[-1].gate_sum.new_zeros(len(exchanges[-1].gate_sum))
        # Gates are positive: their sum is the sum of |g|.
        return self.lambda_sparse * sum(exchange.gate_sum.mean(dim=1) for exchange in exchanges) / gates_per_image
