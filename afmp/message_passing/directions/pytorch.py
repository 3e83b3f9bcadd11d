"""Edge scores and gated sums with a kernel for each direction, in PyTorch, with their gradients written out.

This is the path of a CPU. It visits the edges in blocks that fit into a core's cache. The forward passes save inputs of
the nodes' size and scalars per edge, so the backward passes compute hidden units and gates again. On a CPU `index_add_`
adds in the order of the edges: the same inputs give the same bits. Sums are in float32 or wider. Gradients have the
inputs' types.

Sizes: M models, B images per model, N nodes per image, K slots per node, E edges, T offsets (the first is that of a
node to itself), D channels, r channels of the router.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afmp.message_passing.autocast import without_autocast
from afmp.message_passing.neighbours import Graph
from afmp.message_passing.traced import returned

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
    return _EdgeScores.apply(mapped, error, direction, out, out_bias, graph.edge_slots, *_ends(graph))


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
    return _DirectedSum.apply(nodes, scores, keep, kernel, gate_weight, gate_bias, graph.edge_slots, *_ends(graph))


def _ends(graph: Graph) -> tuple[int, Tensor, Tensor, Tensor]:
    """Return K, and receiver, sender and offset of each edge, (E,) int64."""
    nbr, slots = graph.neighbours.nbr, graph.edge_slots
    return nbr.shape[1], slots // nbr.shape[1], nbr.take(slots), graph.offset_index.take(slots)


def _of_slots(slots: Tensor, edge_slots: Tensor) -> Tensor:
    """Return the values of the edges, (M, B, E), of slots (M, B, N, K)."""
    return slots.flatten(2).index_select(2, edge_slots)


def _to_slots(values: Tensor, edge_slots: Tensor, nodes: int, slots_per_node: int) -> Tensor:
    """Return slots (M, B, N, K) with the values (M, B, E) of the edges, 0 in the others."""
    slots = values.new_zeros(*values.shape[:2], nodes * slots_per_node)
    slots[..., edge_slots] = values
    return slots.view(*values.shape[:2], nodes, slots_per_node)


def _chunks(ends: tuple[Tensor, Tensor, Tensor], images: int, channels: int) -> Iterator[tuple]:
    """Return the blocks in which all edges are visited: chunks of edges, and for each the images in groups.

    Each is (slice of edges; receiver, sender and offset of these edges; slices of images).
    """
    rows, count = max(1, ELEMENTS_PER_BLOCK // channels), len(ends[0])
    edges_each = max(1, min(count, rows))
    images_each = max(1, rows // edges_each)
    images_each = -(-images // max(1, -(-images // images_each)))  # the same number of groups, but equal ones
    groups = [slice(first, first + images_each) for first in range(0, images, images_each or 1)]
    for first in range(0, count, edges_each):
        edges = slice(first, first + edges_each)
        yield edges, *(end[edges] for end in ends), groups


def _at(nodes: Tensor, images: slice, ends: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the rows (M, images, ends, C) of nodes (M, B, N, C), in the memory of `out` if it is given."""
    rows = nodes[:, images]
    return torch.index_select(rows, 2, ends, out=None if out is None else out[:, : rows.shape[1]])


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
    def forward(ctx, mapped, error, direction, out, out_bias, edge_slots, slots_per_node, *ends):
        ctx.save_for_backward(mapped, error, direction, out, out_bias, edge_slots, *ends)
        with without_autocast(mapped):
            wide = torch.promote_types(mapped.dtype, torch.float32)
            receiving, sending = _wide(mapped.chunk(2, dim=-1), wide)
            error, direction, out, out_bias = _wide((error, direction, out, out_bias), wide)
            rank = out.shape[-1]
            columns = torch.cat([torch.full_like(out, rank**-0.5), out], dim=-1)
            scores = receiving.new_empty(*receiving.shape[:2], len(ends[0]))
            for edges, receiver, sender, offset, groups in _chunks(ends, mapped.shape[1], mapped.shape[-1] // 2):
                directions = _of_edges(direction, offset)
                for images in groups:
                    received, sent = _at(receiving, images, receiver), _at(sending, images, sender)
                    _compute_hidden(received, sent, error, directions)
                    received[..., :rank].mul_(sent[..., :rank])
                    scores[:, images, edges] = _times(received[..., : 2 * rank], columns)  # [q * k | hidden units]
            scores += out_bias[..., None]
        return _to_slots(scores, edge_slots, mapped.shape[2], slots_per_node)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_slots):
        *inputs, edge_slots, receiver, sender, offset = ctx.saved_tensors
        d_scores = _of_slots(d_slots, edge_slots)
        with without_autocast(d_scores):
            wide = _score_gradients(d_scores, *inputs[:-1], (receiver, sender, offset))
        d_bias = d_scores.sum(dim=(1, 2))[:, None]
        narrow = [None if d is None else d.to(x.dtype) for d, x in zip((*wide, d_bias), inputs, strict=True)]
        return *narrow, None, None, None, None, None


