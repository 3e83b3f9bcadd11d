"""Packing of the weights of all layers at once for the fused layer, and unpacking of their gradients.

Packing layer by layer launches about forty small kernels in the forward pass and a hundred in the backward pass. Each
takes far less time than its launch. One operator over all layers launches five and nine. It also folds U into the
query, in float32.
"""

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from afmp.message_passing.implementation import KEPT_FUSED
from afmp.message_passing.weights import (
    LayerParameters,
    Layout,
    PackedLayer,
    ScoreWeights,
    fold_queries,
    unfold_gradients,
)


def pack_layers(layers: list[LayerParameters], dtype: torch.dtype) -> list[PackedLayer]:
    """Pack the parameters of all layers. Gradients flow back to them. dtype: type of weight and bias."""
    first = layers[0]
    models, hidden, d_model = first.query.shape
    predicts = [layer.prediction is not None for layer in layers]
    # Sorted by kind, then by layer, so that u, query and query_bias of all layers form three batches of matrices.
    kinds = [[part for part in kind if part is not None] for kind in zip(*layers, strict=True)]
    weight, bias, edges = pack([part for kind in kinds for part in kind], predicts, dtype)
    layouts = [Layout(d_model, hidden, layer_predicts) for layer_predicts in predicts]
    weights = weight.split([models * layout.rows * d_model for layout in layouts])
    biases = bias.split([models * layout.rows for layout in layouts])
    pieces = edges.split([models * size for size in _edge_sizes(d_model, hidden)] * len(layers))
    packed = []
    for i, layout in enumerate(layouts):
        *score, gate_weight, gate_bias = (piece.view(models, -1) for piece in pieces[6 * i : 6 * i + 6])
        maps = weights[i].view(models, -1, d_model), biases[i].view(models, -1)
        packed.append(PackedLayer(*maps, ScoreWeights(*score), gate_weight, gate_bias, layout, KEPT_FUSED))
    return packed


def _edge_sizes(d_model: int, hidden: int) -> tuple[int, ...]:
    """Return the number of columns of w_error, w_dist, w_out, out_bias, gate_weight and gate_bias."""
    return hidden, hidden, hidden, 1, d_model, d_model


class _Offsets(NamedTuple):
    """Offsets in `flat`: all parameters one after another, followed by the folded queries and their biases.

    - rows (6, R) int64, with one column per packed row of the first model:
        0. the offset of its weight in `flat`
        1. the offset of its bias in `flat`, or -1 without a bias
        2. its row in the packed matrix
        3. the step of row 0 from one model to the next
        4. the step of row 1
        5. the step of row 2
    - edges (E,) int64: offsets of the weights that act on edges
    - factors: offsets of u, query and query_bias, and the end of query_bias
    - total: number of elements of all parameters
    """

    rows: Tensor
    edges: Tensor
    factors: tuple[int, int, int, int]
    total: int


