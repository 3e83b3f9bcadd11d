"""Top-down refinement: the states of each layer refined by those of the layer above, from the last layer to the first.

    r_{L-1} = h_{L-1},    r_l = h_l + W_t^l (P_l r_{l+1}) + b_t^l    for l = L-2 ... 0

P_l, the hierarchy map, gives each node of layer l the state of its parent in layer l + 1 (docs/semantics.md).
"""

import torch
from torch import Tensor, nn

from afmp.model.linear import Linear, has_hooks, is_linear


class TopDownAggregator(nn.Module):
    """One step of the refinement: each node adds a linear map of its parent's state.

    `AFMP._pool` applies it to the means over nodes, unless a step has a hook or was replaced.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.W_t = Linear(d_model, d_model)

    def forward(self, lower: Tensor, higher: Tensor) -> Tensor:
        """Refine lower (..., n_low, D) by higher (..., n_high, D): (..., n_low, D)."""
        return lower + self.W_t(_parent_states(higher, lower.shape[-2]))


def refine(aggregators: nn.ModuleList, states: list[Tensor]) -> list[Tensor]:
    """Refine the states (..., n, D) of all layers, the last first. Without aggregators they do not change."""
    refined = list(states)
    for index in reversed(range(len(aggregators))):
        refined[index] = aggregators[index](states[index], refined[index + 1])
    return refined


def is_linear_refinement(step: nn.Module) -> bool:
    """Return True if a step is a TopDownAggregator whose map was not replaced, and nothing in it has a hook."""
    return type(step) is TopDownAggregator and is_linear(step.W_t) and not has_hooks(step)


def hierarchy_map(n_low: int, n_high: int) -> Tensor:
    """Return the parent (n_low,) int64 of every lower node among `n_high` higher ones; -1 where there is none.

    Each parent has n_low // n_high consecutive children, and the last parent has the remainder too. With fewer children
    than parents, or without parents, no child has a parent: the original notebook's map is then all zeros.
    """
    ratio = n_low // n_high if n_high else 0
    if ratio == 0:
        return torch.full((n_low,), -1)
    return (torch.arange(n_low) // ratio).clamp(max=n_high - 1)


def _parent_states(higher: Tensor, n_low: int) -> Tensor:
    n_high = higher.shape[-2]
    if n_low == n_high:
        return higher  # P_l is the identity, as between all layers of AFMP; it is never built as a matrix
    if n_low < n_high or n_high == 0:
        return higher.new_zeros(*higher.shape[:-2], n_low, higher.shape[-1])
    return higher.index_select(-2, hierarchy_map(n_low, n_high).to(higher.device))
