"""Triton kernels of the edge scores, forward and backward. `all_edges.pytorch.edge_scores` has the equation.

Sizes: M models, B images per model, N nodes per image, K slots per node, D channels, H hidden units of v. The nodes of
all images of all models are R = M * B * N rows, one after another. `*_stride` is the number of elements from one row to
the next. A program uses `rev` to find what a node sent. So nothing is scattered, and no atomics are needed: the same
inputs give the same bits. Row indices are int64, because a batch may contain more than 2^31 elements.
"""

import triton
import triton.language as tl

from afmp.message_passing.triton_rows import load_row, load_rows, pre_activation

MAX_UNROLLED_SLOTS = tl.constexpr(16)


@triton.jit
def _score_slot(
    slot, row, node, query, receiver, predicted, distance_column, error_column, out, bias, h, d,
    outgoing,  # (R, 2H) [key | sender]
    state,  # (R, D), None in the first layer
    nbr,  # (N, K) int64
    valid,  # (N, K) bool
    dist,  # (N, K)
    scores,  # (R, K) float32, result
    channels, hidden, outgoing_stride, K: tl.constexpr, PREDICTS: tl.constexpr,
):  # fmt: skip
    """Write the score of one slot of the node `row`."""
    edge = node * K + slot
    live = tl.load(valid + edge) != 0
    sender_row = row - node + tl.load(nbr + edge)
    key = tl.load(outgoing + sender_row * outgoing_stride + h, mask=live & (h < hidden), other=0.0)
    sender = tl.load(outgoing + sender_row * outgoing_stride + hidden + h, mask=live & (h < hidden), other=0.0)
    error = 0.0
    if PREDICTS:
        surprise = tl.load(state + sender_row * channels + d, mask=live & (d < channels), other=0.0).to(tl.float32)
        surprise -= predicted
        error = tl.sqrt(tl.sum(surprise * surprise, 0))
    length = tl.load(dist + edge).to(tl.float32)
    unit = pre_activation(receiver, sender.to(tl.float32), length, distance_column, error, error_column)
    score = tl.sum(query * key.to(tl.float32) + tl.maximum(unit, 0.0) * out, 0) + bias
    tl.store(scores + row * K + slot, tl.where(live, score, 0.0))


