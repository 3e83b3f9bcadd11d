"""Edge scores and gated sums over all edges, in PyTorch, with their gradients written out.

Linear maps are computed per node, and an edge stores scalars only. Both functions walk the K slots of the neighbour
tables, with one gather per slot. The forward passes save only inputs of the nodes' size and scalars per edge, so the
backward passes compute hidden units and gates again. They use `rev` to find what a node sent, so they gather too:
without scatter and atomics, the same inputs give the same bits. Sums are in float32 or wider. Gradients have the
inputs' types.

Sizes: M models, B images per model, N nodes per image, K slots per node, D channels, H hidden units of v.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afmp.message_passing.autocast import without_autocast
from afmp.message_passing.neighbours import Neighbours
from afmp.message_passing.traced import returned
from afmp.message_passing.weights import ScoreWeights


def edge_scores(
    incoming: Tensor,
    outgoing: Tensor,
    weights: ScoreWeights,
    tables: Neighbours,
    *,
    state: Tensor | None = None,
    prediction: Tensor | None = None,
) -> Tensor:
    """Return the scores (M, B, N, K) of all slots, float32 or wider; 0 where `tables.valid` is false.

        s(i <- j) = query_i . key_j + out . relu(receiver_i + sender_j + error * err + dist * dist_ij) + out_bias
        err       = || state_j - prediction_i ||_2, with derivative 0 at zero; 0 without `state` (first layer)

    incoming (M, B, N, 2H) is [query | receiver], and outgoing (M, B, N, 2H) is [key | sender]; state, prediction
    (M, B, N, D).
    """
    return _EdgeScores.apply(incoming, outgoing, state, prediction, *weights, *tables)


def gated_sum(
    message: Tensor, scores: Tensor, keep: Tensor, gate_weight: Tensor, gate_bias: Tensor, tables: Neighbours
) -> tuple[Tensor, Tensor]:
    """Return gated messages summed at their receivers, and the sum of all gates per image.

        sum_i = sum over kept edges i <- j of sigmoid(gate_weight * s(i <- j) + gate_bias) * message_j  (M, B, N, D)
        total = sum over kept edges and channels of the gate; the gate of a pruned edge is exactly 0    (M, B)

    message (M, B, N, D); scores (M, B, N, K); keep (M, B, N, K) bool, false in slots that are not valid; gate_weight
    and gate_bias (M, D). The first result has message's type, the second is float32 or wider.
    """
    return _GatedSum.apply(message, scores, keep, gate_weight, gate_bias, tables.nbr, tables.rev)


def _through_rev(slots: Tensor, rev: Tensor) -> Tensor:
    """Return the scalars (M, B, N, K) of the opposite slots: for node i and slot s, its neighbour's entry for i."""
    return slots.flatten(2).index_select(2, rev.flatten()).view_as(slots)


