"""Triton kernels of the kept edges: gather the rows of both ends, compute their gradients, add these at the nodes.

Sizes: M models, B images per model, N nodes per image, K slots per node, k kept edges per image, D channels, H hidden
units of v; R = M * B * N rows of nodes. `slots` has the kept flat slots of each image, ascending. `kept_index` is its
inverse: the index of a kept slot in `slots`, and -1 for a pruned slot.
"""

import triton
import triton.language as tl

from afmp.message_passing.triton_rows import load_row, pre_activation


@triton.jit
def gather_kernel(
    senders,  # (R, D)
    receivers,  # (R, receiver_width), `receiver_stride` elements from row to row
    also_senders,  # (R, also_width), `also_stride` elements from row to row; read with ALSO only
    slots,  # (M, B, k) int32
    nbr,  # (N, K) int64
    sender_rows,  # (M, B, k, D), result
    receiver_rows,  # (M, B, k, receiver_width), result
    also_rows,  # (M, B, k, also_width), result with ALSO
    num_nodes, k, K, channels, receiver_width, also_width, receiver_stride, also_stride,
    ALSO: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_RECEIVER: tl.constexpr, BLOCK_ALSO: tl.constexpr,
):  # fmt: skip
    """One program per kept edge: copy the rows of its two ends.

    At the sender it copies from `senders` and, with ALSO, from `also_senders`; at the receiver from `receivers`.
    """
    edge = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + edge)
    first = edge // k * num_nodes
    receiver = first + (slot // K).to(tl.int64)
    sender = first + tl.load(nbr + slot)
    d = tl.arange(0, BLOCK_D)
    at_sender = tl.load(senders + sender * channels + d, mask=d < channels)
    r = tl.arange(0, BLOCK_RECEIVER)
    at_receiver = tl.load(receivers + receiver * receiver_stride + r, mask=r < receiver_width)
    if ALSO:
        a = tl.arange(0, BLOCK_ALSO)
        also_at_sender = tl.load(also_senders + sender * also_stride + a, mask=a < also_width)
        tl.store(also_rows + edge * also_width + a, also_at_sender, mask=a < also_width)
    tl.store(sender_rows + edge * channels + d, at_sender, mask=d < channels)
    tl.store(receiver_rows + edge * receiver_width + r, at_receiver, mask=r < receiver_width)


@triton.jit
def edge_backward_kernel(
    state,  # (R, D)
    message,  # (M, B, k, D)
    incoming,  # (M, B, k, 2H) [query | receiver], `d_receiving_stride` elements from row to row
    outgoing,  # (M, B, k, 2H) [key | sender]
    prediction,  # (M, B, k, D), `d_receiving_stride` elements from row to row; read with PREDICTS only
    scores,  # (R, K) float32
    slots,  # (M, B, k) int32
    nbr,  # (N, K) int64
    dist,  # (N, K)
    w_error,  # (M, H)
    w_dist,  # (M, H)
    w_out,  # (M, H)
    gate_weight,  # (M, D)
    gate_bias,  # (M, D)
    d_total,  # (R, D)
    d_gate_sum,  # (M, B) float32
    d_receiving,  # (M, B, k, D + 2H) [prediction | query | receiver], result; no prediction in the first layer
    d_sending,  # (M, B, k, 2H + D) [key | sender | message], result
    partial,  # (M, programs per model, columns below) float32, result: this program's sums
    num_nodes, edges_per_model, k, K, channels, hidden, d_receiving_stride,
    PREDICTS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, EDGES_PER_PROGRAM: tl.constexpr,
):  # fmt: skip
    """One program per EDGES_PER_PROGRAM kept edges of one model: the gradients of their rows, one edge at a time.

    Columns of `partial`: those of d_receiving and of d_sending, then gate_weight (D), gate_bias (D), w_error (H),
    w_dist (H), w_out (H) and out_bias (1). The sender's state has no result of its own: its gradient through the error
    is the gradient of the prediction with the opposite sign.
    """
    model = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    h = tl.arange(0, BLOCK_H)
    weight = load_row(gate_weight + model * channels, d, channels)
    bias = load_row(gate_bias + model * channels, d, channels)
    distance_column = load_row(w_dist + model * hidden, h, hidden)
    error_column = load_row(w_error + model * hidden, h, hidden)
    out = load_row(w_out + model * hidden, h, hidden)
    d_sending_stride = 2 * hidden + channels
    sum_prediction = tl.zeros([BLOCK_D], tl.float32)
    sum_message = tl.zeros([BLOCK_D], tl.float32)
    sum_weight = tl.zeros([BLOCK_D], tl.float32)
    sum_bias = tl.zeros([BLOCK_D], tl.float32)
    sum_query = tl.zeros([BLOCK_H], tl.float32)
    sum_key = tl.zeros([BLOCK_H], tl.float32)
    sum_unit = tl.zeros([BLOCK_H], tl.float32)
    sum_error = tl.zeros([BLOCK_H], tl.float32)
    sum_dist = tl.zeros([BLOCK_H], tl.float32)
    sum_out = tl.zeros([BLOCK_H], tl.float32)
    sum_score = 0.0
    for in_model in range(
        chunk * EDGES_PER_PROGRAM, min(chunk * EDGES_PER_PROGRAM + EDGES_PER_PROGRAM, edges_per_model)
    ):
        edge = model * edges_per_model + in_model
        image = edge // k
        slot = tl.load(slots + edge).to(tl.int64)
        receiver_row = image * num_nodes + slot // K
        sender_row = image * num_nodes + tl.load(nbr + slot)

        # All loads of an edge come first: the compiler moves no load across the barrier of a sum over channels.
        score = tl.load(scores + image * num_nodes * K + slot)
        length = tl.load(dist + slot).to(tl.float32)
        from_gates = tl.load(d_gate_sum + image)
        d_heard = load_row(d_total + receiver_row * channels, d, channels)
        sent = load_row(message + edge * channels, d, channels)
        query = load_row(incoming + edge * d_receiving_stride, h, hidden)
        receiver = load_row(incoming + hidden + edge * d_receiving_stride, h, hidden)
        key = load_row(outgoing + edge * 2 * hidden, h, hidden)
        sender = load_row(outgoing + hidden + edge * 2 * hidden, h, hidden)
        surprise = tl.zeros([BLOCK_D], tl.float32)
        if PREDICTS:
            surprise = load_row(state + sender_row * channels, d, channels)
            surprise -= load_row(prediction + edge * d_receiving_stride, d, channels)

        gate = tl.sigmoid(score * weight + bias)
        d_message = gate * d_heard
        tl.store(d_sending + edge * d_sending_stride + 2 * hidden + d, d_message, mask=d < channels)
        sum_message += d_message
        d_logit = tl.where(d < channels, (sent * d_heard + from_gates) * gate * (1.0 - gate), 0.0)
        sum_weight += d_logit * score
        sum_bias += d_logit
        d_score = tl.sum(d_logit * weight, 0)

        error = 0.0
        if PREDICTS:
            error = tl.sqrt(tl.sum(surprise * surprise, 0))
        unit = pre_activation(receiver, sender, length, distance_column, error, error_column)
        d_unit = tl.where(unit > 0, d_score * out, 0.0)

        d_incoming = d_receiving + edge * d_receiving_stride + (channels if PREDICTS else 0)
        d_outgoing = d_sending + edge * d_sending_stride
        d_query, d_key = d_score * key, d_score * query
        tl.store(d_incoming + h, d_query, mask=h < hidden)
        tl.store(d_incoming + hidden + h, d_unit, mask=h < hidden)
        tl.store(d_outgoing + h, d_key, mask=h < hidden)
        tl.store(d_outgoing + hidden + h, d_unit, mask=h < hidden)
        if PREDICTS:
            slope = tl.sum(d_unit * error_column, 0)
            slope = tl.where(error > 0, slope / tl.where(error > 0, error, 1.0), 0.0)
            d_prediction = -slope * surprise
            tl.store(d_receiving + edge * d_receiving_stride + d, d_prediction, mask=d < channels)
            sum_prediction += d_prediction
        sum_query += d_query
        sum_key += d_key
        sum_unit += d_unit
        sum_error += error * d_unit
        sum_dist += length * d_unit
        sum_out += d_score * tl.maximum(unit, 0.0)
        sum_score += d_score

    num_columns = d_receiving_stride + d_sending_stride + 2 * channels + 3 * hidden + 1
    sums = partial + (model * tl.num_programs(0) + chunk) * num_columns
    if PREDICTS:
        tl.store(sums + d, sum_prediction, mask=d < channels)
        sums += channels
    tl.store(sums + h, sum_query, mask=h < hidden)
    tl.store(sums + hidden + h, sum_unit, mask=h < hidden)
    tl.store(sums + 2 * hidden + h, sum_key, mask=h < hidden)
    tl.store(sums + 3 * hidden + h, sum_unit, mask=h < hidden)
    sums += 4 * hidden
    tl.store(sums + d, sum_message, mask=d < channels)
    sums += channels
    tl.store(sums + d, sum_weight, mask=d < channels)
    tl.store(sums + channels + d, sum_bias, mask=d < channels)
    sums += 2 * channels
    tl.store(sums + h, sum_error, mask=h < hidden)
    tl.store(sums + hidden + h, sum_dist, mask=h < hidden)
    tl.store(sums + 2 * hidden + h, sum_out, mask=h < hidden)
    tl.store(sums + 3 * hidden, sum_score)


@triton.jit
def collect_kernel(
    d_state,  # (R, D), changed in place
    d_receiver,  # (M, B, k, D): gradient of the receiver's state
    d_sender,  # (M, B, k, D): gradient of the sender's state, except through the error
    d_prediction,  # (M, B, k, D), `d_prediction_stride` elements from row to row; read with PREDICTS only
    kept_index,  # (R, K) int32
    rev,  # (N, K) int64
    num_nodes, k, K, channels, d_prediction_stride,
    PREDICTS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program per node: add to its gradient those of all kept edges that it receives or sends.

    Through the error, the sender's state has the gradient of the prediction with the opposite sign.
    """
    row = tl.program_id(0).to(tl.int64)
    node = row % num_nodes
    image = row // num_nodes
    slots = tl.arange(0, BLOCK_K)
    first = image * num_nodes * K
    # An empty slot is its own opposite. It is never kept.
    opposite = tl.load(rev + node * K + slots, mask=slots < K, other=0)
    kept = tl.maximum(
        tl.load(kept_index + row * K + slots, mask=slots < K, other=-1),
        tl.load(kept_index + first + opposite, mask=slots < K, other=-1),
    )
    if tl.max(kept, 0) >= 0:
        d = tl.arange(0, BLOCK_D)
        total = load_row(d_state + row * channels, d, channels)
        for slot in range(K):
            heard = tl.load(kept_index + row * K + slot).to(tl.int64)
            if heard >= 0:
                total += load_row(d_receiver + (image * k + heard) * channels, d, channels)
            sent = tl.load(kept_index + first + tl.load(rev + node * K + slot)).to(tl.int64)
            if sent >= 0:
                total += load_row(d_sender + (image * k + sent) * channels, d, channels)
                if PREDICTS:
                    total -= load_row(d_prediction + (image * k + sent) * d_prediction_stride, d, channels)
        tl.store(d_state + row * channels + d, total, mask=d < channels)