@triton.jit
def score_kernel(
    incoming,  # (R, 2H) [query | receiver]
    outgoing,  # (R, 2H) [key | sender]
    state,  # (R, D), None in the first layer
    prediction,  # (R, D), None in the first layer
    w_error,  # (M, H)
    w_dist,  # (M, H)
    w_out,  # (M, H)
    out_bias,  # (M, 1)
    nbr,  # (N, K) int64
    valid,  # (N, K) bool
    dist,  # (N, K)
    scores,  # (R, K) float32, result: 0 in slots that are not valid
    num_nodes, rows_per_model, channels, hidden, incoming_stride, outgoing_stride, prediction_stride,
    K: tl.constexpr, PREDICTS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """One program per node: the scores of all its slots, one slot at a time."""
    row = tl.program_id(0).to(tl.int64)
    node = row % num_nodes
    model = row // rows_per_model
    h = tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    query = load_row(incoming + row * incoming_stride, h, hidden)
    receiver = load_row(incoming + row * incoming_stride + hidden, h, hidden)
    distance_column = load_row(w_dist + model * hidden, h, hidden)
    error_column = load_row(w_error + model * hidden, h, hidden)
    out = load_row(w_out + model * hidden, h, hidden)
    bias = tl.load(out_bias + model).to(tl.float32)
    predicted = query  # unused without a prediction
    if PREDICTS:
        predicted = load_row(prediction + row * prediction_stride, d, channels)
    # In an unrolled loop the loads of several slots overlap. Unrolling hundreds of slots would compile for minutes.
    if K <= MAX_UNROLLED_SLOTS:
        for slot in tl.static_range(K):
            _score_slot(
                slot, row, node, query, receiver, predicted, distance_column, error_column, out, bias, h, d,
                outgoing, state, nbr, valid, dist, scores, channels, hidden, outgoing_stride, K, PREDICTS,
            )  # fmt: skip
    else:
        for slot in range(K):
            _score_slot(
                slot, row, node, query, receiver, predicted, distance_column, error_column, out, bias, h, d,
                outgoing, state, nbr, valid, dist, scores, channels, hidden, outgoing_stride, K, PREDICTS,
            )  # fmt: skip


@triton.jit
def score_backward_kernel(
    incoming,  # (R, 2H) [query | receiver]
    outgoing,  # (R, 2H) [key | sender]
    state,  # (R, D), None in the first layer
    prediction,  # (R, D), None in the first layer
    w_error,  # (M, H)
    w_dist,  # (M, H)
    w_out,  # (M, H)
    nbr,  # (N, K) int64
    valid,  # (N, K) bool
    rev,  # (N, K) int64
    dist,  # (N, K)
    d_scores,  # (R, K) float32
    d_incoming,  # (R, 2H), result
    d_outgoing,  # (R, 2H), result
    d_state,  # (R, D), result
    d_prediction,  # (R, D), result
    partial,  # (M, programs per model, 3H + 1), result: this program's sums for w_error, w_dist, w_out, out_bias
    num_nodes, rows_per_model, channels, hidden, K, incoming_stride, outgoing_stride, prediction_stride,
    PREDICTS: tl.constexpr, BLOCKS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr,
    ROWS_PER_PROGRAM: tl.constexpr,
):  # fmt: skip
    """One program per ROWS_PER_PROGRAM nodes of one model: the gradients of these nodes.

    The slots of a node are read in BLOCKS of BLOCK_K. The hidden units are computed again.
    """
    model = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, BLOCK_K)
    h = tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    distance_column = load_row(w_dist + model * hidden, h, hidden)
    error_column = load_row(w_error + model * hidden, h, hidden)
    out = load_row(w_out + model * hidden, h, hidden)
    sum_error = tl.zeros([BLOCK_H], tl.float32)
    sum_dist = tl.zeros([BLOCK_H], tl.float32)
    sum_out = tl.zeros([BLOCK_H], tl.float32)
    sum_bias = 0.0
    for step in range(ROWS_PER_PROGRAM):
        in_model = chunk * ROWS_PER_PROGRAM + step
        exists = in_model < rows_per_model
        row = tl.where(exists, model * rows_per_model + in_model, 0)
        node = row % num_nodes
        first = row - node
        columns = h + tl.zeros([BLOCK_H], tl.int64)
        mask = (h < hidden) & exists
        receiver = load_row(incoming + row * incoming_stride + hidden, h, hidden)
        sender_row = load_row(outgoing + row * outgoing_stride + hidden, h, hidden)
        d_query = tl.zeros([BLOCK_H], tl.float32)
        d_receiver = tl.zeros([BLOCK_H], tl.float32)
        d_key = tl.zeros([BLOCK_H], tl.float32)
        d_sender = tl.zeros([BLOCK_H], tl.float32)
        d_predicted = tl.zeros([BLOCK_D], tl.float32)
        d_sent_state = tl.zeros([BLOCK_D], tl.float32)
        for block in range(BLOCKS):
            slots = block * BLOCK_K + slot
            edge = node * K + slots
            filled = (slots < K) & exists
            other_row = first + tl.load(nbr + edge, mask=filled, other=0)
            length = tl.load(dist + edge, mask=filled, other=0.0).to(tl.float32)[:, None]

            # The node as the receiver of its slots.
            live = filled & (tl.load(valid + edge, mask=filled, other=0) != 0)
            d_score = tl.load(d_scores + row * K + slots, mask=live, other=0.0)
            key = load_rows(outgoing, other_row, outgoing_stride, live, h, hidden)
            sender = load_rows(outgoing + hidden, other_row, outgoing_stride, live, h, hidden)
            error = tl.zeros([BLOCK_K, 1], tl.float32)
            surprise = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
            if PREDICTS:
                surprise = load_rows(state, other_row, channels, live, d, channels)
                surprise -= load_row(prediction + row * prediction_stride, d, channels)[None, :]
                surprise = tl.where(live[:, None], surprise, 0.0)
                error = tl.sqrt(tl.sum(surprise * surprise, 1))[:, None]
            unit = pre_activation(
                receiver[None, :], sender, length, distance_column[None, :], error, error_column[None, :]
            )
            d_unit = tl.where(unit > 0, d_score[:, None] * out[None, :], 0.0)
            sum_out += tl.sum(d_score[:, None] * tl.maximum(unit, 0.0), 0)
            sum_dist += tl.sum(length * d_unit, 0)
            sum_bias += tl.sum(d_score, 0)
            d_query += tl.sum(d_score[:, None] * key, 0)
            d_receiver += tl.sum(d_unit, 0)
            if PREDICTS:
                sum_error += tl.sum(error * d_unit, 0)
                slope = tl.sum(d_unit * error_column[None, :], 1)[:, None]
                slope = tl.where(error > 0, slope / tl.where(error > 0, error, 1.0), 0.0)
                d_predicted -= tl.sum(slope * surprise, 0)

            # The node as the sender of the opposite slots.
            opposite = tl.load(rev + edge, mask=filled, other=0)
            sends = filled & (tl.load(valid + opposite, mask=filled, other=0) != 0)
            d_score = tl.load(d_scores + first * K + opposite, mask=sends, other=0.0)
            query = load_rows(incoming, other_row, incoming_stride, sends, h, hidden)
            receiver_rows = load_rows(incoming + hidden, other_row, incoming_stride, sends, h, hidden)
            error = tl.zeros([BLOCK_K, 1], tl.float32)
            if PREDICTS:
                surprise = load_row(state + row * channels, d, channels)[None, :]
                surprise -= load_rows(prediction, other_row, prediction_stride, sends, d, channels)
                surprise = tl.where(sends[:, None], surprise, 0.0)
                error = tl.sqrt(tl.sum(surprise * surprise, 1))[:, None]
            unit = pre_activation(
                receiver_rows, sender_row[None, :], length, distance_column[None, :], error, error_column[None, :]
            )
            d_unit = tl.where(unit > 0, d_score[:, None] * out[None, :], 0.0)
            d_key += tl.sum(d_score[:, None] * query, 0)
            d_sender += tl.sum(d_unit, 0)
            if PREDICTS:
                slope = tl.sum(d_unit * error_column[None, :], 1)[:, None]
                slope = tl.where(error > 0, slope / tl.where(error > 0, error, 1.0), 0.0)
                d_sent_state += tl.sum(slope * surprise, 0)
        tl.store(d_incoming + row * 2 * hidden + columns, d_query, mask=mask)
        tl.store(d_incoming + row * 2 * hidden + hidden + columns, d_receiver, mask=mask)
        tl.store(d_outgoing + row * 2 * hidden + columns, d_key, mask=mask)
        tl.store(d_outgoing + row * 2 * hidden + hidden + columns, d_sender, mask=mask)
        if PREDICTS:
            tl.store(d_prediction + row * channels + d, d_predicted, mask=(d < channels) & exists)
            tl.store(d_state + row * channels + d, d_sent_state, mask=(d < channels) & exists)
    sums = partial + (model * tl.num_programs(0) + chunk) * (3 * hidden + 1)
    tl.store(sums + h, sum_error, mask=h < hidden)
    tl.store(sums + hidden + h, sum_dist, mask=h < hidden)
    tl.store(sums + 2 * hidden + h, sum_out, mask=h < hidden)
    tl.store(sums + 3 * hidden, sum_bias)
