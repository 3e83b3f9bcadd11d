"""Seeds that train as one stack: each ends as it does alone, and what happens to one does not change the others."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import MODEL_VARIANTS, STRONG_RECIPE, read_checkpoint, small_config, train

from afmp.errors import AfmpError
from afmp.model.sizes import build_model
from afmp.study.run_config import RunConfig
from afmp.training.run_training import next_group
from afmp.training.seed_state import Progress, SeedTraining

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def config() -> RunConfig:
    """A small run whose learning rate falls after every epoch that does not improve."""
    return small_config(epochs=5, learning_rate=0.002, plateau_patience=0)


@contextmanager
def float64():
    """Compute in float64. In float32, AdamW turns rounding of 1e-7 into visible differences within a few epochs."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def stack_of_three(config, few_digits_file, tmp_path_factory) -> tuple[Path, list[dict]]:
    """The folder and the results of three seeds that trained as one stack, under `paper`."""
    folder = tmp_path_factory.mktemp("stack_of_three")
    with float64():
        return folder, train(config, folder, few_digits_file, stack_seeds=True, seeds=(0, 1, 2))


def state_of(folder: Path, seed: int) -> dict:
    (checkpoint,) = (folder / "checkpoints").glob(f"seed_{seed}_*.safetensors")
    return read_checkpoint(checkpoint)[1]


def assert_same_seed(stacked: dict, alone: dict, folders: tuple[Path, Path]) -> None:
    """Check that one seed has the same history, best epoch, schedule and weights in two trainings."""
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


# `make long` runs them. Of the others, `notebook` has top-down refinement, too.
REPEATED = ("dense", "top-down")


@pytest.mark.promise("together-or-alone")
@pytest.mark.parametrize(
    "variant", [pytest.param(variant, marks=[pytest.mark.long] * (variant in REPEATED)) for variant in MODEL_VARIANTS]
)
def test_seeds_that_train_together_end_as_each_does_alone(config, few_digits_file, tmp_path, stack_of_three, variant):
    semantics, changes = MODEL_VARIANTS[variant]
    config = replace(config, model=replace(config.model, **changes))
    options = {"semantics": semantics, "seeds": SEEDS}
    with float64():
        alone = train(config, tmp_path / "alone", few_digits_file, stack_seeds=False, **options)
        if variant == "sparse":
            folder, stacked = stack_of_three
        else:
            folder = tmp_path / "stacked"
            stacked = train(config, folder, few_digits_file, stack_seeds=True, **options)
    for one, other in zip(stacked[: len(SEEDS)], alone, strict=True):
        assert one["trained_together"] == list(range(len(stacked))) and other["trained_together"] == [other["seed"]]
        assert_same_seed(one, other, (folder, tmp_path / "alone"))
    if variant == "sparse":  # otherwise a mixed-up schedule or best epoch of two seeds might go unnoticed
        assert alone[0]["best_epoch"] != alone[1]["best_epoch"]
        assert state_of(tmp_path / "alone", 0)["learning_rate"] != state_of(tmp_path / "alone", 1)["learning_rate"]


@pytest.mark.promise("together-or-alone")
@pytest.mark.long
def test_with_a_strong_recipe_too_seeds_that_train_together_end_as_each_does_alone(config, few_digits_file, tmp_path):
    config = replace(config, training=replace(config.training, **STRONG_RECIPE))
    folders = {stack_seeds: tmp_path / str(stack_seeds) for stack_seeds in (True, False)}
    with float64():
        stacked, alone = (
            train(config, folder, few_digits_file, stack_seeds=stack_seeds, semantics="refined", seeds=SEEDS)
            for stack_seeds, folder in folders.items()
        )
    for one, other in zip(stacked, alone, strict=True):
        assert one["trained_together"] == list(SEEDS) and other["trained_together"] == [other["seed"]]
        assert_same_seed(one, other, tuple(folders.values()))
    assert alone[0]["training_history"]["train_loss"] != alone[1]["training_history"]["train_loss"]


def test_on_a_cpu_seeds_train_one_after_the_other(config, few_digits_file, tmp_path):
    config = replace(config, training=replace(config.training, epochs=1))
    results = train(config, tmp_path, few_digits_file, stack_seeds=None, seeds=(0, 1))
    assert [result["trained_together"] for result in results] == [[0], [1]]


