"""The weights of all layers packed at once by Triton, against those packed layer by layer in PyTorch."""

import pytest
import torch
from fused_layers import DEVICE
from plain_layers import normal, packed_tensors

from afmp.message_passing.kept_edges import packing
from afmp.message_passing.weights import KEPT_EDGES, LayerParameters, pack_layer


def two_layers(models, d_model=6, hidden=3):
    """Return random parameters of two layers; the first has no prediction. All their sizes differ."""
    generator = torch.Generator().manual_seed(0)
    shapes = LayerParameters(
        u=(hidden, hidden), query=(hidden, d_model), query_bias=(hidden,), own=(d_model, d_model), own_bias=(d_model,),
        prediction=(d_model, d_model), prediction_bias=(d_model,), hidden=(hidden, 2 * d_model + 2),
        hidden_bias=(hidden,), key=(hidden, d_model), key_bias=(hidden,), message=(d_model, d_model),
        message_bias=(d_model,), out=(1, hidden), out_bias=(1,), gate=(d_model, 1), gate_bias=(d_model,),
    )  # fmt: skip
    first, second = (
        LayerParameters(
            *(normal(models, *shape, generator=generator).float().to(DEVICE).requires_grad_() for shape in shapes)
        )
        for _ in range(2)
    )
    return [first._replace(prediction=None, prediction_bias=None), second]


@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_equal_those_of_pytorch(models, dtype):
    layers = two_layers(models)
    generator = torch.Generator().manual_seed(1)
    found, expected = [], []
    for i, layer in enumerate(packing.pack_layers(layers, dtype)):
        plain = pack_layer(layers[i], path=layer.path, order=KEPT_EDGES, dtype=dtype)
        found += packed_tensors(layer)
        expected += packed_tensors(plain)
        assert layer.layout == plain.layout and layer.layout.predicts == (i > 0)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)
    factors = [normal(*part.shape, generator=generator).to(part) for part in expected]
    parameters = [part for layer in layers for part in layer if part is not None]
    gradients = [
        torch.autograd.grad(parts, parameters, factors, allow_unused=True, retain_graph=True)
        for parts in (found, expected)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_pytorch_accepts_the_packing_operator():
    by_kind = [part for kind in zip(*two_layers(2), strict=True) for part in kind if part is not None]
    torch.library.opcheck(packing.pack, (by_kind, [False, True], torch.bfloat16))


def test_u_is_folded_in_full_precision(monkeypatch):
    precisions = []
    bmm = torch.bmm
    monkeypatch.setattr(
        torch, "bmm", lambda *a, **k: (precisions.append(torch.get_float32_matmul_precision()), bmm(*a, **k))[1]
    )
    torch.set_float32_matmul_precision("high")
    try:
        packed_layers = packing.pack_layers(two_layers(2), torch.float32)
        sum(layer.weight.sum() for layer in packed_layers).backward()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert precisions == ["highest"] * len(precisions) and len(precisions) >= 5