class _EdgeScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, incoming, outgoing, state, prediction, w_error, w_dist, w_out, out_bias, nbr, valid, rev, dist):
        inputs = (incoming, outgoing, state, prediction, w_error, w_dist, w_out, out_bias)
        # Autocast would cast the matrix-vector products below back to half precision.
        with without_autocast(incoming):
            wide = torch.promote_types(incoming.dtype, torch.float32)
            incoming, outgoing, state, prediction, w_error, w_dist, w_out, out_bias = _cast(inputs, wide)
            query, receiver = incoming.chunk(2, dim=-1)
            scores = query.new_empty(*query.shape[:3], nbr.shape[1])
            errors = torch.empty_like(scores) if state is not None else None
            for slot, sender_of in enumerate(nbr.unbind(1)):
                key, sender = outgoing.index_select(2, sender_of).chunk(2, dim=-1)
                if errors is not None:
                    # Not as |h|^2 - 2 h.p + |p|^2, which loses digits where h and p are close.
                    surprise = state.index_select(2, sender_of).sub_(prediction)
                    errors[..., slot] = torch.linalg.vector_norm(surprise, dim=-1)
                hidden = _pre_activation(receiver, sender, dist, w_dist, errors, w_error, slot).relu_()
                scores[..., slot] = (query * key).sum(dim=-1) + _times(hidden, w_out)
            scores = torch.where(valid, scores + out_bias[:, :, None, None], 0)
        ctx.save_for_backward(*inputs, errors, nbr, valid, rev, dist)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx, d_scores):
        *inputs, errors, nbr, valid, rev, dist = ctx.saved_tensors
        with without_autocast(d_scores):
            incoming, outgoing, state, prediction, w_error, w_dist, w_out, _ = _cast(inputs, d_scores.dtype)
            d_scores = torch.where(valid, d_scores, 0)
            query, receiver = incoming.chunk(2, dim=-1)
            d_query, active_receiver = torch.zeros_like(query), torch.zeros_like(receiver)
            d_out, active_dist, active_error = (torch.zeros_like(w_out) for _ in range(3))
            d_prediction = d_state = slope = None
            if errors is not None:
                d_state, d_prediction = torch.zeros_like(state), torch.zeros_like(prediction)
                slope = torch.zeros_like(errors)  # d_score * (d score / d err) / err
                w_slope = w_out * w_error

            # First pass: every node as the receiver of its slots. `active` is 1 where a hidden unit is positive,
            # else 0. All edges share the factor w_out, so it multiplies the finished sums.
            for slot, sender_of in enumerate(nbr.unbind(1)):
                key, sender = outgoing.index_select(2, sender_of).chunk(2, dim=-1)
                d_score = d_scores[..., slot, None]
                d_query.addcmul_(key, d_score)
                hidden = _pre_activation(receiver, sender, dist, w_dist, errors, w_error, slot).relu_()
                d_out += _weighted_sum(d_score, hidden)
                active = hidden.sign_()
                active_receiver.addcmul_(active, d_score)
                active_dist += _weighted_sum(d_score * dist[:, slot, None], active)
                if errors is not None:
                    error = errors[..., slot, None]
                    active_error += _weighted_sum(d_score * error, active)
                    d_direction = torch.where(error > 0, d_score * _times(active, w_slope)[..., None] / error, 0)
                    slope[..., slot] = d_direction[..., 0]
                    surprise = state.index_select(2, sender_of).sub_(prediction)
                    d_prediction.addcmul_(surprise, d_direction, value=-1)

            # Second pass: every node as the sender of the opposite slots.
            key, sender = outgoing.chunk(2, dim=-1)
            d_key, active_sender = torch.zeros_like(key), torch.zeros_like(sender)
            d_scores_sent, errors_sent, slope_sent = (
                None if slots is None else _through_rev(slots, rev) for slots in (d_scores, errors, slope)
            )
            for slot, receiver_of in enumerate(nbr.unbind(1)):
                query_i, receiver_i = incoming.index_select(2, receiver_of).chunk(2, dim=-1)
                d_score = d_scores_sent[..., slot, None]
                d_key.addcmul_(query_i, d_score)
                hidden = _pre_activation(receiver_i, sender, dist, w_dist, errors_sent, w_error, slot)
                active = hidden.relu_().sign_()
                active_sender.addcmul_(active, d_score)
                if errors is not None:
                    surprise = state - prediction.index_select(2, receiver_of)
                    d_state.addcmul_(surprise, slope_sent[..., slot, None])

            d_incoming = torch.cat([d_query, active_receiver.mul_(_row(w_out))], dim=-1)
            d_outgoing = torch.cat([d_key, active_sender.mul_(_row(w_out))], dim=-1)
            d_error, d_dist = active_error * w_out, active_dist * w_out
            d_out_bias = d_scores.sum(dim=(1, 2, 3))[:, None]
        wide = (d_incoming, d_outgoing, d_state, d_prediction, d_error, d_dist, d_out, d_out_bias)
        narrow = [d if d is None else d.to(x.dtype) for d, x in zip(wide, inputs, strict=True)]
        return *narrow, None, None, None, None


