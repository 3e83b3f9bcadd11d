"""Stacks of models: outputs, losses and gradients are those of the models alone."""

from dataclasses import replace

import pytest
import torch
from training_runs import MODEL_VARIANTS, small_config

from afmp import AFMP
from afmp.errors import AfmpError
from afmp.model.sizes import build_model
from afmp.model.stack import hand_out_gradients, stack_models


def test_a_stack_and_its_models_share_their_memory():
    models = [AFMP(num_layers=1, d_model=16, img_size=16) for _ in range(2)]
    before = [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models]
    stack = stack_models(models)
    assert stack.is_stack and not models[0].is_stack
    for model, weights in zip(models, before, strict=True):
        assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        models[1].layers[0].router.U.fill_(7.0)
        stack.embed.bias[0] = 3.0
    assert (stack.layers[0].router.U[1] == 7).all() and not (stack.layers[0].router.U[0] == 7).any()
    assert (models[0].embed.bias == 3).all() and not (models[1].embed.bias == 3).any()
    with pytest.raises(AfmpError, match="different graphs"):
        stack_models([models[0], AFMP(num_layers=1, d_model=16, img_size=16, scaffold="window", window_size=1)])


@pytest.mark.parametrize("variant", MODEL_VARIANTS)
def test_logits_losses_and_gradients_of_a_stack_are_those_of_its_models(variant):
    semantics, changes = MODEL_VARIANTS[variant]
    config = small_config()
    config = replace(config, model=replace(config.model, **changes))
    torch.manual_seed(0)
    models = [build_model(config, semantics=semantics, num_classes=10).double() for _ in range(3)]
    images = torch.randn(3, 5, 3, config.dataset.image_size, config.dataset.image_size, dtype=torch.float64)
    expected = []
    for model, own in zip(models, images, strict=True):
        logits, sparsity_loss = model.forward_train(own)
        (logits.square().sum() + 1e3 * sparsity_loss).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        expected.append((logits.detach(), sparsity_loss.detach(), gradients))
    stack = stack_models(models)
    logits, sparsity_loss = stack.forward_train(images)
    (logits.square().sum() + 1e3 * sparsity_loss.sum()).backward()
    hand_out_gradients(stack, models)
    torch.testing.assert_close(stack(images), logits)
    for number, (model, (own_logits, own_loss, gradients)) in enumerate(zip(models, expected, strict=True)):
        torch.testing.assert_close(logits[number], own_logits)
        torch.testing.assert_close(sparsity_loss[number], own_loss)
        for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
            assert (parameter.grad is None) == (gradient is None), name  # AdamW skips a weight without a gradient
            if gradient is not None:
                torch.testing.assert_close(parameter.grad, gradient)
