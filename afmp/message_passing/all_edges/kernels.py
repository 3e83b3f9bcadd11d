"""Triton kernels of the exchange. Rows are the nodes of all images of all models, M * B * N of them, one after another.

A program holds up to 16 slots of one node (or one kept edge) by all channels, and sums in float32. Whatever a node
*sent* is found through `rev`, so nothing is scattered and no atomics are needed: the same inputs give the same bits.
Offsets are 64 bit: a batch may hold more than 2^31 numbers.

Names: `place` (rows, K) says where in its image's list of messages a slot's message stands, -1 if it is pruned.
"""

import triton
import triton.language as tl

UNROLLED_SLOTS = tl.constexpr(16)


@triton.jit
def _load_rows(start, index, stride, live, columns, width):
    """Rows [R, BLOCK] at `index` [R] (0 where not `live`) in float32."""
    mask = live[:, None] & (columns < width)[None, :]
    return tl.load(start + index[:, None] * stride + columns[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _load_row(start, columns, width):
    return tl.load(start + columns, mask=columns < width, other=0.0).to(tl.float32)


@triton.jit
def _store_rows(start, index, stride, live, columns, width, rows):
    mask = live[:, None] & (columns < width)[None, :]
    tl.store(start + index[:, None] * stride + columns[None, :], rows, mask=mask)


@triton.jit
def _pre_activation(receiver, sender, dist, w_dist, error, w_error):
    # One function for all passes: they must see the same sign.
    return receiver + sender + dist * w_dist + error * w_error


@triton.jit
def _score_slot(
    slot, row, node, query, receiver, expected, distance_column, error_column, out, bias, h, d,
    outgoing, state, nbr, valid, dist, scores, width, hidden, outgoing_stride, K: tl.constexpr, PREDICTS: tl.constexpr,
):  # fmt: skip
    edge = node * K + slot
    live = tl.load(valid + edge) != 0
    sender_row = row - node + tl.load(nbr + edge)
    key = tl.load(outgoing + sender_row * outgoing_stride + h, mask=live & (h < hidden), other=0.0)
    sender = tl.load(outgoing + sender_row * outgoing_stride + hidden + h, mask=live & (h < hidden), other=0.0)
    error = 0.0
    if PREDICTS:
        surprise = tl.load(state + sender_row * width + d, mask=live & (d < width), other=0.0).to(tl.float32)
        surprise -= expected
        error = tl.sqrt(tl.sum(surprise * surprise, 0))
    length = tl.load(dist + edge).to(tl.float32)
    unit = _pre_activation(receiver, sender.to(tl.float32), length, distance_column, error, error_column)
    score = tl.sum(query * key.to(tl.float32) + tl.maximum(unit, 0.0) * out, 0) + bias
    tl.store(scores + row * K + slot, tl.where(live, score, 0.0))


@triton.jit
def score_kernel(
    incoming, outgoing, state, prediction, w_error, w_dist, w_out, out_bias, nbr, valid, dist, scores,
    num_nodes, rows_per_model, width, hidden, incoming_stride, outgoing_stride, prediction_stride,
    K: tl.constexpr, PREDICTS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    node = row % num_nodes
    model = row // rows_per_model
    h = tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    query = _load_row(incoming + row * incoming_stride, h, hidden)
    receiver = _load_row(incoming + row * incoming_stride + hidden, h, hidden)
    distance_column = _load_row(w_dist + model * hidden, h, hidden)
    error_column = _load_row(w_error + model * hidden, h, hidden)
    out = _load_row(w_out + model * hidden, h, hidden)
    bias = tl.load(out_bias + model).to(tl.float32)
    expected = query  # of no use without a prediction
    if PREDICTS:
        expected = _load_row(prediction + row * prediction_stride, d, width)
    # Unrolled, the loads of a few slots overlap; of hundreds, compiling would take minutes.
    if K <= UNROLLED_SLOTS:
        for slot in tl.static_range(K):
            _score_slot(
                slot, row, node, query, receiver, expected, distance_column, error_column, out, bias, h, d,
                outgoing, state, nbr, valid, dist, scores, width, hidden, outgoing_stride, K, PREDICTS,
            )  # fmt: skip
    else:
        for slot in range(K):
            _score_slot(
                slot, row, node, query, receiver, expected, distance_column, error_column, out, bias, h, d,
                outgoing, state, nbr, valid, dist, scores, width, hidden, outgoing_stride, K, PREDICTS,
            )  # fmt: skip


@triton.jit
def score_backward_kernel(
    incoming, outgoing, state, prediction, w_error, w_dist, w_out, nbr, valid, rev, dist, d_scores,
    d_incoming, d_outgoing, d_state, d_prediction, partial,
    num_nodes, rows_per_model, width, hidden, K, incoming_stride, outgoing_stride, prediction_stride,
    PREDICTS: tl.constexpr, BLOCKS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """A node's slots in BLOCKS of BLOCK_K.

    `partial` (M, programs a model, 3 hidden + 1): sums over this program's rows for w_error, w_dist, w_out, bias.
    """
    model = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, BLOCK_K)
    h = tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    distance_column = _load_row(w_dist + model * hidden, h, hidden)
    error_column = _load_row(w_error + model * hidden, h, hidden)
    out = _load_row(w_out + model * hidden, h, hidden)
    sum_error = tl.zeros([BLOCK_H], tl.float32)
    sum_dist = tl.zeros([BLOCK_H], tl.float32)
    sum_out = tl.zeros([BLOCK_H], tl.float32)
    sum_bias = 0.0
    for step in range(ROWS):
        in_model = chunk * ROWS + step
        exists = in_model < rows_per_model
        row = tl.where(exists, model * rows_per_model + in_model, 0)
        node = row % num_nodes
        first = row - node
        own = h + tl.zeros([BLOCK_H], tl.int64)
        mask = (h < hidden) & exists
        receiver = _load_row(incoming + row * incoming_stride + hidden, h, hidden)
        sender_row = _load_row(outgoing + row * outgoing_stride + hidden, h, hidden)
        d_query = tl.zeros([BLOCK_H], tl.float32)
        d_receiver = tl.zeros([BLOCK_H], tl.float32)
        d_key = tl.zeros([BLOCK_H], tl.float32)
        d_sender = tl.zeros([BLOCK_H], tl.float32)
        d_expected = tl.zeros([BLOCK_D], tl.float32)
        d_own = tl.zeros([BLOCK_D], tl.float32)
        for block in range(BLOCKS):
            slots = block * BLOCK_K + slot
            edge = node * K + slots
            filled = (slots < K) & exists
            other_row = first + tl.load(nbr + edge, mask=filled, other=0)
            length = tl.load(dist + edge, mask=filled, other=0.0).to(tl.float32)[:, None]

            # The node as the receiver of its slots.
            live = filled & (tl.load(valid + edge, mask=filled, other=0) != 0)
            d_score = tl.load(d_scores + row * K + slots, mask=live, other=0.0)
            key = _load_rows(outgoing, other_row, outgoing_stride, live, h, hidden)
            sender = _load_rows(outgoing + hidden, other_row, outgoing_stride, live, h, hidden)
            error = tl.zeros([BLOCK_K, 1], tl.float32)
            surprise = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
            if PREDICTS:
                surprise = _load_rows(state, other_row, width, live, d, width)
                surprise -= _load_row(prediction + row * prediction_stride, d, width)[None, :]
                surprise = tl.where(live[:, None], surprise, 0.0)
                error = tl.sqrt(tl.sum(surprise * surprise, 1))[:, None]
            unit = _pre_activation(
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
                d_expected -= tl.sum(slope * surprise, 0)

            # The node as the sender of the opposite slots.
            opposite = tl.load(rev + edge, mask=filled, other=0)
            heard = filled & (tl.load(valid + opposite, mask=filled, other=0) != 0)
            d_score = tl.load(d_scores + first * K + opposite, mask=heard, other=0.0)
            query = _load_rows(incoming, other_row, incoming_stride, heard, h, hidden)
            receiver_rows = _load_rows(incoming + hidden, other_row, incoming_stride, heard, h, hidden)
            error = tl.zeros([BLOCK_K, 1], tl.float32)
            if PREDICTS:
                surprise = _load_row(state + row * width, d, width)[None, :]
                surprise -= _load_rows(prediction, other_row, prediction_stride, heard, d, width)
                surprise = tl.where(heard[:, None], surprise, 0.0)
                error = tl.sqrt(tl.sum(surprise * surprise, 1))[:, None]
            unit = _pre_activation(
                receiver_rows, sender_row[None, :], length, distance_column[None, :], error, error_column[None, :]
            )
            d_unit = tl.where(unit > 0, d_score[:, None] * out[None, :], 0.0)
            d_key += tl.sum(d_score[:, None] * query, 0)
            d_sender += tl.sum(d_unit, 0)
            if PREDICTS:
                slope = tl.sum(d_unit * error_column[None, :], 1)[:, None]
                slope = tl.where(error > 0, slope / tl.where(error > 0, error, 1.0), 0.0)
                d_own += tl.sum(slope * surprise, 0)
        tl.store(d_incoming + row * 2 * hidden + own, d_query, mask=mask)
        tl.store(d_incoming + row * 2 * hidden + hidden + own, d_receiver, mask=mask)
        tl.store(d_outgoing + row * 2 * hidden + own, d_key, mask=mask)
        tl.store(d_outgoing + row * 2 * hidden + hidden + own, d_sender, mask=mask)
        if PREDICTS:
            tl.store(d_prediction + row * width + d, d_expected, mask=(d < width) & exists)
            tl.store(d_state + row * width + d, d_own, mask=(d < width) & exists)
    sums = partial + (model * tl.num_programs(0) + chunk) * (3 * hidden + 1)
    tl.store(sums + h, sum_error, mask=h < hidden)
    tl.store(sums + hidden + h, sum_dist, mask=h < hidden)
    tl.store(sums + 2 * hidden + h, sum_out, mask=h < hidden)
    tl.store(sums + 3 * hidden, sum_bias)


@triton.jit
def gate_kernel(
    message, scores, place, gate_weight, gate_bias, own, total, new_state, gate_sums, state_sums,
    num_nodes, images_per_model, width, K, messages_per_image, own_stride,
    EPILOGUE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Gated messages summed at some nodes of an image; with EPILOGUE, own is added (`total`), GELU taken (`new_state`).

    `gate_sums` (M, B, programs an image) and `state_sums` (M, B, programs an image, width) are this program's sums.
    """
    # All on the grid's first axis: the others end at 65,535.
    program = tl.program_id(0).to(tl.int64)
    programs = tl.cdiv(num_nodes, ROWS)
    image = program // programs
    model = image // images_per_model
    d = tl.arange(0, BLOCK_D)
    slots = tl.arange(0, BLOCK_K)
    weight = _load_row(gate_weight + model * width, d, width)
    bias = _load_row(gate_bias + model * width, d, width)
    gates = tl.zeros([BLOCK_D], tl.float32)
    states = tl.zeros([BLOCK_D], tl.float32)
    # Nodes that hear much lie together, so a program takes them from all over the image.
    first, last = image * num_nodes + program % programs, image * num_nodes + num_nodes
    # A node's row and places are loaded while the one before it is at work.
    next_places = tl.load(place + first * K + slots, mask=slots < K, other=-1)
    next_row = gates
    if EPILOGUE:
        next_row = _load_row(own + first * own_stride, d, width)
    for row in range(first, last, programs):
        places, heard = next_places, next_row
        ahead = row + programs
        next_places = tl.load(place + ahead * K + slots, mask=(slots < K) & (ahead < last), other=-1)
        if EPILOGUE:
            inside = (d < width) & (ahead < last)
            next_row = tl.load(own + ahead * own_stride + d, mask=inside, other=0.0).to(tl.float32)
        # Most nodes of a sparse graph hear nothing.
        if tl.max(places, 0) >= 0:
            for group in range(0, K, GROUP):
                if tl.max(tl.where((slots >= group) & (slots < group + GROUP), places, -1), 0) >= 0:
                    # Without a branch between them the messages of a group are loaded together.
                    for member in tl.static_range(GROUP):
                        slot = group + member
                        at = tl.load(place + row * K + slot, mask=slot < K, other=-1).to(tl.int64)
                        kept = (d < width) & (at >= 0)
                        score = tl.load(scores + row * K + slot, mask=at >= 0, other=0.0)
                        sent = tl.load(message + (image * messages_per_image + at) * width + d, mask=kept, other=0.0)
                        gate = tl.where(kept, tl.sigmoid(score * weight + bias), 0.0)
                        gates += gate
                        heard += gate * sent.to(tl.float32)
        tl.store(total + row * width + d, heard, mask=d < width)
        if EPILOGUE:
            active = 0.5 * heard * (1.0 + tl.erf(heard * 0.7071067811865476))
            states += active
            tl.store(new_state + row * width + d, active, mask=d < width)
    tl.store(gate_sums + program, tl.sum(gates, 0))
    if EPILOGUE:
        tl.store(state_sums + program * width + d, states, mask=d < width)


@triton.jit
def gate_backward_kernel(
    message, scores, place, rev, nbr, gate_weight, gate_bias, d_total, d_gate_sum, d_message, d_scores, partial,
    num_nodes, rows_per_model, width, K,
    BLOCK_D: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Messages of all nodes, one a node. `partial` (M, programs a model, 2 width): sums for gate_weight, gate_bias."""
    model = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    weight = _load_row(gate_weight + model * width, d, width)
    bias = _load_row(gate_bias + model * width, d, width)
    sum_weight = tl.zeros([BLOCK_D], tl.float32)
    sum_bias = tl.zeros([BLOCK_D], tl.float32)
    for in_model in range(chunk * ROWS, min(chunk * ROWS + ROWS, rows_per_model)):
        row = model * rows_per_model + in_model
        node = row % num_nodes
        first = row - node
        d_heard = _load_row(d_total + row * width, d, width)
        d_gates = tl.load(d_gate_sum + row // num_nodes)
        d_own_message = tl.zeros([BLOCK_D], tl.float32)
        for slot in range(K):
            other_row = first + tl.load(nbr + node * K + slot)
            d_score = 0.0
            if tl.load(place + row * K + slot) >= 0:
                score = tl.load(scores + row * K + slot)
                gate = tl.sigmoid(score * weight + bias)
                d_gate = _load_row(message + other_row * width, d, width) * d_heard + d_gates
                d_logit = tl.where(d < width, d_gate * gate * (1.0 - gate), 0.0)
                sum_weight += d_logit * score
                sum_bias += d_logit
                d_score = tl.sum(d_logit * weight, 0)
            tl.store(d_scores + row * K + slot, d_score)
            opposite = first * K + tl.load(rev + node * K + slot)
            if tl.load(place + opposite) >= 0:
                gate = tl.sigmoid(tl.load(scores + opposite) * weight + bias)
                d_own_message += gate * _load_row(d_total + other_row * width, d, width)
        tl.store(d_message + row * width + d, d_own_message, mask=d < width)
    sums = partial + (model * tl.num_programs(0) + chunk) * 2 * width
    tl.store(sums + d, sum_weight, mask=d < width)
    tl.store(sums + width + d, sum_bias, mask=d < width)
