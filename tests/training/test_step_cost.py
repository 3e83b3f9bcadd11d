"""The measured cost of a training step: what it says, and that it changes nothing else."""

from dataclasses import replace

import pytest
import torch
from rival_runs import DATASET, prepare_small_digits, rival_config
from safetensors.torch import load_file
from training_runs import STRONG_RECIPE, small_config, train

from afmp.errors import AfmpError

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


CONFIGS = {
    "paper": replace(small_config(epochs=2, patch_size=2, batch_size=128), dataset=DATASET),
    "refined": replace(small_config(epochs=2, patch_size=2, batch_size=128, **STRONG_RECIPE), dataset=DATASET),
    "timm": rival_config("vit"),  # with dropout
}


@pytest.fixture(scope="module")
def small_digits(tmp_path_factory):
    return prepare_small_digits(tmp_path_factory.mktemp("digits"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "semantics", ["paper", *(pytest.param(name, marks=pytest.mark.long) for name in ("refined", "timm"))]
)
def test_a_measured_step_changes_no_other_number(small_digits, tmp_path, semantics, device):
    config = CONFIGS[semantics]
    measured, plain = (
        train(
            replace(config, training=replace(config.training, measure_step=measure, device=device)),
            tmp_path / str(measure),
            small_digits,
            semantics=semantics,
            seeds=(0, 1),
        )
        for measure in (True, False)
    )
    for with_step, without in zip(measured, plain, strict=True):
        step, times = with_step["step"], with_step["step"]["milliseconds"]
        assert 0 < times["q25"] <= times["median"] <= times["q75"] and times["n"] >= 3
        assert (step["memory_mb"] is None) == (device == "cpu") and "step" not in without
        assert with_step["training_history"]["train_loss"] == without["training_history"]["train_loss"]
        mine, theirs = (
            load_file(tmp_path / f"{name}/seed_{with_step['seed']}/final.safetensors") for name in ("True", "False")
        )
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_training_that_resumes_keeps_what_was_measured(small_digits, tmp_path, monkeypatch):
    monkeypatch.setattr("afmp.training.run_training.write_seed", lambda *_, **__: None)
    config = replace(CONFIGS["paper"], training=replace(CONFIGS["paper"].training, measure_step=True))
    with pytest.raises(AfmpError, match="no such file"):
        train(config, tmp_path, small_digits)
    monkeypatch.undo()
    monkeypatch.setattr("afmp.training.run_training.measure_step", None)  # a second measurement would fail
    (result,) = train(config, tmp_path, small_digits)
    assert result["step"]["milliseconds"]["n"] == 3
