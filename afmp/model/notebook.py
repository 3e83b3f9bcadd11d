"""`notebook`: what the original notebook's code computes, as opposed to its text. The complete layer is in this file.

    err_e = || h_j - (W_pred p_i + b_pred) ||_2                       as in `paper`
    s_e   = (W_q h_i + b_q)^T U (W_k h_j + b_k) + v([h_i ; h_j ; err_e ; dist_e])
    s'_e  = s_e where it reaches the budget-th highest score of the first image, else 0
    g_e   = sigmoid(W_gate s'_e + b_gate)
    h'_i  = GELU( W_self h_i + b + sum over e = (i <- j) of g_e * (W_msg h_j + b_msg) )    sum: only in the first image

It differs from `paper` in these points, with the numbers of docs/semantics.md, which compares each with the text:

1. The edge list of one graph indexes the flattened (B * N, D) states, so only the first image of a batch exchanges
   messages. For every other image the layer is a per-patch MLP.
2. A Delaunay edge is stored once, a < b, and read as a <- b, so only the lower index receives. (A window scaffold is
   stored in both directions.)
3. The budget, k * batch_size with k = floor(sparsity * N), is compared with the edges of that one graph. So no edge is
   pruned, unless sparsity or batch size is small.
4. A pruned score becomes 0, so its gate is sigmoid(b_gate), about one half.
5. The top-down pass refines all states except the last, but the readout reads the last. So the pass changes no output.
8. The budget is counted with the configured batch size, not with the size of the batch at hand.

Two points are not about the layer. Point 6, a dense hierarchy map that changes no number, is not reproduced
(top_down.py). Point 7, validation on the test set, is set in afmp/study/semantics.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from afmp.errors import AfmpError
from afmp.message_passing.layer import LayerOutput, prepare_layers, score_all_edges, sum_gated_messages
from afmp.message_passing.neighbours import Graph
from afmp.message_passing.weights import PackedLayer, map_nodes, split_off_own
from afmp.model.layer import Budget, Layer, add_model_axis, remove_model_axis
from afmp.model.linear import is_exporting
from afmp.model.paper import PCU, PaperLayer, PredictiveRouter  # the original notebook has the same PCU and router
from afmp.model.scaffold import both_directions, build_edges


class NotebookLayer(Layer):
    """One layer of `notebook`: messages in the first image of a batch."""

    reads_refined_states = False  # the readout reads the mean of the last layer's states

    def __init__(self, d_model: int, budget: Budget, *, predicts: bool) -> None:
        super().__init__(PredictiveRouter(d_model), PCU(d_model), budget, predicts=predicts)

    def forward(self, state: Tensor, graph: Graph, weights: PackedLayer | None = None) -> LayerOutput:
        """Update state (B, N, D), or (M, B, N, D) in a stack of models.

        weights: this layer's entry in the result of `prepare`; if it is None, the layer calls `prepare` for itself.
        """
        weights = weights or self.prepare([self], state, graph)[0]
        if weights is not None:  # a fast path: the same result from the same weights
            return remove_model_axis(self, self._fast(add_model_axis(self, state), graph, weights))

        tables = graph.neighbours  # node i has K slots: tables.nbr[i] are the senders j of its edges (i <- j)
        first = state[..., :1, :, :]
        scores = torch.where(tables.valid, self.router(first, tables, self.predicts), 0)  # (..., 1, N, K)
        listed = tables.valid.expand_as(scores)
        gate_scores = self._within_budget(scores, listed, graph, num_images=state.shape[-3])
        gates = self.router.gates(gate_scores) * listed[..., None]  # (..., 1, N, K, D)
        message = self.pcu.W_msg(first)  # (..., 1, N, D)
        heard = (gates * message[..., tables.nbr, :]).sum(dim=-2).to(message.dtype)
        silent = heard.new_zeros(*state.shape[:-3], state.shape[-3] - heard.shape[-3], *state.shape[-2:])
        new_state = self.pcu(state, torch.cat([heard, silent], dim=-3))
        gate_sum = gates.sum(dim=(-3, -2, -1))
        return LayerOutput(new_state, new_state.mean(dim=-2), scores, gate_scores, listed, gate_sum)

    prediction_errors = PaperLayer.prediction_errors

    def num_kept_edges(self, graph: Graph) -> int:
        """Return how many scores are kept in a full batch: in the original notebook's experiments, all E."""
        return self._kept_scores(graph, self.budget.batch_size) or len(graph.edge_slots)

    def _fast(self, state: Tensor, graph: Graph, weights: PackedLayer) -> LayerOutput:
        """Compute the same on state (M, B, N, D). One product applies all maps but W_self, to the first image only."""
        own_weight, own_bias, others = split_off_own(weights)
        _, message, scores = score_all_edges(state[:, :1], others, graph.neighbours)
        listed = graph.neighbours.valid.expand_as(scores)
        gate_scores = self._within_budget(scores, listed, graph, num_images=state.shape[1])
        heard, gate_sum = sum_gated_messages(message, gate_scores, listed, weights, graph.neighbours)
        own = map_nodes(state, own_weight, own_bias)
        new_state = F.gelu(torch.cat([own[:, :1] + heard, own[:, 1:]], dim=1))
        return LayerOutput(new_state, new_state.mean(dim=2), scores, gate_scores, listed, gate_sum)

    def _within_budget(self, scores: Tensor, listed: Tensor, graph: Graph, *, num_images: int) -> Tensor:
        """Return scores (..., 1, N, K), with 0 where they are below the threshold of a batch of `num_images`."""
        kept = self._kept_scores(graph, num_images)
        if not kept:
            return scores
        ranked = scores.detach().masked_fill(~listed, -torch.inf).flatten(-3)
        threshold = torch.topk(ranked, kept, sorted=False).values.amin(dim=-1)
        return torch.where(scores >= threshold[..., None, None, None], scores, 0)

    def _kept_scores(self, graph: Graph, num_images: int) -> int:
        """Return how many scores a batch of `num_images` keeps, or 0 if nothing is pruned."""
        if not self.budget.is_sparse:
            return 0
        if isinstance(num_images, torch.SymInt) and is_exporting():
            raise AfmpError(
                "'notebook' counts its budget with the size of the batch: export it with a fixed batch size"
            )
        nodes_per_graph = num_images * len(graph.neighbours.nbr) // self.budget.batch_size
        kept = int(self.budget.sparsity * nodes_per_graph) * self.budget.batch_size
        return kept if kept < len(graph.edge_slots) else 0

    @staticmethod
    def stored_edges(positions: Tensor, *, scaffold: str, window_size: int) -> Tensor:
        """Return the edge list (2, stored edges) of weights files: Delaunay edges once, window edges twice."""
        edge_index = build_edges(positions, scaffold=scaffold, window_size=window_size)
        return both_directions(edge_index) if scaffold == "window" or positions.shape[1] == 1 else edge_index

    @staticmethod
    def directed_edges(edge_index: Tensor) -> Tensor:
        """Return the directed edges (2, E), receiver first: the stored list itself, in its own order."""
        return edge_index

    @staticmethod
    def prepare(layers: list["NotebookLayer"], state: Tensor, graph: Graph) -> list[PackedLayer | None]:
        """Pack the weights of all layers for a pass over states like `state`; None for a layer on the plain path."""
        return prepare_layers(layers, state)
