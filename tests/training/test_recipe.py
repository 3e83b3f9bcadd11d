"""The recipe of a training, part by part against plain PyTorch: schedule, weight decay, clipping and averaging."""

import copy
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel
from training_runs import small_config, train

from afmp.data.augmentation import EpochPlan, crop_and_normalise, crop_positions, epoch_plan
from afmp.data.dataset import load_dataset
from afmp.data.split import split_dataset
from afmp.model.sizes import build_model
from afmp.model.stack import stack_models
from afmp.records import read_diagnostics
from afmp.study.run_config import TrainingConfig
from afmp.training.evaluation import count_correct
from afmp.training.gates import describe_gates
from afmp.training.optimizer import build_optimizer, build_schedule, learning_rates, optimizer_tensors
from afmp.training.plan import draw_plan, mixes_images
from afmp.training.step import TrainingStep, _restore, _snapshot

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits_file(few_digits_file) -> Path:
    return few_digits_file


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
    "clipping": {"clip_norm": 0.5},
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
        if mixes_images(training):
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
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norm = sum(gradient.square().sum() for gradient in gradients).sqrt().item()
        for gradient in gradients if training.clip_norm else []:
            gradient *= min(1.0, training.clip_norm / norm)
        optimizer.step()
        correct = (logits.argmax(1) == targets.argmax(1)).sum().item()
        measured.append(((loss + sparsity_loss).item(), correct))
    return measured


def test_a_gradient_is_clipped_by_the_norm_of_its_own_model(digits_file, monkeypatch):
    training, norms = training_with(batch_size=300, clip_norm=0.05), []
    step = set_up_step(digits_file, training, seeds=(0, 1))
    with torch.no_grad():  # the gradient of the second model is so small that nothing is clipped
        step.models[1].readout["2"].weight.mul_(1e-4)
        step.models[1].readout["2"].bias.copy_(step.split.train_labels.bincount().log())
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda optimizer: norms.append(norm_of(optimizer)))
    step.begin([epoch_plan(step.plan.shape[2], seed=seed, epoch=1) for seed in (0, 1)], epoch=1)
    step(300)
    assert norms[0] == pytest.approx(0.05, rel=1e-4) and norms[1] < 0.05


def norm_of(optimizer) -> float:
    (group,) = optimizer.param_groups
    return torch.cat([one.grad.flatten() for one in group["params"] if one.grad is not None]).norm().item()


def test_the_average_is_that_of_swa_utils(digits_file):
    training = training_with(batch_size=40, ema_decay=0.6)
    seeds = (0, 1)
    step = set_up_step(digits_file, training, seeds=seeds)
    assert len(step.batch_sizes) > 9  # so that the decay has reached ema_decay in the second epoch
    initial = [copy.deepcopy(model) for model in step.models]
    averages = [copy.deepcopy(model) for model in step.models]
    step.average = stack_models(averages)
    expected = []
    for model in initial:
        expected.append(AveragedModel(model, avg_fn=warm_average))
        expected[-1].n_averaged += 1  # the average starts from the initial weights
    for epoch in (1, 2):
        step.begin([epoch_plan(step.plan.shape[2], seed=seed, epoch=epoch) for seed in seeds], epoch=epoch)
        for batch_size in step.batch_sizes:
            step(batch_size)
            for model, average in zip(step.models, expected, strict=True):
                average.update_parameters(model)
    for model, average, mine in zip(step.models, expected, averages, strict=True):
        for (name, found), theirs in zip(mine.named_parameters(), average.module.parameters(), strict=True):
            torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-6, msg=name)
        assert not torch.equal(mine.embed.weight, model.embed.weight)


def warm_average(average: torch.Tensor, weight: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """Return the average after step `number`, counted from 1, with a decay of at most 0.6."""
    return torch.lerp(average, weight, 1 - torch.clamp(number / (9 + number), max=0.6))


def test_the_average_is_what_is_evaluated_described_and_saved(digits_file, tmp_path):
    config = small_config(epochs=2)
    results = {}
    for decay in (0.0, 0.9):
        training = replace(config.training, ema_decay=decay)
        (results[decay],) = train(replace(config, training=training), tmp_path / str(decay), digits_file)
    losses = [result["training_history"]["train_loss"] for result in results.values()]
    assert losses[0] == losses[1]  # the weights that train are the same
    folder, data = tmp_path / "0.9", load_dataset(digits_file)
    (checkpoint,) = (folder / "checkpoints").glob("*.safetensors")
    saved = load_file(checkpoint)
    split = split_dataset(data, validate_on_test=False, fraction=0.1, padding=4)
    for name, epoch in (("best", results[0.9]["best_epoch"]), ("final", 2)):
        weights = load_file(folder / f"seed_0/{name}.safetensors")
        model = build_model(config, semantics="paper", num_classes=10)
        model.load_state_dict(weights)
        correct = count_correct(
            stack_models([model]), split.val_images, split.val_labels, data=data, training=config.training
        )
        recorded = results[0.9]["training_history"]["val_acc"][epoch - 1]
        assert recorded == pytest.approx(100 * correct.item() / len(split.val_labels))
        if name == "final":
            assert all(torch.equal(weights[key], saved[f"average/{key}"]) for key in weights)
            assert not torch.equal(weights["embed.weight"], saved["model/embed.weight"])
            gates = read_diagnostics(folder / "seed_0/diagnostics.json")["epochs"]["2"]
            assert gates == describe_gates(model, data, image_index=0)


def test_steps_before_a_capture_leave_no_trace(digits_file):
    """A CUDA graph is captured after steps that must not count: weights, averages and moments are as before."""
    step = set_up_step(digits_file, training_with(batch_size=300, ema_decay=0.9), seeds=(0, 1))
    step.average = stack_models([copy.deepcopy(model) for model in step.models])
    plans = [epoch_plan(step.plan.shape[2], seed=seed, epoch=1) for seed in (0, 1)]

    def state() -> list[torch.Tensor]:
        moments = [optimizer_tensors(*pair).values() for pair in zip(step.models, step.optimizers, strict=True)]
        weights = [*step.stack.parameters(), *step.average.parameters()]
        return [tensor.detach().clone() for tensor in [*weights, *itertools.chain(*moments)]]

    def train_one() -> None:
        step.begin(plans, epoch=1)
        step(300)

    for after in (0, 1):  # before AdamW has any state, and with it
        for _ in range(after):
            train_one()
        before, saved = state(), _snapshot(step)
        train_one()
        assert not torch.equal(state()[0], before[0])
        _restore(step, saved)
        restored = state()
        assert all(torch.equal(now, then) for now, then in zip(restored, before, strict=False))
        assert not any(moment.any() for moment in restored[len(before) :])
