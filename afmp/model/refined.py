"""`refined`: AFMP with what deep networks need to learn from messages (docs/semantics.md). The layer is in this file.

    n     = (h - mean) / sqrt(var + eps)                      over channels, without weights
    err_e = RMS( z_j - p_i )                                  of the edge e = (i <- j)
    s_e   = q_i . k_j / sqrt(r) + w . relu( a_i + b_j + W_f [err_e ; delta_e] + b_f ) + b_w
    keep  = all edges; or the k of the image, or of each node, with the highest scores; of equal scores, the first
    g_e   = sigmoid(W_gate s_e + b_gate + o(delta_e)) on kept edges, exactly 0 on the others
    u_i   = (1 + c(0)) * n_i + sum over e of g_e * c(delta_e) * n_j
    h'_i  = h_i + W_2 GELU(W_1 u_i + b_1) + b_2

q, k, a, b, z and p are linear maps of n to r channels. delta_e is the position of the sender minus that of the receiver
in log-spaced steps of the grid, and (c, o) is a small network of it: one kernel and one offset for each direction. p_i
is what the node predicts of its neighbours' z; err_e is how far off it is. All of `paper` is here: scaffold, prediction
error, router, gates, budget. New are the normalisation, the residual path, the direction of edges, and the mixing of
channels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afmp.message_passing.autocast import without_autocast
from afmp.message_passing.directions import pytorch as directions_pytorch
from afmp.message_passing.implementation import DIRECTIONS_FUSED, PLAIN, directions_path_of
from afmp.message_passing.layer import LayerOutput
from afmp.message_passing.neighbours import Graph
from afmp.message_passing.selection import top_k_edges, top_k_edges_of_nodes
from afmp.model.edge_weights import EdgeWeights, edge_weights
from afmp.model.embedding import PatchEmbedding, PositionFeatures
from afmp.model.layer import Budget, Layer, per_model
from afmp.model.linear import LayerNorm, Linear, Normalisation, has_hooks, is_linear, needs_plain_operations
from afmp.model.paper import PaperLayer
from afmp.model.random_edges import pseudo_random

RANK = 16  # r: channels in which the router compares nodes
DIRECTION_WIDTH = 32  # hidden channels of the network of directions
EXPANSION = 2  # hidden channels of the mixing, in multiples of D


class RefinedRouter(nn.Module):
    """The scores s_e and the gates g_e of a layer, for `d_model` channels.

    At the start the scores are small, so the gates depend mostly on the direction. Training adds what depends on the
    image.

    predicts: False if err_e is 0.
    selects: True if the scores choose which edges are kept. Then a higher score opens the gates of all channels at
    first, so that a budget keeps the edges that carry most. Otherwise the scores start with little effect.
    """

    def __init__(self, d_model: int, *, predicts: bool, selects: bool) -> None:
        super().__init__()
        self.predicts = predicts
        self.W_in = Linear(d_model, 6 * RANK)  # rows: q, a, p of the receiver, then k, b, z of the sender
        self.W_f = Linear(3, RANK)
        self.w = Linear(RANK, 1)
        self.W_gate = Linear(1, d_model)
        with torch.no_grad():
            self.w.weight.mul_(0.1)
            self.W_gate.weight.fill_(1.0 if selects else 0.1)

    def forward(self, nodes: Tensor, graph: Graph) -> Tensor:
        """Return s_e of all slots, (..., N, K), from normalised nodes (..., N, D), in float32 or wider."""
        q, a, p, k, b, z = self._mapped_ends(nodes, graph)
        error = self._error(p, z)[..., None]
        delta = graph.offsets[graph.offset_index].to(error.dtype).expand(*error.shape[:-1], 2)
        with without_autocast(nodes):
            hidden = F.relu(a + b + self.W_f(torch.cat([error, delta], dim=-1)))
            return (q * k).sum(dim=-1) / RANK**0.5 + self.w(hidden).squeeze(-1)

    def prediction_error(self, nodes: Tensor, graph: Graph) -> Tensor:
        """Return err_e of all slots, (..., N, K), from normalised nodes (..., N, D), in float32 or wider."""
        _, _, p, _, _, z = self._mapped_ends(nodes, graph)
        return self._error(p, z)

    def _mapped_ends(self, nodes: Tensor, graph: Graph) -> tuple[Tensor, ...]:
        """Return q, a and p of the receiver, (..., N, 1, r), then k, b and z of the sender, (..., N, K, r)."""
        mapped = self.W_in(nodes)
        mapped = mapped.to(torch.promote_types(mapped.dtype, torch.float32))
        receiver, sender = mapped.split(3 * RANK, dim=-1)
        ends = receiver[..., :, None, :], sender[..., graph.neighbours.nbr, :]
        return *ends[0].split(RANK, dim=-1), *ends[1].split(RANK, dim=-1)

    def _error(self, prediction: Tensor, latent: Tensor) -> Tensor:
        """Return the root mean square (..., N, K) of latent - prediction. Its gradient at 0 is 0."""
        if not self.predicts:
            return latent.new_zeros(latent.shape[:-1])
        return torch.linalg.vector_norm(latent - prediction, dim=-1) / RANK**0.5

    def gates(self, scores: Tensor, offset: Tensor) -> Tensor:
        """Return sigmoid(W_gate s_e + b_gate + o(delta_e)), (..., D), for scores (...) and offset o (..., D)."""
        with without_autocast(scores):
            return torch.sigmoid(self.W_gate(scores[..., None].to(self.W_gate.weight.dtype)) + offset)


class Directions(nn.Module):
    """The kernel c and the offset o of each direction: a network of delta, so that no parameter depends on a size."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.hidden, self.out = Linear(2, DIRECTION_WIDTH), Linear(DIRECTION_WIDTH, 2 * d_model)

    def forward(self, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Return c and o, each (T, D), of the T different offsets (T, 2); in a stack (M, T, D)."""
        if self.hidden.weight.dim() == 3:
            offsets = offsets.expand(len(self.hidden.weight), -1, -1)
        with without_autocast(offsets):
            return self.out(F.relu(self.hidden(offsets.to(self.hidden.weight.dtype)))).chunk(2, dim=-1)


class Mixing(nn.Module):
    """The mixing of a node's channels, W_2 GELU(W_1 u + b_1) + b_2."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.W_1, self.W_2 = Linear(d_model, EXPANSION * d_model), Linear(EXPANSION * d_model, d_model)

    def forward(self, nodes: Tensor) -> Tensor:
        """Mix nodes (..., D)."""
        return self.W_2(F.gelu(self.W_1(nodes)))


class RefinedLayer(Layer):
    """One layer of `refined`."""

    reads_refined_states = True  # the readout reads the mean of r_0
    reads_offsets = True
    first_error = 0  # a layer predicts the states that it gets, not those that it makes

    def __init__(self, d_model: int, budget: Budget, *, predicts: bool) -> None:
        router = RefinedRouter(d_model, predicts=predicts, selects=budget.is_sparse)
        super().__init__(router, Mixing(d_model), budget, predicts=predicts)
        self.norm, self.directions = Normalisation(), Directions(d_model)

    @staticmethod
    def prepare(layers: Sequence["RefinedLayer"], state: Tensor, graph: Graph) -> list[EdgeWeights | None]:
        """Return the weights that act on edges, of each layer, for states like `state`; None on the plain path.

        They are computed for all layers at once: directions are so few that launches take all the time.
        """
        are_fast = [directions_path_of(state, readable=layer.is_readable()) != PLAIN for layer in layers]
        weights = iter(edge_weights([layer for layer, fast in zip(layers, are_fast, strict=True) if fast], graph))
        return [next(weights) if fast else None for fast in are_fast]

    def forward(self, state: Tensor, graph: Graph, weights: EdgeWeights | None = None) -> LayerOutput:
        """Update state (B, N, D), or (M, B, N, D) in a stack of models."""
        if weights is None:
            (weights,) = self.prepare([self], state, graph)
        if weights is not None:
            return self._fast_forward(state, graph, weights)

        tables, nodes = graph.neighbours, self.norm(state)
        kernel, offset = self.directions(graph.offsets)  # (..., T, D); T is the number of different offsets
        scores = self.scores(nodes, graph)  # (..., N, K)
        keep = self.kept(scores, graph)
        gates = self.router.gates(scores, of_slots(offset, graph)) * keep[..., None]  # (..., N, K, D)
        heard = (gates * of_slots(kernel, graph) * nodes[..., tables.nbr, :]).sum(dim=-2)
        own = 1 + kernel[..., None, :1, :]  # offset 0 is that of a node to itself
        new_state = state + self.pcu((own * nodes + heard).to(nodes.dtype))
        return LayerOutput(new_state, new_state.mean(dim=-2), scores, scores, keep, gates.sum(dim=(-3, -2, -1)))

    def _fast_forward(self, state: Tensor, graph: Graph, weights: EdgeWeights) -> LayerOutput:
        operations = directions_pytorch
        if directions_path_of(state, readable=True) == DIRECTIONS_FUSED:
            from afmp.message_passing.directions import fused as operations
        nodes = self.norm(state)
        if self.budget.routing == "none":
            scores = self.scores(nodes, graph).to(weights.kernel.dtype)
        else:
            mapped = per_model(self.router.W_in(nodes), 3)  # (M, B, N, 6r)
            parts = {"error": weights.error, "direction": weights.direction, "out": weights.out}
            scores = operations.edge_scores(mapped, graph, **parts, out_bias=weights.out_bias)
            scores = scores.view(*nodes.shape[:-1], scores.shape[-1])
        keep = self.kept(scores, graph)
        keeps_all = self.budget.messages and not self.budget.is_sparse
        updated, gate_sum = operations.directed_sum(
            per_model(nodes, 3),
            graph,
            scores=per_model(scores, 3),
            keep=None if keeps_all else per_model(keep, 3),
            kernel=weights.kernel,
            gate_weight=weights.gate_weight,
            gate_bias=weights.gate_bias,
        )
        new_state = state + self.pcu(updated.view_as(nodes))
        return LayerOutput(new_state, new_state.mean(dim=-2), scores, scores, keep, gate_sum.view(state.shape[:-2]))

    def is_readable(self) -> bool:
        """Return True if fast paths may read the weights of all that acts on edges instead of calling it.

        All other inner modules are called, on every path.
        """
        if needs_plain_operations():
            return False
        router, directions = self.router, self.directions
        if type(router) is not self._readable_types[0] or type(directions) is not Directions:
            return False
        maps = (router.W_f, router.w, router.W_gate, directions.hidden, directions.out)
        if has_hooks(router) or has_hooks(directions) or not all(map(is_linear, maps)):
            return False
        d = router.W_gate.out_features
        shapes = ((RANK, 3), (1, RANK), (d, 1), (DIRECTION_WIDTH, 2), (2 * d, DIRECTION_WIDTH))
        own = all(linear.weight.shape[-2:] == shape for linear, shape in zip(maps, shapes, strict=True))
        return own and len({linear.weight.dim() for linear in maps}) == 1

    def unused_maps(self) -> list[nn.Module]:
        """Return the inner modules whose weights act on no result: without routing, those that score."""
        router = self.router
        is_own = type(router) is RefinedRouter
        return [router.W_in, router.W_f, router.w] if is_own and self.budget.routing == "none" else []

    def scores(self, nodes: Tensor, graph: Graph) -> Tensor:
        """Return s_e of all slots, (..., N, K), of normalised nodes (..., N, D); 0 without a router."""
        if self.budget.routing == "none":
            return nodes.new_zeros(*nodes.shape[:-1], graph.neighbours.nbr.shape[-1])
        return torch.where(graph.neighbours.valid, self.router(nodes, graph), 0)

    def kept(self, scores: Tensor, graph: Graph) -> Tensor:
        """Return the slots (..., N, K) bool that carry a message: exactly as many as the budget says."""
        valid, budget = graph.neighbours.valid, self.budget
        if not budget.messages:
            return torch.zeros_like(scores, dtype=torch.bool)
        if not budget.is_sparse:
            return valid.expand_as(scores)
        ranked = scores
        if budget.routing == "random":
            ranked = pseudo_random(graph.keys, *scores.shape[-2:])
        if budget.edges_per_node is not None:
            return top_k_edges_of_nodes(ranked, valid, budget.edges_per_node)
        return top_k_edges(ranked, valid, self.num_kept_edges(graph))

    def prediction_errors(self, state: Tensor, graph: Graph) -> Tensor | None:
        """Return err_e of all slots, (..., N, K), of the layer for state (..., N, D); None if no score has one."""
        has_none = not self.predicts or self.budget.routing == "none"
        return None if has_none else self.router.prediction_error(self.norm(state), graph)

    def gates(self, scores: Tensor, graph: Graph) -> Tensor:
        """Return the gates (..., N, K, D) of scores (..., N, K), as if every slot were kept."""
        _, offset = self.directions(graph.offsets)
        return self.router.gates(scores, of_slots(offset, graph))

    def num_kept_edges(self, graph: Graph) -> int:
        """Return the number of edges kept per image."""
        degrees = graph.neighbours.valid.sum(dim=-1)
        if not self.budget.messages:
            return 0
        if self.budget.is_sparse and self.budget.edges_per_node is not None:
            return int(degrees.clamp(max=self.budget.edges_per_node).sum())
        return self.budget.edges_per_image(len(degrees), len(graph.edge_slots))

    @staticmethod
    def patch_embedding(patch_size: int, d_model: int, in_chans: int = 3) -> nn.Module:
        """Return the map of patches (..., N, C P P), ordered (channel, row, column), to (..., N, D)."""
        return PatchEmbedding(patch_size, d_model, in_chans)

    @staticmethod
    def position_embedding(d_model: int) -> nn.Module:
        """Return the map of patch centres (..., N, 2) in pixels to (..., N, D)."""
        return PositionFeatures(d_model)

    @staticmethod
    def top_down_step(d_model: int) -> nn.Module:
        """Return one step of the top-down pass."""
        return RefinedTopDown(d_model)

    @staticmethod
    def readout(d_model: int, num_classes: int) -> nn.Module:
        """Return the map of the mean over nodes (..., D) to logits (..., num_classes)."""
        return RefinedReadout(d_model, num_classes)

    stored_edges = staticmethod(PaperLayer.stored_edges)
    directed_edges = staticmethod(PaperLayer.directed_edges)


def of_slots(values: Tensor, graph: Graph) -> Tensor:
    """Return for each slot, (N, K, D), the value of its offset, of values (T, D); (M, 1, N, K, D) in a stack."""
    slots = values[..., graph.offset_index, :]
    return slots.unsqueeze(1) if values.dim() == 3 else slots


class RefinedTopDown(nn.Module):
    """One step of the top-down pass, a residual block: r_l = r_{l+1} + W_t GELU(LayerNorm(h_l + r_{l+1})) + b_t.

    The residual path comes from above, as the readout reads r_0: so what the last layer knows reaches it unchanged.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.norm, self.W_t = LayerNorm(d_model), Linear(d_model, d_model)

    def forward(self, lower: Tensor, higher: Tensor) -> Tensor:
        """Refine lower (..., N, D) by higher (..., N, D)."""
        return higher + self.W_t(F.gelu(self.norm(lower + higher)))


class RefinedReadout(nn.Module):
    """The readout W LayerNorm(mean) + b of the mean over nodes."""

    def __init__(self, d_model: int, num_classes: int) -> None:
        super().__init__()
        self.norm, self.map = LayerNorm(d_model), Linear(d_model, num_classes)

    def forward(self, mean: Tensor) -> Tensor:
        """Return logits (..., num_classes) of mean (..., D)."""
        return self.map(self.norm(mean))