@cache
def _offsets(models: int, d_model: int, hidden: int, predicts: tuple[bool, ...], device: torch.device) -> _Offsets:
    num_layers, num_predicting = len(predicts), sum(predicts)
    square, lines = d_model * d_model, hidden * d_model
    # Elements of each kind per model and layer, in the order of LayerParameters.
    sizes = dict(
        u=hidden * hidden, query=lines, query_bias=hidden, own=square, own_bias=d_model, prediction=square,
        prediction_bias=d_model, hidden=2 * lines + 2 * hidden, hidden_bias=hidden, key=lines, key_bias=hidden,
        message=square, message_bias=d_model, out=hidden, out_bias=1, gate=d_model, gate_bias=d_model,
        folded=lines, folded_bias=hidden,
    )  # fmt: skip
    begins, end = {}, 0
    for kind, size in sizes.items():
        begins[kind] = end
        end += models * size * (num_predicting if kind.startswith("prediction") else num_layers)

    def begin(kind: str, layer: int) -> int:
        if kind.startswith("prediction"):
            layer = sum(predicts[:layer])
        return begins[kind] + layer * models * sizes[kind]

    d, h = torch.arange(d_model), torch.arange(hidden)
    rows, edges, packed_rows = [], [], 0
    for layer, layer_predicts in enumerate(predicts):
        stride = 2 * d_model + 2  # elements per row of the hidden layer's weight
        # For each part of the layout: the kind of its weight, the offsets of its rows in it, and the kind of its bias.
        sources = {
            "own": ("own", d * d_model, "own_bias"),
            "prediction": ("prediction", d * d_model, "prediction_bias"),
            "query": ("folded", h * d_model, "folded_bias"),
            "receiver": ("hidden", h * stride, "hidden_bias"),
            "key": ("key", h * d_model, "key_bias"),
            "sender": ("hidden", h * stride + d_model, None),
            "message": ("message", d * d_model, "message_bias"),
        }
        layout, done = Layout(d_model, hidden, layer_predicts), 0
        for part, count in layout.parts.items():
            kind, starts, bias = sources[part]
            output = packed_rows + done + torch.arange(count)
            no_bias = torch.full((count,), -1)
            rows.append(
                torch.stack(
                    [
                        begin(kind, layer) + starts,
                        begin(bias, layer) + torch.arange(count) if bias else no_bias,
                        output,
                        torch.full((count,), sizes[kind]),
                        torch.full((count,), sizes[bias] if bias else 0),
                        torch.full((count,), layout.rows),
                    ]
                )
            )
            done += count
        packed_rows += models * layout.rows
        model = torch.arange(models)[:, None]
        for kind, columns in (
            ("hidden", h * stride + 2 * d_model),
            ("hidden", h * stride + 2 * d_model + 1),
            ("out", h),
            ("out_bias", h[:1]),
            ("gate", d),
            ("gate_bias", d),
        ):
            edges.append((begin(kind, layer) + model * sizes[kind] + columns).flatten())
    factors = tuple(begins[kind] for kind in ("u", "query", "query_bias", "own"))
    return _Offsets(torch.cat(rows, 1).to(device), torch.cat(edges).to(device), factors, begins["folded"])


def _factors(flat: Tensor, offsets: _Offsets, d_model: int, hidden: int) -> list[Tensor]:
    """Return views of u, query, query_bias, the folded query and its bias, one matrix per layer and model each."""
    shapes = ((-1, hidden, hidden), (-1, hidden, d_model), (-1, hidden, 1))
    parts = [flat[a:b].view(s) for a, b, s in zip(offsets.factors, offsets.factors[1:], shapes, strict=False)]
    lines = len(parts[0]) * hidden * d_model
    folded = flat[offsets.total :]
    return [*parts, folded[:lines].view(shapes[1]), folded[lines:].view(shapes[2])]


def _shape(parameters: list[Tensor], predicts: list[bool]) -> tuple[int, int, int]:
    """Return the number of models, D and H."""
    models, hidden, d_model = parameters[len(predicts)].shape  # the first query
    return models, d_model, hidden