def _score_gradients(d_scores, mapped, error, direction, out, ends) -> tuple[Tensor | None, ...]:
    """Return the gradients of mapped, error, direction and out, from d_scores (M, B, E)."""
    receiving, sending = _wide(mapped.chunk(2, dim=-1), d_scores.dtype)
    error, direction, out = _wide((error, direction, out), d_scores.dtype)
    rank = out.shape[-1]
    d_receiving, d_sending = torch.zeros_like(receiving), torch.zeros_like(sending)
    d_direction, d_out = torch.zeros_like(direction), torch.zeros_like(out)
    d_error = None if error is None else torch.zeros_like(error)
    for edges, receiver, sender, offset, groups in _chunks(ends, mapped.shape[1], mapped.shape[-1] // 2):
        directions = _of_edges(direction, offset)
        d_directions = torch.zeros_like(directions[:, 0])
        for images in groups:
            received, sent = _at(receiving, images, receiver), _at(sending, images, sender)
            size = _compute_hidden(received, sent, error, directions)
            (q, units, surprise), (k, b, z) = (part.split(rank, dim=-1) for part in (received, sent))
            d_score = d_scores[:, images, edges]
            d_out += _weighted_sum(d_score, units)
            d_units = torch.ops.aten.threshold_backward(d_score[..., None] * _row(out), units, 0)
            d_directions += d_units.sum(dim=1)
            # From here on `received` and `sent` become their own gradients.
            d_product = d_score[..., None] * rank**-0.5
            d_key = q * d_product
            q.copy_(k).mul_(d_product)
            k.copy_(d_key)
            units.copy_(d_units)
            b.copy_(d_units)
            if error is None:
                surprise.zero_()
            else:
                d_error += _weighted_sum(size, d_units)
                slope = torch.where(size > 0, _times(d_units, error) / (size * rank), 0)
                surprise.mul_(slope[..., None])
            z.copy_(surprise).neg_()
            d_receiving[:, images].index_add_(2, receiver, received)
            d_sending[:, images].index_add_(2, sender, sent)
        d_direction.index_add_(1, offset, d_directions)
    return torch.cat([d_receiving, d_sending], dim=-1), d_error, d_direction, d_out


def _compute_hidden(received: Tensor, sent: Tensor, error: Tensor | None, directions: Tensor) -> Tensor | None:
    """Replace a in `received` [q | a | p] by the hidden units, and p by p - z; return err (M, B, E) of the edges.

    received and sent [k | b | z] are (M, B, E, 3r), directions (M, 1, E, r). Without `error` p stays, and the result
    is None.
    """
    _, units, prediction = received.chunk(3, dim=-1)
    _, b, z = sent.chunk(3, dim=-1)
    units.add_(b).add_(directions)
    size = None
    if error is not None:
        size = torch.linalg.vector_norm(prediction.sub_(z), dim=-1).mul_(z.shape[-1] ** -0.5)
        units.addcmul_(size[..., None], _row(error))
    units.relu_()
    return size


class _DirectedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, nodes, scores, keep, kernel, gate_weight, gate_bias, edge_slots, slots_per_node, *ends):
        ctx.save_for_backward(nodes, scores, keep, kernel, gate_weight, gate_bias, edge_slots, *ends)
        ctx.set_materialize_grads(False)
        score = _of_slots(scores, edge_slots)
        kept = None if keep is None else _of_slots(keep, edge_slots)
        with without_autocast(nodes):
            sent, kernel, weight, bias = _wide((nodes, kernel, gate_weight, gate_bias), score.dtype)
            total = sent * (1 + kernel[:, None, :1])
            gate_sum = score.new_zeros(score.shape[:2])
            for edges, receiver, sender, offset, groups in _chunks(ends, *nodes.shape[1::2]):
                kernels, biases = _of_edges(kernel, offset), _of_edges(bias, offset)
                first, second = _buffers(2, sent, receiver, groups)
                for images in groups:
                    gates = _gates(score[:, images, edges], weight, biases, first)
                    if kept is not None:
                        gates *= kept[:, images, edges, None]
                    gate_sum[:, images] += gates.sum(dim=(2, 3))
                    messages = _at(sent, images, sender, second).mul_(kernels).mul_(gates)
                    total[:, images].index_add_(2, receiver, messages)
        return returned(total.to(nodes.dtype)), returned(gate_sum)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_total, d_gate_sum):
        nodes, scores, keep, *inputs, edge_slots, receiver, sender, offset = ctx.saved_tensors
        score = _of_slots(scores, edge_slots)
        kept = None if keep is None else _of_slots(keep, edge_slots)
        d_total = torch.zeros_like(nodes) if d_total is None else d_total
        with without_autocast(nodes):
            d_nodes, d_score, *wide = _sum_gradients(
                d_total, d_gate_sum, nodes, score, kept, *inputs, (receiver, sender, offset)
            )
        narrow = [d.to(x.dtype) for d, x in zip(wide, inputs, strict=True)]
        d_scores = _to_slots(d_score, edge_slots, *scores.shape[2:])
        return d_nodes.to(nodes.dtype), d_scores, None, *narrow, None, None, None, None, None


