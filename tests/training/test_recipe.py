"""The recipe of a training, part by part against plain PyTorch: schedule, weight decay, clipping and averaging."""

from dataclasses import replace

import pytest
import torch
from training_runs import small_config

from afmp.data.augmentation import epoch_plan
from afmp.data.dataset import load_dataset
from afmp.data.split import split_dataset
from afmp.model.sizes import build_model
from afmp.model.stack import stack_models
from afmp.study.run_config import TrainingConfig
from afmp.training.optimizer import build_optimizer, build_schedule, learning_rates
from afmp.training.step import TrainingStep

CPU = torch.device("cpu")


def training_with(**changes) -> TrainingConfig:
    return replace(small_config().training, **changes)


def set_up_step(digits_file, training: TrainingConfig, *, seeds=(0,)) -> TrainingStep:
    """Return the step of a stack of small models, one per random seed, at the start of the first epoch."""
    data = load_dataset(digits_file)
    split = split_dataset(data, validate_on_test=False, fraction=0.1, padding=training.crop_padding)
    models = []
    for seed in seeds:
        torch.manual_seed(seed)
        models.append(build_model(replace(small_config(), training=training), semantics="paper", num_classes=10))
    stack = stack_models(models)
    optimizers = [build_optimizer(model, training, CPU) for model in models]
    step = TrainingStep(stack, models, optimizers, data=data, split=split, training=training)
    step.begin([epoch_plan(len(split.train_index), seed=seed, epoch=1) for seed in seeds], epoch=1)
    return step


@pytest.mark.parametrize(("epochs", "warmup"), [(6, 0), (6, 2), (6, 5), (1, 0)])
def test_the_cosine_with_warm_up_is_that_of_pytorch(epochs, warmup):
    training, num_steps = training_with(schedule="cosine", epochs=epochs, warmup_epochs=warmup), 7
    found = [rate for e in range(1, epochs + 1) for rate in learning_rates(training, epoch=e, num_steps=num_steps)]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=training.learning_rate)
    steps, rise = epochs * num_steps, warmup * num_steps
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - rise)
    if warmup:
        rising = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / rise, 1.0, total_iters=rise - 1)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, schedule], milestones=[rise])
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert max(found) == training.learning_rate and found[-1] < found[0] + training.learning_rate / 7
    assert build_schedule(optimizer, training) is None


@pytest.mark.parametrize("decay_vectors", [True, False])
def test_every_step_of_every_seed_has_the_learning_rate_of_its_schedule(digits_file, decay_vectors):
    training = training_with(schedule="cosine", epochs=4, warmup_epochs=1, batch_size=500, decay_vectors=decay_vectors)
    step = set_up_step(digits_file, training, seeds=(0, 1))
    plans = [epoch_plan(step.plan.shape[2], seed=seed, epoch=2) for seed in (0, 1)]
    for epoch in (1, 2):
        step.begin(plans, epoch=epoch)
        used = []
        for batch_size in step.batch_sizes:
            step(batch_size)
            used.append([group["lr"] for optimizer in step.optimizers for group in optimizer.param_groups])
        expected = learning_rates(training, epoch=epoch, num_steps=len(step.batch_sizes))
        for rates, rate in zip(used, expected, strict=True):
            assert rates == pytest.approx([rate] * (2 if decay_vectors else 4), rel=1e-6)


@pytest.mark.parametrize("decay_vectors", [True, False])
def test_vectors_decay_only_if_the_recipe_says_so(digits_file, decay_vectors):
    """Without gradients AdamW only decays."""
    training = training_with(learning_rate=0.5, weight_decay=0.5, decay_vectors=decay_vectors)
    model = build_model(small_config(), semantics="refined", num_classes=10)
    optimizer = build_optimizer(model, training, CPU)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.75 if decay_vectors or parameter.dim() >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)
    assert {parameter.dim() for parameter in model.parameters()} >= {1, 2}
