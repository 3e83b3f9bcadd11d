"""A model against its definition: inner values and gradients, in float64."""

import torch

from afmp import AFMP


def random_images(model: AFMP, num_images: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    rows, columns = model.grid_shape
    shape = (num_images, 3, rows * model.patch_size, columns * model.patch_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def assert_equals_loops(model: AFMP, oracle) -> None:
    """Check all that a model in float64 computes, to 1e-9, against `oracle.run`, which computes it in loops."""
    images = random_images(model, 2, torch.float64)
    internals = model.forward_internals(images)
    logits, sparsity_loss, *by_layer = oracle.run(model, images)

    def assert_close(found, expected, what):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9, msg=lambda text: f"{what}: {text}")

    assert_close(internals.logits, logits, "logits")
    assert_close(model(images), logits, "forward")
    assert_close(internals.sparsity_loss, sparsity_loss, "sparsity loss")
    names = ("scores", "gates", "states", "refined_states")
    for name, expected in zip(names, by_layer, strict=True):
        for layer, tensor in enumerate(getattr(internals, name)):
            assert_close(tensor, expected[layer], f"{name} of layer {layer}")

    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    ours_logits, ours_loss = model.forward_train(images)
    target = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ours = torch.autograd.grad((target * ours_logits).sum() + ours_loss, parameters.values(), allow_unused=True)
    theirs = torch.autograd.grad((target * logits).sum() + sparsity_loss, parameters.values(), allow_unused=True)
    for name, found, expected in zip(parameters, ours, theirs, strict=True):
        zeros = torch.zeros_like(parameters[name])
        assert_close(zeros if found is None else found, zeros if expected is None else expected, name)
