"""A whole layer that keeps k edges per image, in PyTorch: the path of a CPU, with its gradient written out.

It computes the same layer as `kept_edges.fused`, from weights in the same packed order. All edges are scored once,
without a gradient, one block of edges at a time. A pruned edge has no gradient. So all products of the backward pass
except those with `own` have k rows per image and not N.

Sizes: M models, B images per model, N nodes per image, E edges, D channels, H hidden units of v.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from afmp.message_passing.autocast import without_autocast
from afmp.message_passing.neighbours import Neighbours
from afmp.message_passing.selection import top_k_indices
from afmp.message_passing.weights import map_rows

# The rows computed for this many edges fit into a core's cache, up to 512 channels.
EDGES_PER_BLOCK = 1024
# Up to this many pairs of nodes per edge, query . key is computed for all pairs of an image.
MAX_PAIRS_PER_EDGE = 4


class KeptEdgesLayer(torch.autograd.Function):
    """One layer on state (M, B, N, D) with the parts of a PackedLayer. edge_slots (E,) must be ascending.

    Returns the new state (M, B, N, D), its mean over nodes (M, B, D) and the sum of all gates per image (M, B), which
    have gradients; and scores (M, B, E) and the indices of the kept edges (M, B, k), which have none. There is no
    second derivative. Apply it outside autocast.
    """

    @staticmethod
    def forward(
        ctx, state, own, own_bias, message, message_bias, prediction, prediction_bias, weight, bias,
        w_error, w_dist, w_out, out_bias, gate_weight, gate_bias, tables: Neighbours, edge_slots: Tensor, k: int,
    ):  # fmt: skip
        models, images, nodes, d_model = state.shape
        wide = w_out.dtype
        state = state.contiguous()
        receiver, sender = edge_slots // tables.nbr.shape[1], tables.nbr.take(edge_slots)
        lengths = tables.dist.take(edge_slots).to(wide)
        rows = state.flatten(1, 2)  # of all nodes of all images
        incoming, outgoing = map_rows(rows, weight, bias).chunk(2, dim=2)  # [query | receiver], [key | sender]
        ends = None  # (M, 2, B * N, D): the states, and what they predict of their neighbours
        if prediction is not None:
            ends = torch.stack([rows, map_rows(rows, prediction, prediction_bias)], dim=1).to(wide)
        score_weights = (w_error, w_dist, w_out)
        few_pairs = nodes * nodes <= MAX_PAIRS_PER_EDGE * len(edge_slots)
        score = _score_pairs if few_pairs else _score_all
        scores = score(incoming, outgoing, ends, score_weights, (receiver, sender), lengths, nodes)
        scores += out_bias[:, :, None]

        # kept (M, B, k): indices of the kept edges. receiver_rows, sender_rows (M * B * k,): the rows of their ends
        # among all nodes of all models.
        kept = top_k_indices(scores, k)
        first_node = torch.arange(0, models * images * nodes, nodes, device=state.device).view(models, images, 1)
        receiver_rows, sender_rows = ((end.take(kept) + first_node).flatten() for end in (receiver, sender))
        sending = rows.view(-1, d_model).index_select(0, sender_rows)
        predicted = None
        if ends is not None:
            predicted = ends[:, 1].flatten(0, 1).index_select(0, receiver_rows).to(state.dtype)
        incoming = incoming.flatten(0, 1).index_select(0, receiver_rows)
        outgoing = outgoing.flatten(0, 1).index_select(0, sender_rows)
        messages = map_rows(sending.view(models, -1, d_model), message, message_bias)
        score = scores.gather(2, kept).view(models, -1, 1)
        gates = _gates(score, gate_weight, gate_bias)
        heard = (gates * messages).flatten(0, 1)
        total = map_rows(rows, own, own_bias).to(wide)  # the input of GELU: gated messages are added to it in place
        total.view(-1, d_model).scatter_add_(0, receiver_rows[:, None].expand_as(heard), heard)
        new_state = F.gelu(total).to(state.dtype).view(state.shape)

        weights = (own, message, prediction, weight, *score_weights, gate_weight, gate_bias)
        edges = (score, messages, predicted, incoming, outgoing, lengths.take(kept), receiver_rows, sender_rows)
        ctx.save_for_backward(state, *weights, *edges, total.to(state.dtype))
        ctx.mark_non_differentiable(scores, kept)
        ctx.set_materialize_grads(False)
        return new_state, new_state.mean(dim=2), gates.view(models, images, k * d_model).sum(dim=2), scores, kept

    @staticmethod
    @once_differentiable
    def backward(ctx, d_new_state, d_mean, d_gate_sum, *_):
        saved = ctx.saved_tensors  # read once: a recomputed layer (torch.utils.checkpoint) has each tensor once
        with without_autocast(saved[0]):
            return *_gradients(saved, d_new_state, d_mean, d_gate_sum), None, None, None


def _gradients(saved, d_new_state, d_mean, d_gate_sum) -> tuple[Tensor | None, ...]:
    """Return the gradients of the inputs of KeptEdgesLayer from state to gate_bias, in its order."""
    state, own, message, prediction, weight, w_error, w_dist, w_out, gate_weight, gate_bias, *edges, total = saved
    score, messages, predicted, incoming, outgoing, length, receiver_rows, sender_rows = edges
    models, images, nodes, d_model = state.shape
    wide, narrow = w_out.dtype, weight.dtype
    rows, num_edges, hidden = state.view(-1, d_model), messages.shape[1], w_out.shape[1]

    if d_new_state is None:
        d_new_state = torch.zeros_like(state)
    if d_mean is not None:
        d_new_state = torch.add(d_new_state, d_mean[:, :, None], alpha=1 / nodes)
    d_total = torch.ops.aten.gelu_backward(d_new_state.reshape(total.shape), total)

    # Gradients at the kept edges, (M, edges, .) each. Their sums over a model's edges are the gradients of its weights.
    gates = _gates(score, gate_weight, gate_bias)
    d_heard = d_total.view(-1, d_model).index_select(0, receiver_rows).view(messages.shape).to(wide)
    d_gates = d_heard * messages
    if d_gate_sum is not None:
        d_gates.view(models, images, messages[0].numel() // max(1, images)).add_(d_gate_sum[..., None])
    d_logit = torch.ops.aten.sigmoid_backward(d_gates, gates)
    d_gate_weight, d_gate_bias = torch.bmm(score.mT, d_logit)[:, 0], d_logit.sum(dim=1)
    d_score = torch.bmm(d_logit, gate_weight[..., None])  # (M, edges, 1)

    incoming, outgoing = (part.view(models, num_edges, 2 * hidden).to(wide) for part in (incoming, outgoing))
    (query, receiver), (key, sender) = incoming.chunk(2, dim=-1), outgoing.chunk(2, dim=-1)
    received, sent = (rows.index_select(0, end).view(messages.shape) for end in (receiver_rows, sender_rows))
    features, columns = length.view(models, num_edges, 1), w_dist[:, None]
    if prediction is not None:
        # The negative of the surprise in the other files: it has the sign of the prediction's gradient.
        surprise = predicted.view(messages.shape).to(wide) - sent
        error = torch.linalg.vector_norm(surprise, dim=-1, keepdim=True)
        features, columns = torch.cat([error, features], dim=-1), torch.stack([w_error, w_dist], dim=1)
    units = (receiver + sender).baddbmm_(features, columns).relu_()
    d_out = torch.bmm(d_score.mT, units)[:, 0]
    d_units = torch.ops.aten.threshold_backward(d_score * w_out[:, None], units, 0)
    d_columns = torch.bmm(features.mT, d_units)
    d_incoming, d_outgoing = (torch.cat([d_score * part, d_units], dim=-1).to(narrow) for part in (key, query))
    d_messages = (d_heard * gates).to(narrow)

    # d_received and d_sent reach the states at the ends of the kept edges.
    incoming_weight, outgoing_weight = weight.chunk(2, dim=1)
    d_received = _product(d_incoming, incoming_weight)
    d_sent = _product(d_messages, message) + _product(d_outgoing, outgoing_weight)
    d_error, d_prediction, d_prediction_bias = torch.zeros_like(w_error), None, None
    if prediction is not None:
        d_error = d_columns[:, 0]
        slope = torch.bmm(d_units, w_error[..., None]) / error
        surprise *= torch.where(error > 0, slope, 0)  # the derivative of the norm at zero is 0
        d_predicted = surprise.to(narrow)
        d_received = d_received + _product(d_predicted, prediction)
        d_sent = d_sent - surprise
        d_prediction, d_prediction_bias = _weight_gradient(d_predicted, received), d_predicted.sum(dim=1)
    d_state = _product(d_total, own).to(wide)
    d_nodes = d_state.view(-1, d_model)
    for end_rows, gradient in ((receiver_rows, d_received), (sender_rows, d_sent)):
        gradient = gradient.flatten(0, 1).to(wide)
        d_nodes.scatter_add_(0, end_rows[:, None].expand_as(gradient), gradient)

    d_maps = (
        *(_weight_gradient(d_total, rows.view(total.shape)), d_total.sum(dim=1)),
        *(_weight_gradient(d_messages, sent), d_messages.sum(dim=1)),
        *(d_prediction, d_prediction_bias),
        torch.cat([_weight_gradient(d_incoming, received), _weight_gradient(d_outgoing, sent)], dim=1),
        torch.cat([d_incoming.sum(dim=1), d_outgoing.sum(dim=1)], dim=1),
    )
    d_edges = (d_error, d_columns[:, -1], d_out, d_score.sum(dim=1), d_gate_weight, d_gate_bias)
    return d_state.to(state.dtype).view(state.shape), *d_maps, *d_edges


def _end_rows(edge_ends: tuple[Tensor, Tensor], nodes: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the rows of receivers and senders (B * E,) of all images among `count` rows, from those of one image."""
    first_node = torch.arange(0, count, nodes, device=edge_ends[0].device)[:, None]
    receiver, sender = ((first_node + end).flatten() for end in edge_ends)
    return receiver, sender


