"""The weights of a layer: its parameters by name, and the same packed into one matrix for the fast paths.

This module alone knows the row layout of the packed matrix, how it is split, and how U is folded into the query.
H is the width of queries, keys and the hidden layer of v; M counts models (1, or more in a stack).

Three words that all paths use, for an edge i <- j:

- own: W_self h_i + b, the part of a node's update that needs no message
- heard: the sum of the gated messages that a node receives
- surprise: the sender's state h_j minus the receiver's prediction of it, or the pair of both; the norm of the
  difference is the error
"""

from collections.abc import Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from afmp.message_passing.autocast import without_autocast

# Parts of the packed matrix from top to bottom. Paths over all edges map every node to every part. Paths over kept
# edges map only the senders of kept edges to messages, so there `message` is the last part. Both orders are fixed:
# the order of a product's columns decides how its gradient is rounded.
ALL_EDGES = ("own", "message", "query", "receiver", "key", "sender", "prediction")
KEPT_EDGES = ("own", "prediction", "query", "receiver", "key", "sender", "message")
# The parts with H rows. The path of a CPU packs no others: it reads the maps with D rows where they are, because
# copying them in each pass takes as long as some of its products.
NARROW = ("query", "receiver", "key", "sender")

# Groups of neighbouring parts that are split off together.
INCOMING = ("query", "receiver")  # contribution of the receiver to the score of an edge
OUTGOING = ("key", "sender")  # contribution of the sender
RECEIVING = ("prediction", *INCOMING)


class LayerParameters(NamedTuple):
    """The parameters of one layer. Every tensor has a model axis M in front.

    - u (M, H, H); query, key (M, H, D) with biases (M, H)
    - own, message, prediction (M, D, D) with biases (M, D); prediction is None in the first layer
    - hidden (M, H, 2D + 2), columns [receiver | sender | error | dist], bias (M, H); out (M, 1, H), bias (M, 1)
    - gate (M, D, 1), bias (M, D)
    """

    u: Tensor
    query: Tensor
    query_bias: Tensor
    own: Tensor
    own_bias: Tensor
    prediction: Tensor | None
    prediction_bias: Tensor | None
    hidden: Tensor
    hidden_bias: Tensor
    key: Tensor
    key_bias: Tensor
    message: Tensor
    message_bias: Tensor
    out: Tensor
    out_bias: Tensor
    gate: Tensor
    gate_bias: Tensor


class Layout(NamedTuple):
    """Rows of a packed matrix (M, rows, D): its parts from top to bottom, and how many rows each has."""

    d_model: int
    hidden: int
    predicts: bool
    order: tuple[str, ...] = KEPT_EDGES

    @property
    def parts(self) -> dict[str, int]:
        """The rows of each part, in order. The first layer has no prediction."""
        wide = ("own", "message", "prediction")
        names = [name for name in self.order if self.predicts or name != "prediction"]
        return {name: self.d_model if name in wide else self.hidden for name in names}

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return sum(self.parts.values())

    def sizes(self, *groups: str | tuple[str, ...]) -> list[int]:
        """Return the rows of consecutive parts or groups of parts, for `Tensor.split`; 0 for a missing prediction."""
        parts = self.parts
        return [sum(parts.get(name, 0) for name in ((group,) if isinstance(group, str) else group)) for group in groups]


class ScoreWeights(NamedTuple):
    """The weights of v that act on edges, one row per model.

    - error, dist (M, H): the columns of the first layer for the error and the distance
    - out (M, H), out_bias (M, 1): the last layer
    """

    error: Tensor
    dist: Tensor
    out: Tensor
    out_bias: Tensor


class WideMaps(NamedTuple):
    """The maps of D to D channels that are not packed: weights (M, D, D), biases (M, D).

    prediction is None in the first layer.
    """

    own: Tensor
    own_bias: Tensor
    message: Tensor
    message_bias: Tensor
    prediction: Tensor | None
    prediction_bias: Tensor | None


class PackedLayer(NamedTuple):
    """The weights of one layer, packed for the path that computes it.

    - weight (M, rows, D), bias (M, rows): the maps of nodes, in the order of `layout`
    - score; gate_weight, gate_bias (M, D): the weights that act on edges, in float32 or wider
    - path: one of the paths in implementation.py, except `plain`
    - wide: the maps that are not packed; None if all are
    """

    weight: Tensor
    bias: Tensor
    score: ScoreWeights
    gate_weight: Tensor
    gate_bias: Tensor
    layout: Layout
    path: str
    wide: WideMaps | None = None


