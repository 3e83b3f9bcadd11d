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
from afmp.message_passing.weights import OUTGOING, RECEIVING, Layout, map_rows

# The rows gathered for this many edges fit into a core's cache, at 128 channels.
EDGES_PER_BLOCK = 2048
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
        ctx, state, weight, bias, w_error, w_dist, w_out, out_bias, gate_weight, gate_bias,
        tables: Neighbours, edge_slots: Tensor, k: int, layout: Layout,
    ):  # fmt: skip
        models, images, nodes, d_model = state.shape
        wide = w_out.dtype
        state = state.contiguous()
        receiver, sender = edge_slots // tables.nbr.shape[1], tables.nbr.take(edge_slots)
        lengths = tables.dist.take(edge_slots).to(wide)
        (received,) = layout.sizes(RECEIVING)
        groups = layout.sizes("own", (*RECEIVING, *OUTGOING), "message")
        own, mapped, message = weight.split(groups, dim=1)
        own_bias, mapped_bias, message_bias = bias.split(groups, dim=1)
        rows = state.flatten(1, 2)  # of all nodes of all images
        mapped = map_rows(rows, mapped, mapped_bias)
        score_weights = (w_error, w_dist, w_out)
        few_pairs = nodes * nodes <= MAX_PAIRS_PER_EDGE * len(edge_slots)
        score = _score_pairs if few_pairs else _score_all
        scores = score(state, mapped, score_weights, (receiver, sender), lengths, layout)
        scores += out_bias[:, :, None]

        # kept (M, B, k): indices of the kept edges. receiver_rows, sender_rows (M * B * k,): the rows of their ends
        # among all nodes of all models.
        kept = top_k_indices(scores, k)
        first_node = torch.arange(0, models * images * nodes, nodes, device=state.device).view(models, images, 1)
        receiver_rows, sender_rows = ((end.take(kept) + first_node).flatten() for end in (receiver, sender))
        sending = rows.view(-1, d_model).index_select(0, sender_rows)
        mapped = mapped.view(-1, mapped.shape[-1])
        receiving = mapped[:, :received].index_select(0, receiver_rows)
        outgoing = mapped[:, received:].index_select(0, sender_rows)
        message = map_rows(sending.view(models, -1, d_model), message, message_bias)
        score = scores.gather(2, kept).view(models, -1, 1)
        gates = _gates(score, gate_weight, gate_bias)
        heard = (gates * message).flatten(0, 1)
        total = map_rows(rows, own, own_bias).to(wide)  # the input of GELU: gated messages are added to it in place
        total.view(-1, d_model).scatter_add_(0, receiver_rows[:, None].expand_as(heard), heard)
        new_state = F.gelu(total).to(state.dtype).view(state.shape)

        weights = (weight, *score_weights, gate_weight, gate_bias)
        edges = (score, message, receiving, outgoing, lengths.take(kept), receiver_rows, sender_rows)
        ctx.save_for_backward(state, *weights, *edges, total.to(state.dtype))
        ctx.layout = layout
        ctx.mark_non_differentiable(scores, kept)
        ctx.set_materialize_grads(False)
        return new_state, new_state.mean(dim=2), gates.view(models, images, k * d_model).sum(dim=2), scores, kept

    @staticmethod
    @once_differentiable
    def backward(ctx, d_new_state, d_mean, d_gate_sum, *_):
        saved = ctx.saved_tensors  # read once: a recomputed layer (torch.utils.checkpoint) has each tensor once
        with without_autocast(saved[0]):
            return *_gradients(saved, ctx.layout, d_new_state, d_mean, d_gate_sum), None, None, None, None


