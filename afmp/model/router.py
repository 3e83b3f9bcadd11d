"""How much each edge carries: the predictive router (seed, "Predictive Router").

A receiver predicts each sender's state from its own; how far off it is, err, is part of the score:

    err_e = || h_j - (W_pred p_i + b_pred) ||_2      p: the previous layer's output; none in the first layer
    s_e   = (W_q h_i)^T U (W_k h_j) + v([h_i ; h_j ; err_e ; dist_e])
    g_e   = sigmoid(W_gate s_e + b_gate)             on kept edges e = (i <- j), one gate a channel

Every linear map is taken on nodes, where v's first layer falls apart into a receiver's part, a sender's part
and one column each for err and dist. To score all edges, no tensor of all edges x channels is then kept.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afmp.message_passing.weights import LinearMap, ScoreWeights, fold_query, linear_map, per_model

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

    def maps(self, *, predicts: bool) -> tuple[LinearMap, LinearMap, LinearMap | None]:
        """Of receivers, D -> [query | receiver]; of senders, D -> [key | sender]; and, if `predicts`, D -> D.

        Both first ones are 2 * ROUTING_WIDTH wide.
        """
        query, key, hidden = linear_map(self.W_q), linear_map(self.W_k), linear_map(self.v[0])
        d_model = self.W_pred.in_features
        # U goes into the query, (W_q h + b_q)^T U: both stay ROUTING_WIDTH wide.
        folded = fold_query(per_model(self.U, 2), query.weight, query.bias)
        receiver_weight, sender_weight = hidden.weight[..., : 2 * d_model].split(d_model, dim=-1)
        incoming = LinearMap(
            torch.cat([folded[..., :-1], receiver_weight], dim=1), torch.cat([folded[..., -1], hidden.bias], dim=1)
        )
        outgoing = LinearMap(torch.cat([key.weight, sender_weight], dim=1), F.pad(key.bias, (0, ROUTING_WIDTH)))
        return incoming, outgoing, linear_map(self.W_pred) if predicts else None

    def score_weights(self) -> ScoreWeights:
        """The columns of err and dist in v's first layer, and v's last layer."""
        error, dist = per_model(self.v[0].weight, 2)[..., -2:].unbind(dim=-1)
        out = linear_map(self.v[2])
        return ScoreWeights(error, dist, out.weight[:, 0], out.bias)

    def gate_weights(self) -> tuple[Tensor, Tensor]:
        """Weight and bias (M, D) of the gates."""
        gate = linear_map(self.W_gate)
        return gate.weight[..., 0], gate.bias

    def gates(self, scores: Tensor, keep: Tensor) -> Tensor:
        """The gates themselves, (M, B, E, D), of edges with `scores` and `keep` (M, B, E): only to be looked at."""
        weight, bias = (parameter[:, None, None] for parameter in self.gate_weights())
        return torch.sigmoid(scores[..., None] * weight + bias) * keep[..., None]
