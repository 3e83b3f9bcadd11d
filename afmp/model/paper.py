"""`paper`: what the original notebook's text describes (docs/semantics.md). The complete layer is in this file.

    err_e = || h_j - (W_pred p_i + b_pred) ||_2                       of the edge e = (i <- j)
    s_e   = (W_q h_i + b_q)^T U (W_k h_j + b_k) + v([h_i ; h_j ; err_e ; dist_e])
    keep  = the k edges of the image with the highest scores; of equal scores, the first in (receiver, sender) order
    g_e   = sigmoid(W_gate s_e + b_gate) on kept edges, exactly 0 on the others
    h'_i  = GELU( W_self h_i + b + sum over e = (i <- j) of g_e * (W_msg h_j + b_msg) )

p is the output of the previous layer, which is this layer's input h. The first layer has no p, and err_e = 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afmp.message_passing.autocast import without_autocast
from afmp.message_passing.layer import LayerOutput, message_passing_layer, prepare_layers
from afmp.message_passing.neighbours import Graph, Neighbours
from afmp.message_passing.selection import top_k_edges
from afmp.message_passing.weights import PackedLayer
from afmp.model.layer import Budget, Layer, add_model_axis, remove_model_axis
from afmp.model.linear import Linear, is_linear
from afmp.model.scaffold import both_directions, build_edges

ROUTING_WIDTH = 64  # H: width of queries and keys, and of v's hidden layer


class PredictiveRouter(nn.Module):
    """The scores s_e and the gates g_e of a layer (original notebook, "Predictive Router"), for `d_model` channels."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.W_pred = Linear(d_model, d_model)
        self.W_q = Linear(d_model, ROUTING_WIDTH)
        self.W_k = Linear(d_model, ROUTING_WIDTH)
        self.U = nn.Parameter(torch.randn(ROUTING_WIDTH, ROUTING_WIDTH) * 0.02)
        self.v = nn.Sequential(Linear(2 * d_model + 2, ROUTING_WIDTH), nn.ReLU(), Linear(ROUTING_WIDTH, 1))
        self.W_gate = Linear(1, d_model)

    def forward(self, state: Tensor, tables: Neighbours, predicts: bool) -> Tensor:
        """Return s_e of all slots, (..., N, K), from state (..., N, D); without `predicts`, err_e is 0.

        Under autocast, too, the scores are computed in float32 or wider, from queries and keys in the products' type.
        """
        error = self.prediction_error(state, tables, predicts)
        query, key = self.W_q(state), self.W_k(state)[..., tables.nbr, :]
        h_j = state[..., tables.nbr, :]  # (..., N, K, D): the senders
        h_i = state[..., :, None, :].expand_as(h_j)  # the receivers
        wide, dtype = error.dtype, self.U.dtype
        with without_autocast(state):
            u = self.U if self.U.dim() == 2 else self.U[:, None]  # (M, 1, H, H) in a stack
            bilinear = ((query.to(wide) @ u.to(wide))[..., :, None, :] * key.to(wide)).sum(dim=-1)
            dist = tables.dist[..., None].expand_as(error)
            features = torch.cat([part.to(dtype) for part in (h_i, h_j, error, dist)], dim=-1)
            return bilinear + self.v(features).squeeze(-1)

    def prediction_error(self, state: Tensor, tables: Neighbours, predicts: bool) -> Tensor:
        """Return err_e of all slots, (..., N, K, 1), in float32 or wider, from state (..., N, D)."""
        h_j = state[..., tables.nbr, :].to(torch.promote_types(state.dtype, torch.float32))
        if not predicts:
            return h_j.new_zeros(*h_j.shape[:-1], 1)
        prediction = self.W_pred(state)[..., :, None, :]
        return torch.linalg.vector_norm(h_j - prediction.to(h_j.dtype), dim=-1, keepdim=True)

    def gates(self, scores: Tensor) -> Tensor:
        """Return sigmoid(W_gate s_e + b_gate), (..., D), for scores (...)."""
        gate, values = self.W_gate, scores[..., None].to(self.U.dtype)
        with without_autocast(scores):
            if is_linear(gate) and gate.weight.dim() == 2:  # a map of one number: no product of matrices is needed
                return torch.sigmoid(values * gate.weight[:, 0] + gate.bias)
            return torch.sigmoid(gate(values))


