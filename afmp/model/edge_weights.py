"""The weights of `refined` that act on edges, as its fast paths read them: of all layers at once."""

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afmp.message_passing.autocast import without_autocast
from afmp.message_passing.neighbours import Graph
from afmp.model.layer import per_model


class EdgeWeights(NamedTuple):
    """The weights of one layer that act on edges, in float32 or wider, with a model axis in front.

    kernel c and gate_bias b_gate + o (M, T, D); gate_weight (M, D); error (M, r), or None if err_e is 0; direction
    W_f delta + b_f (M, T, r); out (M, r); out_bias (M, 1). T is the number of different offsets.
    """

    kernel: Tensor
    gate_bias: Tensor
    gate_weight: Tensor
    error: Tensor | None
    direction: Tensor
    out: Tensor
    out_bias: Tensor


def edge_weights(layers: Sequence[nn.Module], graph: Graph) -> list[EdgeWeights]:
    """Return the weights of some layers that act on edges, for the offsets of `graph`."""
    if not layers:
        return []

    def joined(name: str, dim: int) -> Tensor:
        """Return a parameter of `dim` dimensions of all layers, (L, M, ...)."""
        parts = torch.stack([per_model(attrgetter(name)(layer), dim) for layer in layers])
        return parts.to(torch.promote_types(parts.dtype, torch.float32))

    def mapped(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return inputs @ weight.mT + bias[..., None, :]

    error, delta = joined("router.W_f.weight", 2).split([1, 2], dim=-1)
    with without_autocast(delta):
        offsets = graph.offsets.to(delta.dtype)
        hidden = F.relu(mapped(offsets, joined("directions.hidden.weight", 2), joined("directions.hidden.bias", 1)))
        # Two products, so that each result has its rows one after another.
        out = zip(
            joined("directions.out.weight", 2).chunk(2, -2), joined("directions.out.bias", 1).chunk(2, -1), strict=True
        )
        kernel, offset = (mapped(hidden, weight, bias) for weight, bias in out)
        gate_bias = offset + joined("router.W_gate.bias", 1)[..., None, :]
        direction = mapped(offsets, delta, joined("router.W_f.bias", 1))
    gate_weight, out_weight = joined("router.W_gate.weight", 2).squeeze(-1), joined("router.w.weight", 2).squeeze(-2)
    parts = (kernel, gate_bias, gate_weight, error.squeeze(-1), direction, out_weight, joined("router.w.bias", 1))
    weights = [EdgeWeights(*row) for row in zip(*parts, strict=True)]
    return [
        each if layer.router.predicts else each._replace(error=None)
        for layer, each in zip(layers, weights, strict=True)
    ]
