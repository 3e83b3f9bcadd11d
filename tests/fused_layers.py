"""One layer by the Triton kernels, for their tests: on a GPU where there is one, else in Triton's interpreter.

Errors are measured against float64. In float32 a relative error of 1e-4 is allowed, in half precision twice the error
of plain PyTorch in the same precision.
"""

import platform
import sys

import pytest
import torch
from plain_layers import (
    CASES,
    DEVICE,
    convert,
    layer_output,
    leaves_of,
    map_nodes,
    packed,
    packed_tensors,
    reference_layer,
    relative_error,
    results,
    tables_of,
)
from triton_interpreter import skip_repeated_work

from afmp import AFMP
from afmp.message_passing.layer import LayerOutput
from afmp.model.stack import stack_models

# torch installs Triton on Linux x86-64: there, a missing one is an error.
if (sys.platform, platform.machine()) != ("linux", "x86_64"):
    pytest.importorskip("triton", reason="Triton exists for Linux only")
from afmp.message_passing.all_edges import fused as all_edges
from afmp.message_passing.kept_edges import fused as kept_edges

skip_repeated_work()

# The interpreter is slow: the largest graph has the smaller size only, and `make long` runs cases that repeat another.
REPEATED = [("lone node", (1, 1, 16)), ("9 slots per node", (2, 2, 33))]
FUSED_CASES = [
    pytest.param(*case, marks=[pytest.mark.long] if case in REPEATED else [])
    for case in CASES
    if case != ("17 slots per node", (2, 2, 33))
]


def kept_edges_layer(state, weights, tables, k):
    """Compute a layer by the operator that keeps k edges per image."""
    layer = packed(weights)
    state, mean, gate_sum, scores, _, _, kept_index, *_ = kept_edges.kept_edges_layer(
        state, *packed_tensors(layer), *tables, k, layer.layout.predicts
    )
    return LayerOutput(state, mean, scores, scores, kept_index >= 0, gate_sum)


def all_edges_layer(state, weights, tables, keep):
    """Compute a layer by the two operators over all edges, on the edges `keep`."""
    maps = [weights.own, weights.message, weights.incoming, weights.outgoing]
    own, message, *mapped = map_nodes(state, maps + ([weights.prediction] if weights.prediction else []))
    surprise = (state, mapped[2]) if weights.prediction else (None, None)
    scores = all_edges.edge_scores_operator(mapped[0], mapped[1], *surprise, *weights.score, *tables)
    message_index = torch.where(keep, tables.nbr, -1).to(torch.int32)
    gates = weights.gate_weight, weights.gate_bias
    heard, gate_sum = all_edges.gated_sum_operator(message, scores, message_index, *gates, tables.nbr, tables.rev)
    return layer_output(own + heard, scores, keep, gate_sum)


def assert_equals_the_reference(output, inputs, exact_inputs, graph):
    """Compare a layer in float32, its gradients included, with the plain layer in float64 on the same edges."""
    exact = reference_layer(*exact_inputs, tables_of(graph, torch.float64)[0], keep=output.keep)
    torch.testing.assert_close(output.scores.double(), exact.scores, rtol=1e-4, atol=1e-4)
    pairs = zip(results(output, leaves_of(*inputs)), results(exact, leaves_of(*exact_inputs)), strict=True)
    for ours, theirs in pairs:
        assert relative_error(ours, theirs) < 1e-4


def assert_at_most_twice_as_far_off(output, inputs, state, weights, graph, dtype):
    """Compare a layer in half precision with plain PyTorch in the same precision, against float64."""
    # All three keep the same edges: rounding decides which edges are best.
    plain_inputs, exact_inputs = convert(state, weights, dtype), convert(state, weights, torch.float64)
    plain = reference_layer(*plain_inputs, tables_of(graph)[0], keep=output.keep)
    exact = reference_layer(*exact_inputs, tables_of(graph, torch.float64)[0], keep=output.keep)
    layers = ((output, inputs), (plain, plain_inputs), (exact, exact_inputs))
    triples = zip(*(results(layer, leaves_of(*given)) for layer, given in layers), strict=True)
    # Hardware rounds to bfloat16, but Triton's interpreter truncates: its error is up to one unit in the last place.
    truncates = dtype == torch.bfloat16 and DEVICE == "cpu"
    least = torch.finfo(dtype).eps / (1 if truncates else 8)
    for found, theirs, truth in triples:
        assert relative_error(found, truth) <= 2 * max(relative_error(theirs, truth), least)


def compiled_operators(function, images):
    """Return the result of `function` under torch.compile, and the kernels of AFMP in its graph.

    fullgraph: a break in the graph is an error.
    """
    found = set()

    def look(graph, _):
        found.update(str(node.target) for node in graph.graph.nodes if str(node.target).startswith("afmp."))
        return graph.forward

    torch.compiler.reset()  # only so many models may be compiled in one process
    return torch.compile(function, backend=look, fullgraph=True)(images), found


def small_model(models, **kind):
    """Return a stack of `models` models of 2 layers and 20 channels, or a single model for None."""
    torch.manual_seed(0)
    kind = {"sparsity": 0.4} | kind
    parts = [AFMP(2, 20, img_size=12, patch_size=4, num_classes=5, **kind) for _ in range(models or 1)]
    return (parts[0] if models is None else stack_models(parts)).to(DEVICE)