def pack_layer(parameters: LayerParameters, *, path: str, order: Sequence[str], dtype: torch.dtype) -> PackedLayer:
    """Pack the parameters of one layer. Gradients flow back to them.

    order: the parts to be packed, from top to bottom; dtype: type of weights and biases of nodes.
    """
    d_model, hidden = parameters.key.shape[-1], parameters.key.shape[-2]
    layout = Layout(d_model, hidden, parameters.prediction is not None, tuple(order))
    query = fold_query(parameters.u, parameters.query, parameters.query_bias)
    receiver, sender, error, dist = parameters.hidden.split([d_model, d_model, 1, 1], dim=-1)
    maps = {
        "own": (parameters.own, parameters.own_bias),
        "message": (parameters.message, parameters.message_bias),
        "prediction": (parameters.prediction, parameters.prediction_bias),
        "query": (query[..., :-1], query[..., -1]),
        "receiver": (receiver, parameters.hidden_bias),
        "key": (parameters.key, parameters.key_bias),
        "sender": (sender, torch.zeros_like(parameters.hidden_bias)),  # the hidden bias is the receiver's
    }
    weight, bias = (torch.cat([maps[name][i] for name in layout.parts], dim=1) for i in (0, 1))
    wide = torch.promote_types(parameters.u.dtype, torch.float32)
    edges = (error[..., 0], dist[..., 0], parameters.out[:, 0], parameters.out_bias)
    gate_weight, gate_bias = parameters.gate[..., 0], parameters.gate_bias
    *score, gate_weight, gate_bias = (part.to(wide) for part in (*edges, gate_weight, gate_bias))
    wide_maps = None
    if layout.order == NARROW:
        parts = (getattr(parameters, name) for name in WideMaps._fields)
        wide_maps = WideMaps(*(None if part is None else part.to(dtype) for part in parts))
    maps = weight.to(dtype), bias.to(dtype)
    return PackedLayer(*maps, ScoreWeights(*score), gate_weight, gate_bias, layout, path, wide_maps)


def split_off_own(packed: PackedLayer) -> tuple[Tensor, Tensor, PackedLayer]:
    """Return weight and bias of the part `own`, which is the first, and the layer packed without it."""
    others = packed.layout.order[1:]
    rows = packed.layout.sizes("own", others)
    (own_weight, weight), (own_bias, bias) = (part.split(rows, dim=1) for part in (packed.weight, packed.bias))
    layout = packed.layout._replace(order=others)
    return own_weight, own_bias, packed._replace(weight=weight, bias=bias, layout=layout)


def fold_query(u: Tensor, query: Tensor, query_bias: Tensor) -> Tensor:
    """Return u^T [query | query_bias], (M, H, D + 1): (W_q h + b)^T U k is then a product of two H-wide vectors.

    The product is computed once per step, in full precision, without autocast and TF32.
    """
    # float64 is used where float32 products would be computed in TF32. torch.compile can trace this switch.
    wide = torch.float64 if u.is_cuda and torch.backends.cuda.matmul.allow_tf32 else u.dtype
    with without_autocast(u):
        both = torch.cat([query, query_bias[..., None]], dim=-1)
        return (u.mT.to(wide) @ both.to(wide)).to(u.dtype)


def fold_queries(u: Tensor, query: Tensor, query_bias: Tensor, *, out: tuple[Tensor, Tensor]) -> None:
    """Write u^T query and u^T query_bias of many layers and models into `out`, outside autograd.

    u (L, H, H), query (L, H, D), query_bias (L, H, 1), float32; L: layers times models.
    """
    with _full_precision(u):
        torch.bmm(u.mT, query, out=out[0])
        torch.bmm(u.mT, query_bias, out=out[1])


def unfold_gradients(
    u: Tensor, query: Tensor, query_bias: Tensor, d_folded: Tensor, d_folded_bias: Tensor, *, out: Sequence[Tensor]
) -> None:
    """Write the gradients of u, query and query_bias into `out`, from those of the results of `fold_queries`."""
    d_u, d_query, d_query_bias = out
    with _full_precision(u):
        torch.bmm(query, d_folded.mT, out=d_u)
        d_u.baddbmm_(query_bias, d_folded_bias.mT)
        torch.bmm(u, d_folded, out=d_query)
        torch.bmm(u, d_folded_bias, out=d_query_bias)


@contextmanager
def _full_precision(tensor: Tensor):
    """Compute products in float32, without autocast and TF32. It costs little, because U is folded once per step."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with without_autocast(tensor):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def map_nodes(state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Map nodes (M, B, N, D) by weight (M, rows, D) and bias (M, rows) in one product: (M, B, N, rows)."""
    if len(weight) == 1:  # libraries are fastest with a plain product
        return F.linear(state, weight[0], bias[0])
    mapped = torch.bmm(state.flatten(1, -2), weight.mT).view(*state.shape[:-1], weight.shape[1])
    return mapped + bias[:, None, None].to(mapped.dtype)


def map_rows(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Map rows (M, R, D) by weight (M, out, D) and bias (M, out): (M, R, out)."""
    if len(weight) == 1:  # libraries are fastest with a plain product
        return torch.addmm(bias[0], rows[0], weight[0].t())[None]
    return torch.baddbmm(bias[:, None], rows, weight.mT)
