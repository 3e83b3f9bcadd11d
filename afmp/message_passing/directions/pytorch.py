"""Edge scores and gated sums with a kernel for each direction, in PyTorch: the path of a CPU, with written-out gradients.

The edges are visited in blocks that fit into a core's cache. The forward passes save inputs of the nodes' size and
scalars per edge, so the backward passes compute hidden units and gates again. On a CPU `index_add_` adds in the order of
the edges: the same inputs give the same bits. Sums are in float32 or wider. Gradients have the inputs' types.

Sizes: M models, B images per model, N nodes per image, K slots per node, E edges, T offsets (the first is that of a
node to itself), D channels, r channels of the router.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afmp.message_passing.neighbours import Graph

ELEMENTS_PER_BLOCK = 1 << 19


def edge_scores(
    mapped: Tensor, graph: Graph, *, error: Tensor | None, direction: Tensor, out: Tensor, out_bias: Tensor
) -> Tensor:
    """Return the scores (M, B, N, K) of all slots, float32 or wider; 0 in slots that are not valid.

        s(i <- j) = q_i . k_j / sqrt(r) + out . relu(a_i + b_j + error * err + direction(offset of the edge)) + out_bias
        err       = || z_j - p_i ||_2 / sqrt(r), with derivative 0 at zero

    mapped (M, B, N, 6r) is [q | a | p | k | b | z]; error (M, r), or None if err is 0; direction (M, T, r); out (M, r);
    out_bias (M, 1).
    """
    slots = _EdgeScores.apply(mapped, error, direction, out, out_bias, *_ends(graph))
    scores = slots.new_zeros(*mapped.shape[:2], graph.neighbours.nbr.numel()).index_copy(2, graph.edge_slots, slots)
    return scores.view(*mapped.shape[:3], graph.neighbours.nbr.shape[1])


def directed_sum(
    nodes: Tensor,
    graph: Graph,
    *,
    scores: Tensor,
    keep: Tensor | None,
    kernel: Tensor,
    gate_weight: Tensor,
    gate_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return each node with the gated sum of what it hears, and the sum of all gates per image.

        g(i <- j) = sigmoid(gate_weight * s(i <- j) + gate_bias(offset)) on kept edges, exactly 0 on the others
        u_i       = (1 + kernel(0)) * n_i + sum over i <- j of g(i <- j) * kernel(offset) * n_j       (M, B, N, D)
        total     = sum over edges and channels of g                                                 (M, B)

    nodes n (M, B, N, D); scores s (M, B, N, K); keep (M, B, N, K) bool, false in slots that are not valid, or None if
    all edges are kept; kernel and gate_bias (M, T, D); gate_weight (M, D). The first result has the type of nodes, the
    second is float32 or wider.
    """
    score, kept = (None if part is None else part.flatten(2)[..., graph.edge_slots] for part in (scores, keep))
    return _DirectedSum.apply(nodes, score, kept, kernel, gate_weight, gate_bias, *_ends(graph))