class _Surprise:
    """The norms of h_j - p_i, the sender's state minus the receiver's prediction, for blocks of edges."""

    def __init__(self, receiver: Tensor, sender: Tensor, rows: int, like: Tensor) -> None:
        self._pairs = torch.stack([sender, receiver + rows], dim=1)
        self._signs = like.new_tensor([1.0, -1.0]).expand(len(self._pairs), 2).contiguous()

    def errors(self, both: Tensor, edges: slice) -> Tensor:
        """Return the norms of `edges`; both (2, rows, D): the states, and below them the predictions.

        They are not computed as |h|^2 - 2 h.p + |p|^2, which loses digits where h and p are close.
        """
        # One pass over memory: a sum of two signed rows per edge.
        signs, pairs = self._signs[edges], self._pairs[edges]
        surprise = F.embedding_bag(pairs, both.flatten(0, 1), mode="sum", per_sample_weights=signs)
        return torch.linalg.vector_norm(surprise, dim=1)


def _score_all(incoming, outgoing, ends, score_weights, edge_ends, lengths, nodes: int) -> Tensor:
    """Return the scores (M, B, E) of all edges without their bias, one block of edges at a time.

    incoming [query | receiver] and outgoing [key | sender] (M, B * N, 2H), the mapped nodes; ends (M, 2, B * N, D),
    states and predictions, or None without an error; score_weights: w_error, w_dist, w_out (M, H); edge_ends: receiver
    and sender (E,) int64; lengths (E,) in pixels.
    """
    models, count, _ = incoming.shape
    hidden, wide, images = score_weights[2].shape[1], lengths.dtype, count // nodes
    receiver, sender = _end_rows(edge_ends, nodes, count)
    surprise = None if ends is None else _Surprise(receiver, sender, count, ends)
    lengths = lengths.repeat(images)
    scores = lengths.new_empty(models, len(receiver))
    sources = incoming.to(wide), outgoing.to(wide)
    # Allocated once: getting new memory from the system costs more than writing to it.
    buffers = [lengths.new_empty(min(EDGES_PER_BLOCK, len(receiver)), 2 * hidden) for _ in sources]
    for model in range(models):
        columns = torch.stack([part[model] for part in score_weights[1 if ends is None else 0 : 2]])
        ones_out = torch.cat([torch.ones_like(columns[0]), score_weights[2][model]])
        for first in range(0, len(receiver), EDGES_PER_BLOCK):
            edges = slice(first, first + EDGES_PER_BLOCK)
            receivers, senders, length = receiver[edges], sender[edges], lengths[edges]
            received, sent = (
                torch.index_select(source[model], 0, end, out=buffer[: len(end)])
                for source, end, buffer in zip(sources, (receivers, senders), buffers, strict=True)
            )
            features = length[:, None]
            if surprise is not None:
                features = torch.stack([surprise.errors(ends[model], edges), length], dim=1)
            received[:, :hidden].mul_(sent[:, :hidden])
            received[:, hidden:].add_(sent[:, hidden:]).addmm_(features, columns).relu_()
            torch.mv(received, ones_out, out=scores[model, edges])
    return scores.view(models, images, len(edge_ends[0]))