def _cast(tensors, dtype: torch.dtype):
    # Contiguous: gathers from slices of a wider tensor are several times slower on a CPU.
    return [tensor if tensor is None else tensor.to(dtype).contiguous() for tensor in tensors]


def _pre_activation(receiver, sender, dist, w_dist, errors, w_error, slot: int) -> Tensor:
    """Return the hidden units (M, B, N, H) of one slot before the ReLU.

    The terms are always added in the same order, so that rounding gives every pass the same sign of each unit.
    """
    hidden = (receiver + sender).add_(dist[:, slot, None].to(w_dist.dtype) * _row(w_dist))
    return hidden if errors is None else hidden.addcmul_(errors[..., slot, None], _row(w_error))


def _weighted_sum(weight: Tensor, rows: Tensor) -> Tensor:
    """Return the sum (M, C) over images and nodes of weight (M, B, N, 1) * rows (M, B, N, C)."""
    return torch.bmm(weight.reshape(len(rows), 1, -1), rows.flatten(1, 2))[:, 0]


def _times(rows: Tensor, column: Tensor) -> Tensor:
    """Return the product (M, B, N) of each model's rows (M, B, N, C) and its column (M, C)."""
    return torch.bmm(rows.flatten(1, 2), column[..., None]).view(rows.shape[:3])


def _row(weights: Tensor) -> Tensor:
    return weights[:, None, None]  # (M, 1, 1, C): one row per model, for all its images and nodes


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, message, scores, keep, gate_weight, gate_bias, nbr, rev):
        ctx.save_for_backward(message, scores, keep, gate_weight, gate_bias, nbr, rev)
        ctx.set_materialize_grads(False)
        with without_autocast(message):
            sent, scores, weight, bias = _cast((message, scores, gate_weight, gate_bias), scores.dtype)
            total = torch.zeros_like(sent)
            gate_total = sent.new_zeros(sent.shape[:2])
            for slot, sender_of in enumerate(nbr.unbind(1)):
                gate = _gate(scores, weight, bias, slot).mul_(keep[..., slot, None])
                total.addcmul_(gate, sent.index_select(2, sender_of))
                gate_total += gate.sum(dim=(2, 3))
        return returned(total.to(message.dtype)), returned(gate_total)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_total, d_gate_total):
        message, scores, keep, gate_weight, gate_bias, nbr, rev = ctx.saved_tensors
        if d_total is None:
            d_total = torch.zeros_like(message)
        with without_autocast(message):
            sent, weight, bias, d_total = _cast((message, gate_weight, gate_bias, d_total), scores.dtype)
            kept = keep.to(scores.dtype)
            kept_sent, scores_sent = _through_rev(kept, rev), _through_rev(scores, rev)
            d_sent, d_scores = torch.zeros_like(sent), torch.zeros_like(scores)
            d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
            for slot, neighbour in enumerate(nbr.unbind(1)):
                # The node as the receiver of this slot.
                gate = _gate(scores, weight, bias, slot)
                d_gate = sent.index_select(2, neighbour).mul_(d_total)
                if d_gate_total is not None:
                    d_gate += d_gate_total[..., None, None]
                d_logit = torch.ops.aten.sigmoid_backward(d_gate, gate)
                d_scores[..., slot] = _times(d_logit, weight)
                d_weight += _weighted_sum(kept[..., slot] * scores[..., slot], d_logit)
                d_bias += _weighted_sum(kept[..., slot], d_logit)
                # The node as the sender of the opposite slot.
                gate = _gate(scores_sent, weight, bias, slot).mul_(kept_sent[..., slot, None])
                d_sent.addcmul_(gate, d_total.index_select(2, neighbour))
            d_scores *= kept
        d_weight, d_bias = d_weight.to(gate_weight.dtype), d_bias.to(gate_bias.dtype)
        return d_sent.to(message.dtype), d_scores, None, d_weight, d_bias, None, None


def _gate(scores, weight, bias, slot: int) -> Tensor:
    """Return the gates (M, B, N, D) of one slot, pruned or not."""
    return torch.addcmul(_row(bias), scores[..., slot, None], _row(weight)).sigmoid_()
