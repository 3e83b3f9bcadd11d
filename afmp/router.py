"""How much each edge carries: the predictive router (seed, "Predictive Router").

A receiver predicts each sender's state from its own; how far off it is, err, is part of the score:

    err_e = || h_j - (W_pred p_i + b_pred) ||_2      p: the previous layer's output; none in the first layer
    s_e   = (W_q h_i)^T U (W_k h_j) + v([h_i ; h_j ; err_e ; dist_e])
    g_e   = sigmoid(W_gate s_e + b_gate)             on kept edges e = (i <- j), one gate a channel

Every linear map is taken on nodes, where v's first layer falls apart into a receiver's part, a sender's part
and one column each for err and dist. An edge then costs a few scalars, and no tensor of edges x channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afmp.message_passing import Neighbours, ScoreWeights, edge_scores, gated_sum

ROUTING_WIDTH = 64  # of queries and keys, and of v's hidden layer


class PredictiveRouter(nn.Module):
    """The router of one layer, for states of `d_model` channels."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.W_pred = nn.Linear(d_model, d_model)
        self.W_q = nn.Linear(d_model, ROUTING_WIDTH)
        self.W_k = nn.Linear(d_model, ROUTING_WIDTH)
        self.U = nn.Parameter(torch.randn(ROUTING_WIDTH, ROUTING_WIDTH) * 0.02)
        self.v = nn.Sequential(nn.Linear(2 * d_model + 2, ROUTING_WIDTH), nn.ReLU(), nn.Linear(ROUTING_WIDTH, 1))
        self.W_gate = nn.Linear(1, d_model)

    def node_maps(self, *, predicts: bool) -> list[tuple[Tensor, Tensor]]:
        """(weight, bias) of the maps taken on nodes, for `map_nodes`; `scores` wants what they give.

        [query | receiver] and [key | sender], 2 * ROUTING_WIDTH wide each, and, if `predicts`, the prediction.
        """
        # U goes into the query, (W_q h + b_q)^T U: both stay ROUTING_WIDTH wide. Folded once a step, in full
        # precision.
        with torch.autocast(self.U.device.type, enabled=False):
            query_weight, query_bias = self.U.t() @ self.W_q.weight, self.U.t() @ self.W_q.bias
        receiver_weight, sender_weight, _, _ = self._first_layer_of_v()
        incoming = torch.cat([query_weight, receiver_weight]), torch.cat([query_bias, self.v[0].bias])
        outgoing = torch.cat([self.W_k.weight, sender_weight]), F.pad(self.W_k.bias, (0, ROUTING_WIDTH))
        return [incoming, outgoing, (self.W_pred.weight, self.W_pred.bias)][: 3 if predicts else 2]

    def scores(self, mapped: list[Tensor], state: Tensor, tables: Neighbours) -> Tensor:
        """Scores (B, N, K) from state (B, N, D) and what `node_maps` made of it; err is 0 without a prediction."""
        incoming, outgoing, *prediction = mapped
        _, _, error, dist = self._first_layer_of_v()
        weights = ScoreWeights(error[:, 0], dist[:, 0], self.v[2].weight[0], self.v[2].bias)
        surprise = {"state": state, "prediction": prediction[0]} if prediction else {}
        return edge_scores(incoming, outgoing, weights, tables, **surprise)

    def gated_sum(self, message: Tensor, scores: Tensor, keep: Tensor, tables: Neighbours) -> tuple[Tensor, Tensor]:
        """Messages (B, N, D) summed at their receivers under this router's gates, and all gates' sum (B,)."""
        return gated_sum(message, scores, keep, self.W_gate.weight[:, 0], self.W_gate.bias, tables)

    def gates(self, scores: Tensor, keep: Tensor) -> Tensor:
        """The gates themselves, (B, E, D), of edges with `scores` and `keep` (B, E): only to be looked at."""
        logit = scores[..., None] * self.W_gate.weight[:, 0] + self.W_gate.bias
        return torch.sigmoid(logit) * keep[..., None]

    def _first_layer_of_v(self) -> tuple[Tensor, ...]:
        d_model = self.W_pred.in_features
        return self.v[0].weight.split([d_model, d_model, 1, 1], dim=1)


def map_nodes(state: Tensor, maps: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """All linear `maps`, (weight, bias) each, of state (B, N, D) in one matrix product: a (B, N, width) each."""
    weights, biases = zip(*maps, strict=True)
    mapped = F.linear(state, torch.cat(weights), torch.cat(biases))
    return list(mapped.split([len(weight) for weight in weights], dim=-1))
