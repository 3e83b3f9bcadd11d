"""The recipe of a training, part by part against plain PyTorch: schedule, weight decay, clipping and averaging."""

from dataclasses import replace

import pytest
import torch
from training_runs import small_config

from afmp.data.augmentation import EpochPlan, crop_and_normalise, crop_positions, epoch_plan
from afmp.data.dataset import load_dataset
from afmp.data.split import split_dataset
from afmp.model.sizes import build_model
from afmp.model.stack import stack_models
from afmp.study.run_config import TrainingConfig
from afmp.training.optimizer import build_optimizer, build_schedule, learning_rates
from afmp.training.plan import draw_plan
from afmp.training.step import TrainingStep

CPU = torch.device("cpu")


def training_with(**changes) -> TrainingConfig:
    return replace(small_config().training, **changes)


def set_up_step(digits_file, training: TrainingConfig, *, seeds=(0,)) -> TrainingStep:
    """Return the step of a stack of small models, one per random seed, before the first epoch."""
    data = load_dataset(digits_file)
    split = split_dataset(data, validate_on_test=False, fraction=0.1, padding=training.crop_padding)
    models = []
    for seed in seeds:
        torch.manual_seed(seed)
        models.append(build_model(replace(small_config(), training=training), semantics="paper", num_classes=10))
    stack = stack_models(models)
    optimizers = [build_optimizer(model, training, CPU) for model in models]
    return TrainingStep(stack, models, optimizers, data=data, split=split, training=training)


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


RECIPES = {
    "label smoothing": {"label_smoothing": 0.1},
    "erasing": {"erasing_probability": 0.5},
    "mixup": {"mixup_alpha": 0.8},
    "cutmix": {"cutmix_alpha": 1.0},
    "either": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "label_smoothing": 0.1, "erasing_probability": 0.25},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_an_epoch_has_the_loss_of_soft_labels_on_mixed_images(digits_file, recipe):
    """Against plain PyTorch on one model: its own loop over batches, images and pixels of a box."""
    training = training_with(batch_size=300, **recipe)
    step, seeds = set_up_step(digits_file, training, seeds=(0, 1)), (0, 1)
    options = {"num_images": step.plan.shape[2], "image_shape": (32, 32), "epoch": 1}
    plans = [draw_plan(training, seed=seed, **options) for seed in seeds]
    step.begin(plans, epoch=1)
    for batch_size in step.batch_sizes:
        step(batch_size)
    for seed, plan, found in zip(seeds, plans, step.record.unbind(2), strict=True):
        expected = plain_epoch(step.data, step.split, training, plan, seed=seed)
        torch.testing.assert_close(found[:, :2].double(), torch.tensor(expected).double(), rtol=2e-4, atol=1e-5)
    correct = 100 * step.record[:, 1].sum(dim=0) / step.plan.shape[2]
    assert [sums.accuracy for sums in step.read()] == pytest.approx(correct.tolist())


def plain_epoch(data, split, training: TrainingConfig, plan: EpochPlan, *, seed: int) -> list[tuple[float, int]]:
    """Return loss and number of correct answers of each batch of a model that trains alone."""
    torch.manual_seed(seed)
    model = build_model(small_config(), semantics="paper", num_classes=10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    measured = []
    for number, rows in enumerate(torch.arange(len(plan.order)).split(training.batch_size)):
        index = split.train_index[plan.order[rows]]
        crops = crop_positions(split.train_images, index, plan.offsets[rows], plan.flips[rows])
        images = crop_and_normalise(split.train_images, *crops, mean=data.mean, std=data.std)
        for image, row in zip(images, rows.tolist(), strict=True):
            top, left, bottom, right = plan.erased[row].tolist() if training.erasing_probability else (0, 0, 0, 0)
            image[:, top:bottom, left:right] = 0
        targets = torch.nn.functional.one_hot(split.train_labels[index], 10).float()
        if training.mixes_images:
            top, left, bottom, right = plan.mix_boxes[number].tolist()
            outside, own = plan.mix_weights[number].tolist()
            other = images.flip(0)
            mixed = outside * images + (1 - outside) * other
            mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
            images, targets = mixed, own * targets + (1 - own) * targets.flip(0)
        logits, sparsity_loss = model.forward_train(images)
        loss = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=training.label_smoothing)
        optimizer.zero_grad()
        (loss + sparsity_loss).backward()
        optimizer.step()
        correct = (logits.argmax(1) == targets.argmax(1)).sum().item()
        measured.append(((loss + sparsity_loss).item(), correct))
    return measured
