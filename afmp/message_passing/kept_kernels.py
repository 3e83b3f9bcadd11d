"""Triton kernels that work on the kept edges of an image, k of them, listed by slot: (M, B, k) rows.

`slots` (M, B, k) int32: the flat slots that are kept, ascending; `place` (M, B, N, K) int32: its reverse, -1 if pruned.
"""

import triton
import triton.language as tl

from afmp.message_passing.kernels import _load_row, _load_rows, _pre_activation, _store_rows


@triton.jit
def gather_kernel(
    source, slots, nbr, rows, num_edges, num_nodes, k, K, width, source_stride,
    SENDER: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """rows (M, B, k, width): what stands in `source` at every kept edge's sender, or receiver."""
    edge = tl.program_id(0).to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    live = edge < num_edges
    slot = tl.load(slots + edge, mask=live, other=0)
    node = tl.load(nbr + slot, mask=live, other=0) if SENDER else (slot // K).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    found = _load_rows(source, edge // k * num_nodes + node, source_stride, live, d, width)
    _store_rows(rows, edge, width, live, d, width, found)


@triton.jit
def edge_backward_kernel(
    state, message, incoming, outgoing, prediction, scores, slots, nbr, dist,
    w_error, w_dist, w_out, gate_weight, gate_bias, d_total, d_gate_sum,
    d_receiving, d_sending, partial,
    num_nodes, edges_per_model, k, K, width, hidden, d_receiving_stride,
    PREDICTS: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Gradients of kept edges' rows: d_receiving [prediction | incoming], d_sending [outgoing | message].

    `partial` (M, programs a model, ...): sums of d_receiving and d_sending, then for gate_weight, gate_bias, w_error,
    w_dist, w_out and the bias, 2 width + 3 hidden + 1. The state stands in the error with the opposite sign of the
    prediction, and so does its gradient.
    """
    model = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    h = tl.arange(0, BLOCK_H)
    weight = _load_row(gate_weight + model * width, d, width)
    bias = _load_row(gate_bias + model * width, d, width)
    distance_column = _load_row(w_dist + model * hidden, h, hidden)
    error_column = _load_row(w_error + model * hidden, h, hidden)
    out = _load_row(w_out + model * hidden, h, hidden)
    d_sending_stride = 2 * hidden + width
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
    for step in range(STEPS):
        in_model = (chunk * STEPS + step) * BLOCK_E + tl.arange(0, BLOCK_E)
        live = in_model < edges_per_model
        edge = tl.where(live, model * edges_per_model + in_model, 0)
        image = edge // k
        slot = tl.load(slots + edge, mask=live, other=0).to(tl.int64)
        receiver_row = image * num_nodes + slot // K
        sender_row = image * num_nodes + tl.load(nbr + slot, mask=live, other=0)

        score = tl.load(scores + image * num_nodes * K + slot, mask=live, other=0.0)
        gate = tl.sigmoid(score[:, None] * weight[None, :] + bias[None, :])
        d_heard = _load_rows(d_total, receiver_row, width, live, d, width)
        d_message = gate * d_heard
        _store_rows(d_sending + 2 * hidden, edge, d_sending_stride, live, d, width, d_message)
        sum_message += tl.sum(d_message, 0)
        d_gate = _load_rows(message, edge, width, live, d, width) * d_heard
        d_gate += tl.load(d_gate_sum + image, mask=live, other=0.0)[:, None]
        d_logit = tl.where(live[:, None] & (d < width)[None, :], d_gate * gate * (1.0 - gate), 0.0)
        sum_weight += tl.sum(d_logit * score[:, None], 0)
        sum_bias += tl.sum(d_logit, 0)
        d_score = tl.sum(d_logit * weight[None, :], 1)

        error = tl.zeros([BLOCK_E], tl.float32)
        surprise = tl.zeros([BLOCK_E, BLOCK_D], tl.float32)
        if PREDICTS:
            surprise = _load_rows(state, sender_row, width, live, d, width)
            surprise -= _load_rows(prediction, edge, 2 * hidden + width, live, d, width)
            error = tl.sqrt(tl.sum(surprise * surprise, 1))
        length = tl.load(dist + slot, mask=live, other=0.0).to(tl.float32)
        query = _load_rows(incoming, edge, d_receiving_stride, live, h, hidden)
        receiver = _load_rows(incoming + hidden, edge, d_receiving_stride, live, h, hidden)
        key = _load_rows(outgoing, edge, 2 * hidden, live, h, hidden)
        sender = _load_rows(outgoing + hidden, edge, 2 * hidden, live, h, hidden)
        unit = _pre_activation(receiver, sender, length, distance_column, error, error_column)
        d_unit = tl.where(unit > 0, d_score[:, None] * out[None, :], 0.0)

        d_incoming = d_receiving + (width if PREDICTS else 0)
        d_query, d_key = d_score[:, None] * key, d_score[:, None] * query
        _store_rows(d_incoming, edge, d_receiving_stride, live, h, hidden, d_query)
        _store_rows(d_incoming + hidden, edge, d_receiving_stride, live, h, hidden, d_unit)
        _store_rows(d_sending, edge, d_sending_stride, live, h, hidden, d_key)
        _store_rows(d_sending + hidden, edge, d_sending_stride, live, h, hidden, d_unit)
        if PREDICTS:
            slope = tl.sum(d_unit * error_column[None, :], 1)
            slope = tl.where(error > 0, slope / tl.where(error > 0, error, 1.0), 0.0)
            d_prediction = -slope[:, None] * surprise
            _store_rows(d_receiving, edge, d_receiving_stride, live, d, width, d_prediction)
            sum_prediction += tl.sum(d_prediction, 0)
        sum_query += tl.sum(d_query, 0)
        sum_key += tl.sum(d_key, 0)
        sum_unit += tl.sum(d_unit, 0)
        sum_error += tl.sum(error[:, None] * d_unit, 0)
        sum_dist += tl.sum(length[:, None] * d_unit, 0)
        sum_out += tl.sum(d_score[:, None] * tl.maximum(unit, 0.0), 0)
        sum_score += tl.sum(d_score, 0)

    sums_width = d_receiving_stride + d_sending_stride + 2 * width + 3 * hidden + 1
    sums = partial + (model * tl.num_programs(0) + chunk) * sums_width
    if PREDICTS:
        tl.store(sums + d, sum_prediction, mask=d < width)
        sums += width
    tl.store(sums + h, sum_query, mask=h < hidden)
    tl.store(sums + hidden + h, sum_unit, mask=h < hidden)
    tl.store(sums + 2 * hidden + h, sum_key, mask=h < hidden)
    tl.store(sums + 3 * hidden + h, sum_unit, mask=h < hidden)
    sums += 4 * hidden
    tl.store(sums + d, sum_message, mask=d < width)
    sums += width
    tl.store(sums + d, sum_weight, mask=d < width)
    tl.store(sums + width + d, sum_bias, mask=d < width)
    sums += 2 * width
    tl.store(sums + h, sum_error, mask=h < hidden)
    tl.store(sums + hidden + h, sum_dist, mask=h < hidden)
    tl.store(sums + 2 * hidden + h, sum_out, mask=h < hidden)
    tl.store(sums + 3 * hidden, sum_score)


@triton.jit
def gelu_backward_kernel(
    total, d_state, d_mean, d_total, sums, num_nodes, width, BLOCK_D: tl.constexpr, ROWS: tl.constexpr
):
    """d_mean (M, B, width) comes by way of the node mean. `sums` (M, B, programs an image, width): of d_total."""
    # All on the grid's first axis: the others end at 65,535.
    program = tl.program_id(0).to(tl.int64)
    image, chunk = program // tl.cdiv(num_nodes, ROWS), program % tl.cdiv(num_nodes, ROWS)
    d = tl.arange(0, BLOCK_D)
    from_mean = _load_row(d_mean + image * width, d, width) / num_nodes
    total_sum = tl.zeros([BLOCK_D], tl.float32)
    for node in range(chunk * ROWS, min(chunk * ROWS + ROWS, num_nodes)):
        at = (image * num_nodes + node) * width
        x = _load_row(total + at, d, width)
        slope = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
        d_row = (_load_row(d_state + at, d, width) + from_mean) * slope
        total_sum += d_row
        tl.store(d_total + at + d, d_row, mask=d < width)
    tl.store(sums + program * width + d, total_sum, mask=d < width)


@triton.jit
def collect_kernel(
    d_state, d_receiver, d_sender, place, rev, num_nodes, k, K, width, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr
):
    """Add to d_state (rows, width), in place, the gradients of all kept edges that a node receives or sends."""
    row = tl.program_id(0).to(tl.int64)
    node = row % num_nodes
    image = row // num_nodes
    slots = tl.arange(0, BLOCK_K)
    first = image * num_nodes * K
    # An empty slot is its own opposite, and is never kept.
    opposite = tl.load(rev + node * K + slots, mask=slots < K, other=0)
    kept = tl.maximum(
        tl.load(place + row * K + slots, mask=slots < K, other=-1),
        tl.load(place + first + opposite, mask=slots < K, other=-1),
    )
    if tl.max(kept, 0) >= 0:
        d = tl.arange(0, BLOCK_D)
        total = _load_row(d_state + row * width, d, width)
        for slot in range(K):
            heard = tl.load(place + row * K + slot).to(tl.int64)
            if heard >= 0:
                total += _load_row(d_receiver + (image * k + heard) * width, d, width)
            sent = tl.load(place + first + tl.load(rev + node * K + slot)).to(tl.int64)
            if sent >= 0:
                total += _load_row(d_sender + (image * k + sent) * width, d, width)
        tl.store(d_state + row * width + d, total, mask=d < width)