class PCU(nn.Module):
    """The update h'_i of a layer's nodes: perceptual capsule units (original notebook, "Core AFMP Components")."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.W_self = Linear(d_model, d_model)
        self.W_msg = Linear(d_model, d_model)

    def forward(self, state: Tensor, heard: Tensor) -> Tensor:
        """Update state (..., N, D) by heard (..., N, D), the sum of the gated messages that each node receives."""
        return F.gelu(self.W_self(state) + heard)


class PaperLayer(Layer):
    """One layer of `paper`: messages along the best-scored edges of each image."""

    reads_refined_states = True  # the readout reads the mean of r_0, the first layer's refined states

    def __init__(self, d_model: int, budget: Budget, *, predicts: bool) -> None:
        super().__init__(PredictiveRouter(d_model), PCU(d_model), budget, predicts=predicts)

    def forward(self, state: Tensor, graph: Graph, weights: PackedLayer | None = None) -> LayerOutput:
        """Update state (B, N, D), or (M, B, N, D) in a stack of models.

        weights: this layer's entry in the result of `prepare`; if it is None, the layer calls `prepare` for itself.
        """
        weights = weights or self.prepare([self], state, graph)[0]
        if weights is not None:  # a fast path: the same result from the same weights
            output = message_passing_layer(add_model_axis(self, state), weights, graph, k=self.num_kept_edges(graph))
            return remove_model_axis(self, output)

        tables = graph.neighbours  # node i has K slots: tables.nbr[i] are the senders j of its edges (i <- j)
        scores = torch.where(tables.valid, self.router(state, tables, self.predicts), 0)  # (..., N, K)
        keep = top_k_edges(scores, tables.valid, self.num_kept_edges(graph))
        gates = self.router.gates(scores) * keep[..., None]  # (..., N, K, D)
        message = self.pcu.W_msg(state)  # (..., N, D)
        heard = (gates * message[..., tables.nbr, :]).sum(dim=-2)
        new_state = self.pcu(state, heard.to(message.dtype))
        return LayerOutput(new_state, new_state.mean(dim=-2), scores, scores, keep, gates.sum(dim=(-3, -2, -1)))

    def prediction_errors(self, state: Tensor, graph: Graph) -> Tensor | None:
        """Return err_e of all slots, (..., N, K), of the layer for state (..., N, D); None in the first layer."""
        if not self.predicts:
            return None
        return self.router.prediction_error(state, graph.neighbours, self.predicts).squeeze(-1)

    def num_kept_edges(self, graph: Graph) -> int:
        """Return k = min(E, max(1, floor(sparsity * N))), the edges kept per image; all E in a dense model."""
        return self.budget.edges_per_image(len(graph.neighbours.nbr), len(graph.edge_slots))

    @staticmethod
    def stored_edges(positions: Tensor, *, scaffold: str, window_size: int) -> Tensor:
        """Return the edge list (2, stored edges) that weights files contain: each undirected edge once."""
        return build_edges(positions, scaffold=scaffold, window_size=window_size)

    @staticmethod
    def directed_edges(edge_index: Tensor) -> Tensor:
        """Return the directed edges (2, E), receiver first: both directions of each stored edge."""
        return both_directions(edge_index)

    @staticmethod
    def prepare(layers: list["PaperLayer"], state: Tensor, graph: Graph) -> list[PackedLayer | None]:
        """Pack the weights of all layers for a pass over states like `state`; None for a layer on the plain path."""
        return prepare_layers(layers, state, k=layers[0].num_kept_edges(graph), num_edges=len(graph.edge_slots))