def _ends(graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
    """Return receiver, sender and offset of each edge, (E,) int64."""
    nbr, slots = graph.neighbours.nbr, graph.edge_slots
    return slots // nbr.shape[1], nbr.take(slots), graph.offset_index.take(slots)


def _blocks(images: int, edges: int, channels: int) -> Iterator[tuple[slice, slice]]:
    """Return the blocks, images by edges, in which all edges are visited."""
    rows = max(1, ELEMENTS_PER_BLOCK // channels)
    edges_each = max(1, min(edges, rows))
    images_each = max(1, rows // edges_each)
    for first_edge in range(0, edges, edges_each):
        for first_image in range(0, images, images_each):
            yield slice(first_image, first_image + images_each), slice(first_edge, first_edge + edges_each)


def _at(nodes: Tensor, images: slice, ends: Tensor) -> Tensor:
    """Return the rows (M, images, ends, C) of nodes (M, B, N, C)."""
    return nodes[:, images].index_select(2, ends)


def _of_edges(table: Tensor, offset: Tensor) -> Tensor:
    """Return the row of each edge, (M, 1, edges, C), of a table (M, T, C)."""
    return table.index_select(1, offset)[:, None]


def _wide(tensors, dtype: torch.dtype) -> list[Tensor | None]:
    return [None if tensor is None else tensor.to(dtype).contiguous() for tensor in tensors]


def _row(weights: Tensor) -> Tensor:
    return weights[:, None, None]  # (M, 1, 1, C): one row per model, for all its edges


def _times(rows: Tensor, column: Tensor) -> Tensor:
    """Return the product (M, B, E) of each model's rows (M, B, E, C) and its column (M, C)."""
    return torch.bmm(rows.flatten(1, 2), column[..., None]).view(rows.shape[:3])


def _weighted_sum(weight: Tensor, rows: Tensor) -> Tensor:
    """Return the sum (M, C) over images and edges of weight (M, B, E) * rows (M, B, E, C)."""
    return torch.bmm(weight.reshape(len(rows), 1, -1), rows.flatten(1, 2))[:, 0]


class _EdgeScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mapped, error, direction, out, out_bias, receiver, sender, offset):
        ctx.save_for_backward(mapped, error, direction, out, out_bias, receiver, sender, offset)
        with torch.autocast(mapped.device.type, enabled=False):
            wide = torch.promote_types(mapped.dtype, torch.float32)
            receiving, sending = _wide(mapped.chunk(2, dim=-1), wide)
            error, direction, out, out_bias = _wide((error, direction, out, out_bias), wide)
            scores = receiving.new_empty(*receiving.shape[:2], len(receiver))
            for images, edges in _blocks(mapped.shape[1], len(receiver), mapped.shape[-1]):
                units, products, _, _ = _hidden(
                    _at(receiving, images, receiver[edges]), _at(sending, images, sender[edges]),
                    error, direction, offset[edges],
                )  # fmt: skip
                scores[:, images, edges] = _times(units, out) + products
            return scores.add_(out_bias[..., None])

    @staticmethod
    @once_differentiable
    def backward(ctx, d_scores):
        *inputs, receiver, sender, offset = ctx.saved_tensors
        mapped = inputs[0]
        with torch.autocast(d_scores.device.type, enabled=False):
            receiving, sending = _wide(mapped.chunk(2, dim=-1), d_scores.dtype)
            error, direction, out, _ = _wide(inputs[1:], d_scores.dtype)
            rank = out.shape[-1]
            d_receiving, d_sending = torch.zeros_like(receiving), torch.zeros_like(sending)
            d_direction, d_out = torch.zeros_like(direction), torch.zeros_like(out)
            d_error = None if error is None else torch.zeros_like(error)
            for images, edges in _blocks(mapped.shape[1], len(receiver), mapped.shape[-1]):
                ends = receiver[edges], sender[edges]
                received, sent = _at(receiving, images, ends[0]), _at(sending, images, ends[1])
                units, _, surprise, size = _hidden(received, sent, error, direction, offset[edges])
                d_score = d_scores[:, images, edges]
                d_out += _weighted_sum(d_score, units)
                d_units = torch.ops.aten.threshold_backward(d_score[..., None] * _row(out), units, 0)
                d_direction.index_add_(1, offset[edges], d_units.sum(dim=1))
                d_product = d_score[..., None] / rank**0.5
                d_query, d_key = d_product * sent[..., :rank], d_product * received[..., :rank]
                if error is None:
                    d_latent = torch.zeros_like(d_units)
                else:
                    d_error += _weighted_sum(size, d_units)
                    slope = torch.where(size > 0, _times(d_units, error) / (size * rank), 0)
                    d_latent = surprise.mul_(slope[..., None])
                d_received = torch.cat([d_query, d_units, -d_latent], dim=-1)
                d_sent = torch.cat([d_key, d_units, d_latent], dim=-1)
                d_receiving[:, images].index_add_(2, ends[0], d_received)
                d_sending[:, images].index_add_(2, ends[1], d_sent)
            d_mapped = torch.cat([d_receiving, d_sending], dim=-1)
            d_bias = d_scores.sum(dim=(1, 2))[:, None]
        wide = (d_mapped, d_error, d_direction, d_out, d_bias)
        narrow = [None if d is None else d.to(x.dtype) for d, x in zip(wide, inputs, strict=True)]
        return *narrow, None, None, None


def _hidden(received: Tensor, sent: Tensor, error: Tensor | None, direction: Tensor, offset: Tensor):
    """Return the hidden units (M, B, E, r), q . k / sqrt(r) (M, B, E), z - p (M, B, E, r) and err (M, B, E) of edges.

    received [q | a | p] and sent [k | b | z] are (M, B, E, 3r). Without `error` the last two are None.
    """
    rank = direction.shape[-1]
    q, a, p = received.split(rank, dim=-1)
    k, b, z = sent.split(rank, dim=-1)
    units = (a + b).add_(_of_edges(direction, offset))
    surprise = size = None
    if error is not None:
        surprise = z - p
        size = torch.linalg.vector_norm(surprise, dim=-1) / rank**0.5
        units.addcmul_(size[..., None], _row(error))
    return units.relu_(), (q * k).sum(dim=-1) / rank**0.5, surprise, size


class _DirectedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, nodes, score, kept, kernel, gate_weight, gate_bias, receiver, sender, offset):
        ctx.save_for_backward(nodes, score, kept, kernel, gate_weight, gate_bias, receiver, sender, offset)
        ctx.set_materialize_grads(False)
        with torch.autocast(nodes.device.type, enabled=False):
            sent, kernel, weight, bias = _wide((nodes, kernel, gate_weight, gate_bias), score.dtype)
            total = sent * (1 + kernel[:, None, :1])
            gate_sum = score.new_zeros(score.shape[:2])
            for images, edges in _blocks(nodes.shape[1], len(receiver), nodes.shape[-1]):
                gates = _gates(score[:, images, edges], weight, bias, offset[edges])
                if kept is not None:
                    gates *= kept[:, images, edges, None]
                gate_sum[:, images] += gates.sum(dim=(2, 3))
                messages = _at(sent, images, sender[edges]).mul_(_of_edges(kernel, offset[edges])).mul_(gates)
                total[:, images].index_add_(2, receiver[edges], messages)
        return total.to(nodes.dtype), gate_sum

    @staticmethod
    @once_differentiable
    def backward(ctx, d_total, d_gate_sum):
        nodes, score, kept, *inputs, receiver, sender, offset = ctx.saved_tensors
        d_total = torch.zeros_like(nodes) if d_total is None else d_total
        with torch.autocast(nodes.device.type, enabled=False):
            sent, d_total, kernel, weight, bias = _wide((nodes, d_total, *inputs), score.dtype)
            d_nodes = d_total * (1 + kernel[:, None, :1])
            d_score = torch.empty_like(score)
            d_kernel, d_weight, d_bias = (torch.zeros_like(part) for part in (kernel, weight, bias))
            d_kernel[:, 0] = (d_total * sent).sum(dim=(1, 2))
            for images, edges in _blocks(nodes.shape[1], len(receiver), nodes.shape[-1]):
                block_score = score[:, images, edges]
                gates, kernels = _gates(block_score, weight, bias, offset[edges]), _of_edges(kernel, offset[edges])
                heard = _at(d_total, images, receiver[edges])  # a pruned edge has heard nothing
                if kept is not None:
                    heard *= kept[:, images, edges, None]
                products = _at(sent, images, sender[edges]).mul_(heard)
                d_kernel.index_add_(1, offset[edges], (products * gates).sum(dim=1))
                d_gates = products.mul_(kernels)
                if d_gate_sum is not None:
                    d_gate = d_gate_sum[:, images, None, None]
                    d_gates += d_gate if kept is None else d_gate * kept[:, images, edges, None]
                d_logit = torch.ops.aten.sigmoid_backward(d_gates, gates)
                d_score[:, images, edges] = _times(d_logit, weight)
                d_weight += _weighted_sum(block_score, d_logit)
                d_bias.index_add_(1, offset[edges], d_logit.sum(dim=1))
                d_nodes[:, images].index_add_(2, sender[edges], heard.mul_(gates).mul_(kernels))
        narrow = [d.to(x.dtype) for d, x in zip((d_kernel, d_weight, d_bias), inputs, strict=True)]
        return d_nodes.to(nodes.dtype), d_score, None, *narrow, None, None, None


def _gates(score: Tensor, weight: Tensor, bias: Tensor, offset: Tensor) -> Tensor:
    """Return the gates (M, B, E, D) of edges with scores (M, B, E), kept or not."""
    return torch.addcmul(_of_edges(bias, offset), score[..., None], _row(weight)).sigmoid_()