def _gradients(saved, layout: Layout, d_new_state, d_mean, d_gate_sum) -> tuple[Tensor, ...]:
    """Return the gradients of state, weight, bias, w_error, w_dist, w_out, out_bias, gate_weight, gate_bias."""
    state, weight, w_error, w_dist, w_out, gate_weight, gate_bias, *edges, total = saved
    score, message, receiving, outgoing, length, receiver_rows, sender_rows = edges
    models, images, nodes, d_model = state.shape
    wide = w_out.dtype
    rows, num_edges = state.view(-1, d_model), message.shape[1]

    if d_new_state is None:
        d_new_state = torch.zeros_like(state)
    if d_mean is not None:
        d_new_state = torch.add(d_new_state, d_mean[:, :, None], alpha=1 / nodes)
    d_total = torch.ops.aten.gelu_backward(d_new_state.reshape(total.shape), total)

    # Gradients at the kept edges, (M, edges, .) each. Their sums over a model's edges are the gradients of its weights.
    gates = _gates(score, gate_weight, gate_bias)
    d_heard = d_total.view(-1, d_model).index_select(0, receiver_rows).view(message.shape).to(wide)
    d_gates = d_heard * message
    if d_gate_sum is not None:
        d_gates.view(models, images, message[0].numel() // max(1, images)).add_(d_gate_sum[..., None])
    d_logit = torch.ops.aten.sigmoid_backward(d_gates, gates)
    d_gate_weight, d_gate_bias = torch.bmm(score.mT, d_logit)[:, 0], d_logit.sum(dim=1)
    d_score = torch.bmm(d_logit, gate_weight[..., None])  # (M, edges, 1)

    receiving, outgoing = (part.view(models, num_edges, part.shape[-1]).to(wide) for part in (receiving, outgoing))
    prediction, query, receiver = receiving.split(layout.sizes(*RECEIVING), dim=-1)
    key, sender = outgoing.chunk(2, dim=-1)
    features, columns = length.view(models, num_edges, 1), w_dist[:, None]
    if layout.predicts:
        # The negative of the surprise in the other files: it has the sign of the prediction's gradient.
        surprise = prediction - rows.index_select(0, sender_rows).view(message.shape)
        error = torch.linalg.vector_norm(surprise, dim=-1, keepdim=True)
        features, columns = torch.cat([error, features], dim=-1), torch.stack([w_error, w_dist], dim=1)
    units = (receiver + sender).baddbmm_(features, columns).relu_()
    d_out = torch.bmm(d_score.mT, units)[:, 0]
    d_units = torch.ops.aten.threshold_backward(d_score * w_out[:, None], units, 0)
    d_columns = torch.bmm(features.mT, d_units)
    d_receiving, d_sending = [d_score * key, d_units], [d_score * query, d_units, d_heard * gates]
    d_error, d_dist = torch.zeros_like(w_error), d_columns[:, -1]
    if layout.predicts:
        d_error = d_columns[:, 0]
        slope = torch.bmm(d_units, w_error[..., None]) / error
        surprise *= torch.where(error > 0, slope, 0)  # the derivative of the norm at zero is 0
        d_receiving.insert(0, surprise)
    d_receiving, d_sending = (torch.cat(parts, dim=-1).to(weight.dtype) for parts in (d_receiving, d_sending))

    own, receivers, senders = weight.split(layout.sizes("own", RECEIVING, (*OUTGOING, "message")), dim=1)
    d_state = _product(d_total, own).to(wide)
    d_received, d_sent = _product(d_receiving, receivers).flatten(0, 1), _product(d_sending, senders)
    if layout.predicts:
        d_sent = d_sent - surprise
    d_nodes = d_state.view(-1, d_model)
    for end_rows, gradient in ((receiver_rows, d_received), (sender_rows, d_sent.flatten(0, 1))):
        d_nodes.scatter_add_(0, end_rows[:, None].expand_as(gradient), gradient.to(wide))

    received, sent = (rows.index_select(0, end).view(message.shape) for end in (receiver_rows, sender_rows))
    sources = ((d_total, rows.view(total.shape)), (d_receiving, received), (d_sending, sent))
    d_weight = _stacked_products(sources, weight)
    d_bias = torch.cat([part.sum(dim=1) for part in (d_total, d_receiving, d_sending)], dim=1)
    d_edges = (d_error, d_dist, d_out, d_score.sum(dim=1), d_gate_weight, d_gate_bias)
    return d_state.to(state.dtype).view(state.shape), d_weight, d_bias, *d_edges


def _score_all(state, mapped, score_weights, ends, lengths, layout: Layout) -> Tensor:
    """Return the scores (M, B, E) of all edges without their bias, one block of edges at a time.

    state (M, B, N, D); mapped (M, B * N, rows of RECEIVING and OUTGOING), the mapped nodes; score_weights: w_error,
    w_dist, w_out (M, H); ends: receiver and sender (E,) int64; lengths (E,) in pixels.
    """
    models, images, nodes, _ = state.shape
    predicts, hidden, wide = layout.predicts, layout.hidden, lengths.dtype
    first_node = torch.arange(0, images * nodes, nodes, device=state.device)[:, None]
    receiver, sender = ((first_node + end).flatten() for end in ends)
    lengths = lengths.repeat(images)
    scores = lengths.new_empty(models, len(receiver))
    rows, mapped = state.flatten(1, 2).to(wide), mapped.to(wide)
    sources = [*mapped.split(layout.sizes(RECEIVING, OUTGOING), dim=-1), *([rows] if predicts else [])]
    # Allocated once: getting new memory from the system costs more than writing to it.
    buffers = [lengths.new_empty(min(EDGES_PER_BLOCK, len(receiver)), part.shape[-1]) for part in sources]
    for model in range(models):
        columns = torch.stack([part[model] for part in (score_weights[:2] if predicts else score_weights[1:2])])
        ones_out = torch.cat([torch.ones_like(columns[0]), score_weights[2][model]])
        blocks = (part.split(EDGES_PER_BLOCK) for part in (receiver, sender, lengths, scores[model]))
        for receivers, senders, length, block_scores in zip(*blocks, strict=True):
            incoming, outgoing, *surprise = (
                torch.index_select(source[model], 0, end, out=buffer[: len(end)])
                for source, end, buffer in zip(sources, (receivers, senders, senders), buffers, strict=False)
            )
            prediction, query, units = incoming.split(layout.sizes(*RECEIVING), dim=1)
            features = length[:, None]
            if predicts:
                # Not as |h|^2 - 2 h.p + |p|^2, which loses digits where h and p are close.
                error = torch.linalg.vector_norm(surprise[0].sub_(prediction), dim=1)
                features = torch.stack([error, length], dim=1)
            query.mul_(outgoing[:, :hidden])
            units.add_(outgoing[:, hidden:]).addmm_(features, columns).relu_()
            torch.mv(incoming[:, -2 * hidden :], ones_out, out=block_scores)
    return scores.view(models, images, len(ends[0]))


def _score_pairs(state, mapped, score_weights, ends, lengths, layout: Layout) -> Tensor:
    """Return the same scores as `_score_all`, faster where an image has few nodes.

    There the products query . key of all pairs of nodes cost less than gathering a query and a key for every edge.
    """
    models, images, nodes, _ = state.shape
    w_error, w_dist, w_out = score_weights
    predicts, hidden, wide, edges = layout.predicts, layout.hidden, lengths.dtype, len(lengths)
    rows, mapped = state.flatten(1, 2).to(wide), mapped.to(wide)
    prediction, query, receiving, key, sending = mapped.split(layout.sizes(*RECEIVING, *OUTGOING), dim=-1)
    query, key = (part.reshape(models * images, nodes, hidden) for part in (query, key))
    pair = ends[0] * nodes + ends[1]
    scores = lengths.new_empty(models, images, edges)
    flat = scores.view(models, images * edges)
    torch.index_select(torch.bmm(query, key.mT).flatten(1), 1, pair, out=scores.view(models * images, edges))
    # Images per block. Blocks are as equal as possible; the last one may have fewer.
    block = max(1, -(-images // max(1, round(images * edges / EDGES_PER_BLOCK))))
    first_node = torch.arange(0, min(block, images) * nodes, nodes, device=state.device)[:, None]
    receiver, sender = ((first_node + end).flatten() for end in ends)
    sources = [
        (receiving, receiver),
        (sending, sender),
        *([(rows, sender), (prediction, receiver)] if predicts else []),
    ]
    # Allocated once: getting new memory from the system costs more than writing to it.
    buffers = [lengths.new_empty(len(receiver), part.shape[-1]) for part, _ in sources]
    features = lengths.new_zeros(len(receiver), 2)
    features.view(-1, edges, 2)[..., 1] = lengths
    for model in range(models):
        columns = torch.stack([w_error[model], w_dist[model]])
        blocks = [part[model].split(block * nodes) for part, _ in sources]
        for block_scores, *parts in zip(flat[model].split(block * edges), *blocks, strict=True):
            count = len(block_scores)
            units, senders, *surprise = (
                torch.index_select(part, 0, end[:count], out=buffer[:count])
                for part, (_, end), buffer in zip(parts, sources, buffers, strict=True)
            )
            error_and_length = features[:count]
            if predicts:
                # Not as |h|^2 - 2 h.p + |p|^2, which loses digits where h and p are close.
                error_and_length[:, 0] = torch.linalg.vector_norm(surprise[0].sub_(surprise[1]), dim=1)
            units.add_(senders).addmm_(error_and_length, columns).relu_()
            block_scores.addmv_(units, w_out[model])
    return scores


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return the product of left (M, R, in) and right (M, in, out) of each model."""
    if len(left) == 1:  # libraries are fastest with a plain product
        return torch.mm(left[0], right[0])[None]
    return torch.bmm(left, right)


def _stacked_products(pairs, weight: Tensor) -> Tensor:
    """Return the weight's gradient: left^T right of each pair, (M, R, width) and (M, R, D), one below the other."""
    if len(weight) > 1:
        return torch.cat([torch.bmm(gradient.mT, source) for gradient, source in pairs], dim=1)
    products, start = torch.empty_like(weight), 0
    for gradient, source in pairs:
        stop = start + gradient.shape[-1]
        torch.mm(gradient[0].mT, source[0], out=products[0, start:stop])
        start = stop
    return products


def _gates(score: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the gates (M, edges, D) of the kept edges from their scores (M, edges, 1)."""
    return torch.baddbmm(bias[:, None], score, weight[:, None]).sigmoid_()
