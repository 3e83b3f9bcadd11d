"""A layer's packed weights: those of its modules, with gradients back to them, and U folded in full precision."""

import operator

import pytest
import torch
from plain_layers import normal, packed, packed_for_cpu, packed_tensors, weights_of
from torch._subclasses.fake_tensor import FakeTensorMode

from afmp import AFMP
from afmp.message_passing.implementation import KEPT_FUSED, KEPT_PYTORCH
from afmp.message_passing.weights import KEPT_EDGES, NARROW, fold_query, pack_layer
from afmp.model.paper import PredictiveRouter
from afmp.model.stack import stack_models

ORDERS = {KEPT_FUSED: (KEPT_EDGES, packed), KEPT_PYTORCH: (NARROW, packed_for_cpu)}


def pack(layer, path, dtype):
    return pack_layer(layer.parameters_by_kind(), path=path, order=ORDERS[path][0], dtype=dtype)


@pytest.mark.parametrize("path", ORDERS)
@pytest.mark.parametrize("models", [1, 3])
def test_a_packed_layer_has_the_weights_of_the_modules(models, path):
    torch.manual_seed(0)
    stack = stack_models([AFMP(2, 20, img_size=16, patch_size=4, num_classes=5) for _ in range(models)])
    for layer in stack.layers:
        found, expected = pack(layer, path, torch.float32), ORDERS[path][1](weights_of(layer))
        assert found.layout == expected.layout
        for ours, theirs in zip(packed_tensors(found), packed_tensors(expected), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("path", ORDERS)
@pytest.mark.parametrize("models", [None, 1, 3])
def test_gradients_of_a_packed_layer_reach_the_modules(models, path):
    torch.manual_seed(0)
    parts = [AFMP(2, 20, img_size=16, patch_size=4, num_classes=5).double() for _ in range(models or 1)]
    stack = parts[0] if models is None else stack_models(parts)
    for layer in stack.layers:
        leaves, gradients = [leaf for leaf in layer.parameters() if leaf.requires_grad], []
        for found in (pack(layer, path, torch.float64), ORDERS[path][1](weights_of(layer))):
            generator = torch.Generator().manual_seed(1)
            tensors = packed_tensors(found)
            value = sum((part * normal(*part.shape, generator=generator)).sum() for part in tensors)
            gradients.append(torch.autograd.grad(value, leaves, allow_unused=True))
        for ours, theirs in zip(*gradients, strict=True):
            assert (ours is None) == (theirs is None)
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("precision", "dtype"), [("highest", torch.float32), ("high", torch.float64)])
def test_u_is_folded_without_tf32_in_one_graph(precision, dtype):
    """Read the product from the graph of torch.compile, for fake tensors on CUDA, because only CUDA has TF32."""
    found = []

    def look(graph, _):
        found.extend(n.meta["example_value"].dtype for n in graph.graph.nodes if n.target is operator.matmul)
        return graph.forward

    torch.set_float32_matmul_precision(precision)
    try:
        with FakeTensorMode():
            with torch.device("cuda"):
                router = PredictiveRouter(24)
            fold = torch.compile(fold_query, backend=look, fullgraph=True)
            query = fold(router.U[None], router.W_q.weight[None], router.W_q.bias[None])
    finally:
        torch.set_float32_matmul_precision("highest")
    assert found == [dtype] and query.dtype == torch.float32
