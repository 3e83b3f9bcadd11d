"""Gradients of a compiled model. PyTorch 2.11 loses some where an autograd.Function returns its own tensors."""

import pytest
import torch
from replayed_models import DEVICE, KINDS, images_of, replayed_model

pytestmark = pytest.mark.long


def gradients_of(model, function, dtype) -> dict[str, torch.Tensor | None]:
    model.zero_grad()
    with torch.autocast(DEVICE, dtype=dtype, enabled=dtype is not None):
        logits, sparsity_loss = function(images_of(0), return_sparsity_loss=True)
    (logits.float().square().sum() + sparsity_loss).backward()
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_model_has_the_gradients_of_the_model(kind, dtype):
    model = replayed_model(kind)
    model.set_replay(False)
    expected = gradients_of(model, model, dtype)
    torch.compiler.reset()
    found = gradients_of(model, torch.compile(model, backend="eager", fullgraph=True), dtype)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
