"""How a node changes: the perceptual capsule unit and the top-down refinement (seed, "Core AFMP Components").

h'_i = GELU( W_self h_i + b + sum over e = (i <- j) of g_e * (W_msg h_j + b_msg) )
r_l  = h_l + W_t^l (P_l r_{l+1})        P_l: the hierarchy map, from nodes of layer l to their parents
"""

import torch
from torch import Tensor, nn

from afmp.message_passing.weights import LinearMap, linear_map, map_nodes


class PCU(nn.Module):
    """Weights of one layer's capsules, for states of `d_model` channels."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.W_self = nn.Linear(d_model, d_model)
        self.W_msg = nn.Linear(d_model, d_model)

    def maps(self) -> tuple[LinearMap, LinearMap]:
        """What a node makes of itself, and what it has to say to others, D -> D both."""
        return linear_map(self.W_self), linear_map(self.W_msg)


class TopDownAggregator(nn.Module):
    """One step of the refinement: what a layer's nodes take from their parents in the layer above."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.W_t = nn.Linear(d_model, d_model)

    def forward(self, lower: Tensor, higher: Tensor) -> Tensor:
        """lower (M, B, n_low, D) refined by higher (M, B, n_high, D): (M, B, n_low, D)."""
        return lower + map_nodes(_parent_states(higher, lower.shape[2]), [linear_map(self.W_t)])[0]


def hierarchy_map(n_low: int, n_high: int) -> Tensor:
    """Parent (n_low,) int64 of every lower node among `n_high` higher ones; -1 where there is none.

    Each parent has n_low // n_high children in a row, the last takes what is left over. With fewer children
    than parents, or no parents, nobody has one: the seed's map is then all zeros.
    """
    ratio = n_low // n_high if n_high else 0
    if ratio == 0:
        return torch.full((n_low,), -1)
    return (torch.arange(n_low) // ratio).clamp(max=n_high - 1)


def _parent_states(higher: Tensor, n_low: int) -> Tensor:
    n_high = higher.shape[2]
    if n_low == n_high:
        return higher  # the identity, as between all layers of one image size: never built
    if n_low < n_high or n_high == 0:
        return higher.new_zeros(*higher.shape[:2], n_low, higher.shape[3])
    return higher.index_select(2, hierarchy_map(n_low, n_high).to(higher.device))
