"""Seeds that train together: each gets what it gets alone, and what happens to one does not touch the others."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT
from safetensors.torch import load_file
from training_runs import read_checkpoint, train

from afmp import AFMP
from afmp.errors import AfmpError
from afmp.model.sizes import build_model
from afmp.model.stack import hand_out_gradients, stack_models
from afmp.study.study import RunConfig, resolve_study
from afmp.training.run_training import next_group
from afmp.training.seed_state import Progress, SeedTraining

VARIANTS = {
    "sparse": ("paper", {}),
    "dense": ("paper", {"is_sparse": False}),
    "top-down": ("paper", {"use_top_down": True}),
    "notebook": ("notebook", {"use_top_down": True}),
}
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def config() -> RunConfig:
    """A small run on the digits whose learning rate falls at every epoch that does not improve."""
    study = yaml.safe_load((PROJECT / "config.yaml").read_text())
    study["dataset"]["source"] = "digits"
    study["model"] |= {"num_layers": 2, "d_model": 16}
    study["training"] |= {"epochs": 5, "batch_size": 64, "learning_rate": 0.002, "device": "cpu", "plateau_patience": 0}
    return resolve_study(study).runs["sparse_0.3"]


@pytest.fixture
def float64():
    """Compute in float64: AdamW makes a rounding of 1e-7 a difference that is seen within a few epochs."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def state_of(folder: Path, seed: int) -> dict:
    (checkpoint,) = (folder / "checkpoints").glob(f"seed_{seed}_*.safetensors")
    return read_checkpoint(checkpoint)[1]


def assert_same_seed(stacked: dict, alone: dict, folders: tuple[Path, Path]) -> None:
    """The same seed in two results: history, best epoch, schedule, weights."""
    for key in ("train_loss", "train_acc", "val_acc", "sparsity_loss"):
        assert stacked["training_history"][key] == pytest.approx(alone["training_history"][key], rel=1e-6), key
    for key in ("best_epoch", "best_val_accuracy", "test_accuracy"):
        assert stacked[key] == alone[key], key
    one, other = (state_of(folder, alone["seed"]) for folder in folders)
    assert one["learning_rate"] == other["learning_rate"] and one["schedule"] == other["schedule"]
    for name in ("best", "final"):
        mine, theirs = (load_file(folder / f"seed_{alone['seed']}/{name}.safetensors") for folder in folders)
        for key in theirs:
            torch.testing.assert_close(mine[key], theirs[key], rtol=1e-4, atol=1e-6, msg=f"{name} {key}")


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


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_losses_and_gradients_of_a_stack_are_those_of_its_models(config, variant):
    semantics, changes = VARIANTS[variant]
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


@pytest.mark.parametrize(
    "variant", [pytest.param(variant, marks=[pytest.mark.long] * (variant == "dense")) for variant in VARIANTS]
)
def test_seeds_that_train_together_end_as_each_does_alone(config, digits_file, tmp_path, float64, variant):
    semantics, changes = VARIANTS[variant]
    config = replace(config, model=replace(config.model, **changes))
    alone = train(config, tmp_path / "alone", digits_file, stack_seeds=False, semantics=semantics, seeds=SEEDS)
    stacked = train(config, tmp_path / "stacked", digits_file, stack_seeds=True, semantics=semantics, seeds=SEEDS)
    for one, other in zip(stacked, alone, strict=True):
        assert one["trained_together"] == list(SEEDS) and other["trained_together"] == [other["seed"]]
        assert_same_seed(one, other, (tmp_path / "stacked", tmp_path / "alone"))
    if variant == "sparse":  # else a schedule or best epoch of one seed, used for another, might not be seen
        assert alone[0]["best_epoch"] != alone[1]["best_epoch"]
        assert state_of(tmp_path / "alone", 0)["learning_rate"] != state_of(tmp_path / "alone", 1)["learning_rate"]


def test_on_a_cpu_seeds_train_one_after_the_other(config, digits_file, tmp_path):
    results = train(config, tmp_path, digits_file, stack_seeds=None, seeds=(0, 1))
    assert [result["trained_together"] for result in results] == [[0], [1]]