@pytest.mark.promise("seeds-catch-up")
def test_seeds_killed_at_different_epochs_catch_up(config, few_digits_file, tmp_path, stack_of_three, monkeypatch):
    folder, uninterrupted = stack_of_three
    save = SeedTraining.save

    def save_or_die(training):
        if training.seed == 1 and training.progress.epoch == 2:
            raise KeyboardInterrupt
        save(training)

    monkeypatch.setattr("afmp.training.loop.CHECKPOINT_SHARE", float("inf"))
    monkeypatch.setattr(SeedTraining, "save", save_or_die)
    with pytest.raises(KeyboardInterrupt), float64():
        train(config, tmp_path, few_digits_file, stack_seeds=True, seeds=(0, 1))
    monkeypatch.setattr(SeedTraining, "save", save)
    assert [state_of(tmp_path, seed)["epoch"] for seed in (0, 1)] == [2, 1]
    with float64():
        resumed = train(config, tmp_path, few_digits_file, stack_seeds=True, seeds=(0, 1, 2))
    for one, other in zip(resumed, uninterrupted, strict=True):
        assert one["trained_together"] == [0, 1, 2]
        assert_same_seed(one, other, (tmp_path, folder))


@pytest.mark.promise("seeds-catch-up")
def test_the_seeds_with_the_fewest_epochs_train_first():
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


@pytest.mark.promise("divergence")
def test_a_seed_that_diverges_is_named_and_the_others_keep_what_they_have(
    config, few_digits_file, tmp_path, monkeypatch
):
    built = []

    def build_second_one_broken(*arguments, **options):
        built.append(build_model(*arguments, **options))
        if len(built) == 2:
            torch.nn.init.constant_(built[1].embed.bias, float("inf"))
        return built[-1]

    monkeypatch.setattr("afmp.training.seed_state.build_model", build_second_one_broken)
    with pytest.raises(AfmpError, match=r"^tiny \[paper\] seed 1 diverged: .* in epoch 1, step 1 of \d+\. Lower"):
        train(config, tmp_path, few_digits_file, stack_seeds=True, seeds=(0, 1, 2))
    assert not list(tmp_path.rglob("*.json"))
    saved = sorted(path.name[:6] for path in (tmp_path / "checkpoints").iterdir())
    assert saved == ["seed_0", "seed_2"] and state_of(tmp_path, 0)["epoch"] == 1
    assert all(
        tensor.isfinite().all() for path in (tmp_path / "checkpoints").iterdir() for tensor in load_file(path).values()
    )


def test_checkpoints_are_written_only_as_often_as_their_time_allows(config, few_digits_file, tmp_path, monkeypatch):
    saved = []
    save = SeedTraining.save
    monkeypatch.setattr(SeedTraining, "save", lambda training: (saved.append(training.progress.epoch), save(training)))
    for share, expected in ((0.0, [1, 5]), (float("inf"), [1, 2, 3, 4, 5])):
        monkeypatch.setattr("afmp.training.loop.CHECKPOINT_SHARE", share)
        saved.clear()
        train(config, tmp_path / str(share), few_digits_file, stack_seeds=False, seeds=(0,))
        assert saved == expected


@pytest.mark.promise("same-bits-on-gpu")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("recipe", [{}, STRONG_RECIPE], ids=["plain", "strong"])
@pytest.mark.parametrize("variant", MODEL_VARIANTS)
def test_graphs_on_a_gpu_repeat_their_bits_and_agree_with_training_alone(
    config, few_digits_file, tmp_path, variant, recipe
):
    semantics, changes = MODEL_VARIANTS[variant]
    # At a high rate, training turns rounding into differences of percents.
    training = replace(config.training, device="cuda", epochs=2, learning_rate=1e-4, **recipe)
    config = replace(config, model=replace(config.model, **changes), training=training)
    first, again, alone = (
        train(config, tmp_path / name, few_digits_file, stack_seeds=name != "alone", semantics=semantics, seeds=SEEDS)
        for name in ("first", "again", "alone")
    )
    for seed, (one, repeated, other) in enumerate(zip(first, again, alone, strict=True)):
        assert one["training_history"]["train_loss"] == repeated["training_history"]["train_loss"]
        mine, theirs = (load_file(tmp_path / f"{name}/seed_{seed}/final.safetensors") for name in ("first", "again"))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert one["peak_memory_mb"] > 0 and one["message_passing"] == "triton"
        one, other = (result["training_history"]["train_loss"][0] for result in (one, other))
        assert one == pytest.approx(other, rel=1e-2)