@triton.jit
def pack_kernel(
    flat,  # (elements of all parameters and folded queries,) float32
    rows,  # (6, num_rows) int64, `_Offsets.rows`
    weight,  # (packed rows of all layers and models, D)
    bias,  # (packed rows of all layers and models,)
    num_rows, channels, BACKWARD: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per packed row and model: copy the row from `flat`; with BACKWARD, copy its gradient to `flat`."""
    row, model = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start = tl.load(rows + row) + model * tl.load(rows + 3 * num_rows + row)
    bias_start = tl.load(rows + num_rows + row)
    has_bias = bias_start >= 0
    bias_start += model * tl.load(rows + 4 * num_rows + row)
    packed = tl.load(rows + 2 * num_rows + row) + model * tl.load(rows + 5 * num_rows + row)
    d = tl.arange(0, BLOCK_D)
    live = d < channels
    if BACKWARD:
        tl.store(flat + start + d, tl.load(weight + packed * channels + d, mask=live).to(tl.float32), mask=live)
        tl.store(flat + bias_start, tl.load(bias + packed).to(tl.float32), mask=has_bias)
    else:
        weight_row = tl.load(flat + start + d, mask=live)
        tl.store(weight + packed * channels + d, weight_row.to(weight.dtype.element_ty), mask=live)
        bias_value = tl.load(flat + bias_start, mask=has_bias, other=0.0)
        tl.store(bias + packed, bias_value.to(bias.dtype.element_ty))


def _copy_rows(flat, offsets: _Offsets, weight, bias, models: int, d_model: int, *, backward: bool) -> None:
    num_rows = offsets.rows.shape[1]
    block = triton.next_power_of_2(d_model)
    pack_kernel[(num_rows, models)](
        flat, offsets.rows, weight, bias, num_rows, d_model,
        BACKWARD=backward, BLOCK_D=block, num_warps=max(1, min(8, block // 128)),
    )  # fmt: skip


@torch.library.custom_op("afmp::pack", mutates_args=())
def pack(parameters: list[Tensor], predicts: list[bool], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the packed weights, the packed biases and the weights that act on edges, each flat, layer by layer.

    parameters: those of all layers, sorted by kind and then by layer; predicts: one entry per layer.
    """
    models, d_model, hidden = _shape(parameters, predicts)
    offsets = _offsets(models, d_model, hidden, tuple(predicts), parameters[0].device)
    folded = len(predicts) * models * hidden * (d_model + 1)
    flat = parameters[0].new_empty(offsets.total + folded, dtype=torch.float32)
    torch.cat([parameter.reshape(-1).float() for parameter in parameters], out=flat[: offsets.total])
    u, query, query_bias, *folded_parts = _factors(flat, offsets, d_model, hidden)
    fold_queries(u, query, query_bias, out=folded_parts)
    rows = models * sum(Layout(d_model, hidden, layer_predicts).rows for layer_predicts in predicts)
    weight, bias = flat.new_empty(rows * d_model, dtype=dtype), flat.new_empty(rows, dtype=dtype)
    _copy_rows(flat, offsets, weight, bias, models, d_model, backward=False)
    return weight, bias, flat.index_select(0, offsets.edges)


@pack.register_fake
def _(parameters, predicts, dtype):
    models, d_model, hidden = _shape(parameters, predicts)
    rows = models * sum(Layout(d_model, hidden, layer_predicts).rows for layer_predicts in predicts)
    edges = models * len(predicts) * sum(_edge_sizes(d_model, hidden))
    packed = parameters[0].new_empty(rows * d_model, dtype=dtype), parameters[0].new_empty(rows, dtype=dtype)
    return *packed, parameters[0].new_empty(edges, dtype=torch.float32)


@torch.library.custom_op("afmp::pack_backward", mutates_args=())
def pack_backward(
    d_weight: Tensor, d_bias: Tensor, d_edges: Tensor, factors: list[Tensor], predicts: list[bool], total: int
) -> Tensor:
    """Return the gradients of all parameters (`total` elements), flat, followed by those of the folded queries.

    factors: u, query and query_bias of all layers, sorted by kind and then by layer.
    """
    models, d_model, hidden = _shape(factors, predicts)
    offsets = _offsets(models, d_model, hidden, tuple(predicts), d_weight.device)
    num_layers = len(predicts)
    flat = d_edges.new_empty(offsets.total + num_layers * models * hidden * (d_model + 1))
    _copy_rows(flat, offsets, d_weight.contiguous(), d_bias.contiguous(), models, d_model, backward=True)
    flat.index_copy_(0, offsets.edges, d_edges)
    u, query, query_bias = (
        torch.cat(factors[start : start + num_layers]).float() for start in range(0, 3 * num_layers, num_layers)
    )
    *gradients, d_folded, d_folded_bias = _factors(flat, offsets, d_model, hidden)
    unfold_gradients(u, query, query_bias[..., None], d_folded, d_folded_bias, out=gradients)
    return flat


@pack_backward.register_fake
def _(d_weight, d_bias, d_edges, factors, predicts, total):
    models, d_model, hidden = _shape(factors, predicts)
    return d_edges.new_empty(total + len(predicts) * models * hidden * (d_model + 1))


def _save(ctx, inputs, output):
    parameters, predicts, _ = inputs
    ctx.save_for_backward(*parameters[: 3 * len(predicts)])
    ctx.predicts = predicts
    ctx.kinds = [(parameter.shape, parameter.dtype) for parameter in parameters]


def _backward(ctx, d_weight, d_bias, d_edges):
    sizes = [shape.numel() for shape, _ in ctx.kinds]
    factors = list(ctx.saved_tensors)
    flat = pack_backward(d_weight, d_bias, d_edges, factors, ctx.predicts, sum(sizes))
    parts = flat[: sum(sizes)].split(sizes)
    return [part.view(shape).to(dtype) for part, (shape, dtype) in zip(parts, ctx.kinds, strict=True)], None, None


pack.register_autograd(_backward, setup_context=_save)