def _sum_gradients(d_total, d_gate_sum, nodes, score, kept, kernel, weight, bias, ends) -> tuple[Tensor, ...]:
    """Return the gradients of nodes, score, kernel, weight and bias."""
    sent, d_total, kernel, weight, bias = _wide((nodes, d_total, kernel, weight, bias), score.dtype)
    d_nodes = d_total * (1 + kernel[:, None, :1])
    d_score = torch.empty_like(score)
    d_kernel, d_weight, d_bias = (torch.zeros_like(part) for part in (kernel, weight, bias))
    d_kernel[:, 0] = (d_total * sent).sum(dim=(1, 2))
    for edges, receiver, sender, offset, groups in _chunks(ends, *nodes.shape[1::2]):
        kernels, biases = _of_edges(kernel, offset), _of_edges(bias, offset)
        d_kernels, d_biases = (torch.zeros_like(part[:, 0]) for part in (kernels, biases))
        first, second, third = _buffers(3, sent, receiver, groups)
        for images in groups:
            block_score = score[:, images, edges]
            gates = _gates(block_score, weight, biases, first)
            heard = _at(d_total, images, receiver, second)
            if kept is not None:
                heard *= kept[:, images, edges, None]  # over a pruned edge nothing was heard
            products = _at(sent, images, sender, third).mul_(heard).mul_(gates)
            d_kernels += products.sum(dim=1)
            d_logit = products.mul_(kernels)  # of the gate, times the gate
            if d_gate_sum is not None:
                d_gate = d_gate_sum[:, images, None, None]
                d_logit.addcmul_(gates, d_gate if kept is None else d_gate * kept[:, images, edges, None])
            d_logit.addcmul_(d_logit, gates, value=-1)  # times 1 - gate
            d_score[:, images, edges] = _times(d_logit, weight)
            d_weight += _weighted_sum(block_score, d_logit)
            d_biases += d_logit.sum(dim=1)
            d_nodes[:, images].index_add_(2, sender, heard.mul_(gates).mul_(kernels))
        d_kernel.index_add_(1, offset, d_kernels)
        d_bias.index_add_(1, offset, d_biases)
    return d_nodes, d_score, d_kernel, d_weight, d_bias


def _gates(score: Tensor, weight: Tensor, biases: Tensor, out: Tensor) -> Tensor:
    """Return the gates (M, B, E, D) of edges with scores (M, B, E) and biases (M, 1, E, D), in the memory of `out`."""
    return torch.addcmul(biases, score[..., None], _row(weight), out=out[:, : score.shape[1]]).sigmoid_()


def _buffers(number: int, like: Tensor, edges: Tensor, groups: list[slice]) -> list[Tensor]:
    """Return memory for blocks (M, images, edges, C), which all groups of images share: fresh memory is slow."""
    images = groups[0].stop - groups[0].start if groups else 0
    return [like.new_empty(len(like), images, len(edges), like.shape[-1]) for _ in range(number)]
