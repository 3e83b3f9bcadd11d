"""The perceptual capsule unit: the update of every node (original notebook, "Core AFMP Components")."""

import torch.nn.functional as F
from torch import Tensor, nn

from afmp.model.linear import Linear


class PCU(nn.Module):
    """The capsules of one layer, for states of `d_model` channels.

    h'_i = GELU( W_self h_i + b + heard_i ),    heard_i = sum over e = (i <- j) of g_e * (W_msg h_j + b_msg)
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.W_self = Linear(d_model, d_model)
        self.W_msg = Linear(d_model, d_model)

    def forward(self, state: Tensor, heard: Tensor) -> Tensor:
        """Update state (..., N, D) by heard (..., N, D), the sum of the gated messages that each node receives."""
        return F.gelu(self.W_self(state) + heard)
