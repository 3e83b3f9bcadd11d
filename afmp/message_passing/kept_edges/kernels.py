"""Triton kernels that work on the kept edges of an image, k of them, listed by slot: (M, B, k) rows.

`slots` (M, B, k) int32: the flat slots that are kept, ascending; `place` (M, B, N, K) int32: its reverse, -1 if pruned.
"""

import triton
import triton.language as tl

from afmp.message_passing.all_edges.kernels import _load_row, _load_rows, _pre_activation, _store_rows


@triton.jit
def gather_kernel(
    senders, receivers, also_senders, slots, nbr, sender_rows, receiver_rows, also_rows,
    num_nodes, k, K, width, receiver_width, also_width, receiver_stride, also_stride,
    ALSO: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_RECEIVER: tl.constexpr, BLOCK_ALSO: tl.constexpr,
):  # fmt: skip
    """What stands at a kept edge's ends (M, B, k, width): in `senders` (rows, width) at its sender, in `receivers` at
    its receiver and, if ALSO, in `also_senders` at its sender."""
    edge = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + edge)
    first = edge // k * num_nodes
    receiver = first + (slot // K).to(tl.int64)
    sender = first + tl.load(nbr + slot)
    d = tl.arange(0, BLOCK_D)
    at_sender = tl.load(senders + sender * width + d, mask=d < width)
    r = tl.arange(0, BLOCK_RECEIVER)
    at_receiver = tl.load(receivers + receiver * receiver_stride + r, mask=r < receiver_width)
    if ALSO:
        a = tl.arange(0, BLOCK_ALSO)
        also_at_sender = tl.load(also_senders + sender * also_stride + a, mask=a < also_width)
        tl.store(also_rows + edge * also_width + a, also_at_sender, mask=a < also_width)
    tl.store(sender_rows + edge * width + d, at_sender, mask=d < width)
    tl.store(receiver_rows + edge * receiver_width + r, at_receiver, mask=r < receiver_width)


@triton.jit
def edge_backward_kernel(
    state, message, incoming, outgoing, prediction, scores, slots, nbr, dist,
    w_error, w_dist, w_out, gate_weight, gate_bias, d_total, d_gate_sum,
    d_receiving, d_sending, partial,
    num_nodes, edges_per_model, k, K, width, hidden, d_receiving_stride,
    PREDICTS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, EDGES: tl.constexpr,
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
    for in_model in range(chunk * EDGES, min(chunk * EDGES + EDGES, edges_per_model)):
        edge = model * edges_per_model + in_model
        image = edge // k
        slot = tl.load(slots + edge).to(tl.int64)
        receiver_row = image * num_nodes + slot // K
        sender_row = image * num_nodes + tl.load(nbr + slot)

        # All loads of an edge at once, as none moves past the barriers of a sum over channels.
        score = tl.load(scores + image * num_nodes * K + slot)
        length = tl.load(dist + slot).to(tl.float32)
        from_gates = tl.load(d_gate_sum + image)
        d_heard = _load_row(d_total + receiver_row * width, d, width)
        sent = _load_row(message + edge * width, d, width)
        query = _load_row(incoming + edge * d_receiving_stride, h, hidden)
        receiver = _load_row(incoming + hidden + edge * d_receiving_stride, h, hidden)
        key = _load_row(outgoing + edge * 2 * hidden, h, hidden)
        sender = _load_row(outgoing + hidden + edge * 2 * hidden, h, hidden)
        surprise = tl.zeros([BLOCK_D], tl.float32)
        if PREDICTS:
            surprise = _load_row(state + sender_row * width, d, width)
            surprise -= _load_row(prediction + edge * d_receiving_stride, d, width)

        gate = tl.sigmoid(score * weight + bias)
        d_message = gate * d_heard
        tl.store(d_sending + edge * d_sending_stride + 2 * hidden + d, d_message, mask=d < width)
        sum_message += d_message
        d_logit = tl.where(d < width, (sent * d_heard + from_gates) * gate * (1.0 - gate), 0.0)
        sum_weight += d_logit * score
        sum_bias += d_logit
        d_score = tl.sum(d_logit * weight, 0)

        error = 0.0
        if PREDICTS:
            error = tl.sqrt(tl.sum(surprise * surprise, 0))
        unit = _pre_activation(receiver, sender, length, distance_column, error, error_column)
        d_unit = tl.where(unit > 0, d_score * out, 0.0)

        d_incoming = d_receiving + edge * d_receiving_stride + (width if PREDICTS else 0)
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
            tl.store(d_receiving + edge * d_receiving_stride + d, d_prediction, mask=d < width)
            sum_prediction += d_prediction
        sum_query += d_query
        sum_key += d_key
        sum_unit += d_unit
        sum_error += error * d_unit
        sum_dist += length * d_unit
        sum_out += d_score * tl.maximum(unit, 0.0)
        sum_score += d_score

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
    total, d_state, d_mean, d_total, sums, num_nodes, width,
    FROM_STATE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """d_mean (M, B, width) comes by way of the node mean, d_state only FROM_STATE. `sums` (M, B, programs an image,
    width): of d_total; a program has STEPS times BLOCK_R nodes."""
    # All on the grid's first axis: the others end at 65,535.
    program = tl.program_id(0).to(tl.int64)
    programs_an_image = tl.cdiv(num_nodes, BLOCK_R * STEPS)
    image, chunk = program // programs_an_image, program % programs_an_image
    d = tl.arange(0, BLOCK_D)
    from_mean = (_load_row(d_mean + image * width, d, width) / num_nodes)[None, :]
    total_sum = tl.zeros([BLOCK_D], tl.float32)
    for step in range(STEPS):
        node = (chunk * STEPS + step) * BLOCK_R + tl.arange(0, BLOCK_R)
        live = node < num_nodes
        row = image * num_nodes + node
        x = _load_rows(total, row, width, live, d, width)
        slope = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
        d_rows = from_mean * slope
        if FROM_STATE:
            d_rows += _load_rows(d_state, row, width, live, d, width) * slope
        total_sum += tl.sum(tl.where(live[:, None], d_rows, 0.0), 0)
        _store_rows(d_total, row, width, live, d, width, d_rows)
    tl.store(sums + program * width + d, total_sum, mask=d < width)


@triton.jit
def collect_kernel(
    d_state, d_receiver, d_sender, d_prediction, place, rev, num_nodes, k, K, width, d_prediction_stride,
    PREDICTS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Add to d_state (rows, width), in place, the gradients of all kept edges that a node receives or sends.

    The sender's state stands in the error with the opposite sign of the prediction.
    """
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
                if PREDICTS:
                    total -= _load_row(d_prediction + (image * k + sent) * d_prediction_stride, d, width)
        tl.store(d_state + row * width + d, total, mask=d < width)


@triton.jit
def mean_kernel(
    state_sums, gate_sums, mean, gates, parts, num_nodes, width, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):
    """mean (M, B, width) over an image's nodes and gates (M, B), from the sums of its `parts` programs."""
    image = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    total_gates = tl.zeros([BLOCK_P], tl.float32)
    for first in range(0, parts, BLOCK_P):
        part = first + tl.arange(0, BLOCK_P)
        total += _load_rows(state_sums, image * parts + part, width, part < parts, c, width)
        total_gates += tl.load(gate_sums + image * parts + part, mask=part < parts, other=0.0)
    tl.store(mean + image * width + c, tl.sum(total, 0) / num_nodes, mask=c < width)
    if tl.program_id(1) == 0:
        tl.store(gates + image, tl.sum(total_gates, 0))


@triton.jit
def add_up_kernel(
    own_sums, edge_sums, d_bias, d_edges, own_parts, edge_parts, own_width, edge_width, bias_width,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """d_bias (M, bias_width) [of own_sums (M, own_parts, own_width) | of the first columns of edge_sums], and d_edges,
    of the others of edge_sums (M, edge_parts, edge_width)."""
    model = tl.program_id(1).to(tl.int64)
    own_blocks = tl.cdiv(own_width, BLOCK_C)
    block = tl.program_id(0)
    own = block < own_blocks
    parts = tl.where(own, own_parts, edge_parts)
    width = tl.where(own, own_width, edge_width)
    c = tl.where(own, block, block - own_blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for first in range(0, parts, BLOCK_P):
        part = first + tl.arange(0, BLOCK_P)
        at, live = model * parts + part, part < parts
        total += _load_rows(own_sums, at, width, live & own, c, width)
        total += _load_rows(edge_sums, at, width, live & (own == 0), c, width)
    found = tl.sum(total, 0)
    place = tl.where(own, c, own_width + c)
    tl.store(d_bias + model * bias_width + place, found, mask=(c < width) & (place < bias_width))
    edges = own_width + edge_width - bias_width
    tl.store(d_edges + model * edges + place - bias_width, found, mask=(c < width) & (place >= bias_width))
