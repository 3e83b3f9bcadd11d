"""The predictive router: the score and the gate of every edge (original notebook, "Predictive Router")."""

import torch
from torch import Tensor, nn

from afmp.message_passing.neighbours import Neighbours
from afmp.model.linear import Linear

ROUTING_WIDTH = 64  # H: width of queries and keys, and of v's hidden layer


class PredictiveRouter(nn.Module):
    """The router of one layer, for states of `d_model` channels. In a stack its tensors have a model axis in front.

    s_e = (W_q h_i + b_q)^T U (W_k h_j + b_k) + v([h_i ; h_j ; err_e ; dist_e])      of the edge e = (i <- j)
    g_e = sigmoid(W_gate s_e + b_gate)                                               one gate per channel
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.W_pred = Linear(d_model, d_model)
        self.W_q = Linear(d_model, ROUTING_WIDTH)
        self.W_k = Linear(d_model, ROUTING_WIDTH)
        self.U = nn.Parameter(torch.randn(ROUTING_WIDTH, ROUTING_WIDTH) * 0.02)
        self.v = nn.Sequential(Linear(2 * d_model + 2, ROUTING_WIDTH), nn.ReLU(), Linear(ROUTING_WIDTH, 1))
        self.W_gate = Linear(1, d_model)

    def forward(self, state: Tensor, error: Tensor, tables: Neighbours) -> Tensor:
        """Score all slots, (..., N, K), from state (..., N, D) and the prediction error (..., N, K, 1) of each slot."""
        h_j = state[..., tables.nbr, :]  # (..., N, K, D): the senders
        h_i = state[..., :, None, :].expand_as(h_j)  # the receivers
        dist = tables.dist[..., None].to(state.dtype).expand_as(error)
        u = self.U if self.U.dim() == 2 else self.U[:, None]  # (M, 1, H, H) in a stack
        query, key = self.W_q(state) @ u.to(state.dtype), self.W_k(state)[..., tables.nbr, :]
        bilinear = (query[..., :, None, :] * key).sum(dim=-1)
        return bilinear + self.v(torch.cat([h_i, h_j, error, dist], dim=-1)).squeeze(-1)

    def gates(self, scores: Tensor) -> Tensor:
        """Return the gates (..., D) of edges with `scores` (...)."""
        return torch.sigmoid(self.W_gate(scores[..., None]))
