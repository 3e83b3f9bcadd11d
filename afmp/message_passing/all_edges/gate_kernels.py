"""Triton kernels of the gated sums, forward and backward. `all_edges.pytorch.gated_sum` has the equation.

Sizes: M models, B images per model, N nodes per image, K slots per node, D channels. The nodes of all images of all
models are R = M * B * N rows, one after another. `message_index` is, for a kept slot, the index of its message among
the messages of its image, and -1 for a pruned slot. As in the kernels of the scores, sums are in float32, nothing is
scattered, and row indices are int64.
"""

import triton
import triton.language as tl

from afmp.message_passing.triton_rows import load_row


@triton.jit
def gate_kernel(
    message,  # (M, B, messages_per_image, D)
    scores,  # (R, K) float32
    message_index,  # (R, K) int32
    gate_weight,  # (M, D)
    gate_bias,  # (M, D)
    own,  # (R, D), `own_stride` elements from row to row; read with EPILOGUE only
    total,  # (R, D), result: the gated sums; with EPILOGUE, plus own
    new_state,  # (R, D), result with EPILOGUE: GELU(total)
    gate_sums,  # (M, B, programs per image) float32, result: the sum of this program's gates
    state_sums,  # (M, B, programs per image, D) float32, result with EPILOGUE: the sum of this program's new states
    num_nodes, images_per_model, channels, K, messages_per_image, own_stride,
    EPILOGUE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
    NODES_PER_PROGRAM: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """One program per NODES_PER_PROGRAM nodes of one image: their gated sums, one node at a time.

    With EPILOGUE it also completes the layer: GELU(own + gated sum). Messages are loaded in groups of GROUP slots.
    """
    # The grid has one axis, because the others are limited to 65,535 programs.
    program = tl.program_id(0).to(tl.int64)
    programs = tl.cdiv(num_nodes, NODES_PER_PROGRAM)
    image = program // programs
    model = image // images_per_model
    d = tl.arange(0, BLOCK_D)
    slots = tl.arange(0, BLOCK_K)
    weight = load_row(gate_weight + model * channels, d, channels)
    bias = load_row(gate_bias + model * channels, d, channels)
    gates = tl.zeros([BLOCK_D], tl.float32)
    states = tl.zeros([BLOCK_D], tl.float32)
    # Nodes that receive many messages are close to each other, so a program's nodes are spread over the image.
    first, end = image * num_nodes + program % programs, image * num_nodes + num_nodes
    # The next node's row and message indices are loaded while this node is computed.
    next_indices = tl.load(message_index + first * K + slots, mask=slots < K, other=-1)
    next_own = gates
    if EPILOGUE:
        next_own = load_row(own + first * own_stride, d, channels)
    for row in range(first, end, programs):
        indices, heard = next_indices, next_own
        next_row = row + programs
        next_indices = tl.load(message_index + next_row * K + slots, mask=(slots < K) & (next_row < end), other=-1)
        if EPILOGUE:
            inside = (d < channels) & (next_row < end)
            next_own = tl.load(own + next_row * own_stride + d, mask=inside, other=0.0).to(tl.float32)
        # Most nodes of a sparse graph receive no message.
        if tl.max(indices, 0) >= 0:
            for group in range(0, K, GROUP):
                if tl.max(tl.where((slots >= group) & (slots < group + GROUP), indices, -1), 0) >= 0:
                    # No branch separates the messages of a group, so they are loaded together.
                    for member in tl.static_range(GROUP):
                        slot = group + member
                        index = tl.load(message_index + row * K + slot, mask=slot < K, other=-1).to(tl.int64)
                        kept = (d < channels) & (index >= 0)
                        score = tl.load(scores + row * K + slot, mask=index >= 0, other=0.0)
                        sent_row = image * messages_per_image + index
                        sent = tl.load(message + sent_row * channels + d, mask=kept, other=0.0)
                        gate = tl.where(kept, tl.sigmoid(score * weight + bias), 0.0)
                        gates += gate
                        heard += gate * sent.to(tl.float32)
        tl.store(total + row * channels + d, heard, mask=d < channels)
        if EPILOGUE:
            active = 0.5 * heard * (1.0 + tl.erf(heard * 0.7071067811865476))
            states += active
            tl.store(new_state + row * channels + d, active, mask=d < channels)
    tl.store(gate_sums + program, tl.sum(gates, 0))
    if EPILOGUE:
        tl.store(state_sums + program * channels + d, states, mask=d < channels)


@triton.jit
def gate_backward_kernel(
    message,  # (R, D): one message per node
    scores,  # (R, K) float32
    message_index,  # (R, K) int32
    rev,  # (N, K) int64
    nbr,  # (N, K) int64
    gate_weight,  # (M, D)
    gate_bias,  # (M, D)
    d_total,  # (R, D)
    d_gate_sum,  # (M, B) float32
    d_message,  # (R, D), result
    d_scores,  # (R, K) float32, result
    partial,  # (M, programs per model, 2D) float32, result: this program's sums for gate_weight, gate_bias
    num_nodes, rows_per_model, channels, K, BLOCK_D: tl.constexpr, ROWS_PER_PROGRAM: tl.constexpr,
):  # fmt: skip
    """One program per ROWS_PER_PROGRAM nodes of one model: the gradients of these nodes, one slot at a time.

    The gates are computed again.
    """
    model = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    weight = load_row(gate_weight + model * channels, d, channels)
    bias = load_row(gate_bias + model * channels, d, channels)
    sum_weight = tl.zeros([BLOCK_D], tl.float32)
    sum_bias = tl.zeros([BLOCK_D], tl.float32)
    begin = chunk * ROWS_PER_PROGRAM
    for in_model in range(begin, min(begin + ROWS_PER_PROGRAM, rows_per_model)):
        row = model * rows_per_model + in_model
        node = row % num_nodes
        first = row - node
        d_heard = load_row(d_total + row * channels, d, channels)
        d_gates = tl.load(d_gate_sum + row // num_nodes)
        d_own_message = tl.zeros([BLOCK_D], tl.float32)
        for slot in range(K):
            other_row = first + tl.load(nbr + node * K + slot)
            d_score = 0.0
            if tl.load(message_index + row * K + slot) >= 0:
                score = tl.load(scores + row * K + slot)
                gate = tl.sigmoid(score * weight + bias)
                d_gate = load_row(message + other_row * channels, d, channels) * d_heard + d_gates
                d_logit = tl.where(d < channels, d_gate * gate * (1.0 - gate), 0.0)
                sum_weight += d_logit * score
                sum_bias += d_logit
                d_score = tl.sum(d_logit * weight, 0)
            tl.store(d_scores + row * K + slot, d_score)
            opposite = first * K + tl.load(rev + node * K + slot)
            if tl.load(message_index + opposite) >= 0:
                gate = tl.sigmoid(tl.load(scores + opposite) * weight + bias)
                d_own_message += gate * load_row(d_total + other_row * channels, d, channels)
        tl.store(d_message + row * channels + d, d_own_message, mask=d < channels)
    sums = partial + (model * tl.num_programs(0) + chunk) * 2 * channels
    tl.store(sums + d, sum_weight, mask=d < channels)
    tl.store(sums + channels + d, sum_bias, mask=d < channels)