def test_seeds_killed_at_different_epochs_catch_up(config, digits_file, tmp_path, float64, monkeypatch):
    undisturbed = train(config, tmp_path / "undisturbed", digits_file, stack_seeds=True, seeds=(0, 1, 2))
    save = SeedTraining.save

    def save_or_die(training):
        if training.seed == 1 and training.progress.epoch == 2:
            raise KeyboardInterrupt
        save(training)

    monkeypatch.setattr("afmp.training.loop.CHECKPOINT_SHARE", float("inf"))
    monkeypatch.setattr(SeedTraining, "save", save_or_die)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "killed", digits_file, stack_seeds=True, seeds=(0, 1))
    monkeypatch.setattr(SeedTraining, "save", save)
    assert [state_of(tmp_path / "killed", seed)["epoch"] for seed in (0, 1)] == [2, 1]
    resumed = train(config, tmp_path / "killed", digits_file, stack_seeds=True, seeds=(0, 1, 2))
    for one, other in zip(resumed, undisturbed, strict=True):
        assert one["trained_together"] == [0, 1, 2]
        assert_same_seed(one, other, (tmp_path / "killed", tmp_path / "undisturbed"))


def test_the_seeds_furthest_behind_train_first():
    def seeds_at(*epochs):
        return [
            SeedTraining(seed, "", Path(), {}, None, None, None, Progress(epoch=epoch))
            for seed, epoch in enumerate(epochs)
        ]

    def following(*epochs, stack_seeds=True):
        group, until = next_group(seeds_at(*epochs), epochs=9, stack_seeds=stack_seeds)
        return [training.seed for training in group], until

    assert following(0, 0, 0) == ([0, 1, 2], 9)
    assert following(4, 2, 4, 2, 9) == ([1, 3], 4)
    assert following(9, 4) == ([1], 9)
    assert following(9, 4, 2, stack_seeds=False) == ([1], 9)
    assert next_group(seeds_at(9, 9), epochs=9, stack_seeds=True) is None


def test_a_seed_that_diverges_is_named_and_the_others_keep_what_they_have(config, digits_file, tmp_path, monkeypatch):
    built = []

    def build_second_one_broken(*arguments, **options):
        built.append(build_model(*arguments, **options))
        if len(built) == 2:
            torch.nn.init.constant_(built[1].embed.bias, float("inf"))
        return built[-1]

    monkeypatch.setattr("afmp.training.seed_state.build_model", build_second_one_broken)
    with pytest.raises(AfmpError, match=r"^tiny \[paper\] seed 1 diverged: .* in epoch 1, step 1 of \d+\. Lower"):
        train(config, tmp_path, digits_file, stack_seeds=True, seeds=(0, 1, 2))
    assert not list(tmp_path.rglob("*.json"))
    saved = sorted(path.name[:6] for path in (tmp_path / "checkpoints").iterdir())
    assert saved == ["seed_0", "seed_2"] and state_of(tmp_path, 0)["epoch"] == 1
    assert all(
        tensor.isfinite().all() for path in (tmp_path / "checkpoints").iterdir() for tensor in load_file(path).values()
    )


def test_checkpoints_are_written_only_as_often_as_their_time_allows(config, digits_file, tmp_path, monkeypatch):
    saved = []
    save = SeedTraining.save
    monkeypatch.setattr(SeedTraining, "save", lambda training: (saved.append(training.progress.epoch), save(training)))
    for share, expected in ((0.0, [1, 5]), (float("inf"), [1, 2, 3, 4, 5])):
        monkeypatch.setattr("afmp.training.loop.CHECKPOINT_SHARE", share)
        saved.clear()
        train(config, tmp_path / str(share), digits_file, stack_seeds=False, seeds=(0,))
        assert saved == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("variant", VARIANTS)
def test_graphs_on_a_gpu_repeat_their_bits_and_agree_with_training_alone(config, digits_file, tmp_path, variant):
    semantics, changes = VARIANTS[variant]
    training = replace(config.training, device="cuda", epochs=2)
    config = replace(config, model=replace(config.model, **changes), training=training)
    first, again, alone = (
        train(config, tmp_path / name, digits_file, stack_seeds=name != "alone", semantics=semantics, seeds=SEEDS)
        for name in ("first", "again", "alone")
    )
    for seed, (one, repeated, other) in enumerate(zip(first, again, alone, strict=True)):
        assert one["training_history"]["train_loss"] == repeated["training_history"]["train_loss"]
        mine, theirs = (load_file(tmp_path / f"{name}/seed_{seed}/final.safetensors") for name in ("first", "again"))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert one["peak_memory_mb"] > 0 and one["message_passing"] == "triton"
        one, other = (result["training_history"]["train_loss"][0] for result in (one, other))
        assert one == pytest.approx(other, rel=1e-2)