def _score_pairs(incoming, outgoing, ends, score_weights, edge_ends, lengths, nodes: int) -> Tensor:
    """Return the same scores as `_score_all`, faster where an image has few nodes.

    There the products query . key of all pairs of nodes cost less than gathering a query and a key for every edge.
    """
    models, count, _ = incoming.shape
    w_error, w_dist, w_out = score_weights
    hidden, wide, num_edges, images = w_out.shape[1], lengths.dtype, len(lengths), count // nodes
    (query, receiving), (key, sending) = (part.to(wide).split(hidden, dim=-1) for part in (incoming, outgoing))
    query, key = (part.reshape(models * images, nodes, hidden) for part in (query, key))
    pair = edge_ends[0] * nodes + edge_ends[1]
    scores = lengths.new_empty(models, images, num_edges)
    flat = scores.view(models, images * num_edges)
    torch.index_select(torch.bmm(query, key.mT).flatten(1), 1, pair, out=scores.view(models * images, num_edges))
    # Images per block. Blocks are as equal as possible; the last one may have fewer.
    block = max(1, -(-images // max(1, round(images * num_edges / EDGES_PER_BLOCK))))
    receiver, sender = _end_rows(edge_ends, nodes, count)
    surprise = None if ends is None else _Surprise(receiver, sender, count, ends)
    # Allocated once: getting new memory from the system costs more than writing to it.
    buffers = [lengths.new_empty(min(block, images) * num_edges, hidden) for _ in range(2)]
    features = lengths.new_zeros(len(buffers[0]), 2)
    features.view(-1, num_edges, 2)[..., 1] = lengths
    for model in range(models):
        columns = torch.stack([w_error[model], w_dist[model]])
        for first in range(0, len(receiver), block * num_edges):
            edges = slice(first, first + block * num_edges)
            units, senders = (
                torch.index_select(part[model], 0, end[edges], out=buffer[: len(end[edges])])
                for part, end, buffer in zip((receiving, sending), (receiver, sender), buffers, strict=True)
            )
            error_and_length = features[: len(units)]
            if surprise is not None:
                error_and_length[:, 0] = surprise.errors(ends[model], edges)
            units.add_(senders).addmm_(error_and_length, columns).relu_()
            flat[model, edges].addmv_(units, w_out[model])
    return scores


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return the product of left (M, R, in) and right (M, in, out) of each model."""
    if len(left) == 1:  # libraries are fastest with a plain product
        return torch.mm(left[0], right[0])[None]
    return torch.bmm(left, right)


def _weight_gradient(gradient: Tensor, source: Tensor) -> Tensor:
    """Return the gradient (M, out, in) of a map's weight, gradient^T source, of (M, R, out) and (M, R, in)."""
    return _product(gradient.mT, source)


def _gates(score: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the gates (M, edges, D) of the kept edges from their scores (M, edges, 1)."""
    return torch.baddbmm(bias[:, None], score, weight[:, None]).sigmoid_()
