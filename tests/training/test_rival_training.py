"""Rivals trained for real on the digits: their numbers, resumed, side by side, and by hand."""

import json
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import PROJECT
from rival_runs import ARGUMENTS, VIT, prepare_small_digits, rival_config, train_rivals
from safetensors.torch import load_file
from torch.nn import functional as F
from training_runs import STRONG_RECIPE, assert_same_tensors, start_training, train, without_times

from afmp import cli
from afmp.data.augmentation import crop_and_normalise, crop_positions, epoch_plan
from afmp.data.dataset import load_dataset
from afmp.data.split import split_dataset
from afmp.machine.stopping import Stopped
from afmp.model.rival import build_rival
from afmp.model.stack import stack_models
from afmp.records import read_result
from afmp.training import loop
from afmp.training.job import WANTED_RUNS, train_job
from afmp.training.optimizer import build_optimizer
from afmp.training.run import Run
from afmp.training.step import TrainingStep, _restore, _snapshot


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory) -> Path:
    return prepare_small_digits(tmp_path_factory.mktemp("small"))


def test_a_rival_trains_as_a_plain_loop_of_pytorch(digits_file, tmp_path):
    config = rival_config("convmixer", learning_rate=0.01)
    (result,) = train(config, tmp_path, digits_file, semantics="timm")
    data, training = load_dataset(digits_file, device=torch.device("cpu")), config.training
    split = split_dataset(data, validate_on_test=False, fraction=training.validation_fraction, padding=4)
    torch.manual_seed(0)
    network = build_rival(config, num_classes=10).network
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=training.weight_decay)
    losses = []
    for epoch in (1, 2):
        plan = epoch_plan(len(split.train_index), seed=0, epoch=epoch)
        network.train()
        steps = []
        for rows in torch.arange(len(split.train_index)).split(training.batch_size):
            index = split.train_index[plan.order[rows]]
            places = crop_positions(split.train_images, index, plan.offsets[rows], plan.flips[rows])
            images = crop_and_normalise(split.train_images, *places, mean=data.mean, std=data.std)
            loss = F.cross_entropy(network(images), split.train_labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
        losses.append(np.mean(steps))
    np.testing.assert_allclose(result["training_history"]["train_loss"], losses, rtol=1e-4)
    final = load_file(tmp_path / "seed_0/final.safetensors")
    for name, expected in network.state_dict().items():
        torch.testing.assert_close(final[f"network.{name}"], expected, rtol=1e-2, atol=1e-3)


@pytest.mark.promise("rivals")
@pytest.mark.parametrize("name", ["vit", pytest.param("mixer", marks=pytest.mark.long), "convmixer"])
def test_a_rival_that_is_stopped_after_any_epoch_ends_with_the_same_bits(name, digits_file, tmp_path, monkeypatch):
    config = rival_config(name, epochs=3)
    train(config, tmp_path / "whole", digits_file, semantics="timm", seeds=(0, 1))
    monkeypatch.setattr(loop, "stop_requested", lambda: True)
    trainings = 0
    while trainings < 10:
        trainings += 1
        torch.manual_seed(trainings)  # the state of another process
        try:
            train(config, tmp_path / "stopped", digits_file, semantics="timm", seeds=(0, 1))
            break
        except Stopped:
            monkeypatch.setattr(loop, "stop_requested", iter([False, True, True]).__next__)
    assert trainings > 3
    for seed in (0, 1):
        whole, stopped = (tmp_path / which / f"seed_{seed}" for which in ("whole", "stopped"))
        results = [without_times(read_result(folder / "results_tiny.json")) for folder in (whole, stopped)]
        assert results[0] == results[1]
        for file in ("best", "final"):
            assert_same_tensors(whole / f"{file}.safetensors", stopped / f"{file}.safetensors")


@pytest.mark.promise("rivals", "killed-training-resumes")
@pytest.mark.long
@pytest.mark.parametrize("recipe", [{}, STRONG_RECIPE], ids=["plain", "strong"])
def test_a_rival_killed_at_random_moments_ends_with_the_same_bits(digits_file, tmp_path, recipe):
    config = rival_config("convmixer", epochs=4, **recipe)
    whole = start_training(config, tmp_path / "whole", digits_file, semantics=["timm"])
    assert whole.wait() == 0
    generator = random.Random(1)
    for kills_left in (2, 1, 0):
        process = start_training(config, tmp_path / "killed", digits_file, semantics=["timm"], share=1e9)
        if kills_left:
            checkpoints = tmp_path / "killed/timm/checkpoints"
            while process.poll() is None and not list(checkpoints.glob("*.safetensors")):
                pass
            signal.sigtimedwait([], generator.uniform(0, 0.2))
            process.kill()
        process.wait()
    folders = [tmp_path / which / "timm/seed_0" for which in ("whole", "killed")]
    for name in ("best.safetensors", "final.safetensors", "diagnostics.json"):
        assert folders[0].joinpath(name).read_bytes() == folders[1].joinpath(name).read_bytes()


def test_best_weights_have_the_statistics_of_their_own_epoch(digits_file, tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.9, 0.1])
    finish = loop._finish_epoch
    monkeypatch.setattr(
        loop, "_finish_epoch", lambda *rest, val_acc, **options: finish(*rest, val_acc=next(accuracies), **options)
    )
    (result,) = train(rival_config("convmixer", epochs=3), tmp_path, digits_file, semantics="timm")
    assert result["best_epoch"] == 2
    best, final = (load_file(tmp_path / f"seed_0/{which}.safetensors") for which in ("best", "final"))
    (counter, *_) = [name for name in best if name.endswith("num_batches_tracked")]
    assert 3 * int(best[counter]) == 2 * int(final[counter])


def test_the_average_of_a_rival_has_averaged_statistics(digits_file, tmp_path):
    train(rival_config("convmixer", ema_decay=0.9), tmp_path, digits_file, semantics="timm")
    (checkpoint,) = (tmp_path / "checkpoints").glob("*.safetensors")
    saved, final = load_file(checkpoint), load_file(tmp_path / "seed_0/final.safetensors")
    (name, *_) = [name for name in final if name.endswith("running_var")]
    assert torch.equal(final[name], saved[f"average/{name}"])
    assert not torch.equal(final[name], saved[f"model/{name}"]) and not torch.equal(final[name], torch.ones(8))


def test_the_snapshot_around_a_capture_covers_the_statistics_of_batch_norm(digits_file):
    config = rival_config("convmixer")
    data = load_dataset(digits_file, device=torch.device("cpu"))
    split = split_dataset(data, validate_on_test=False, fraction=0.1, padding=4)
    model = build_rival(config, num_classes=10)
    optimizer = build_optimizer(model, config.training, torch.device("cpu"))
    stack = stack_models([model])
    step = TrainingStep(stack, [model], [optimizer], data=data, split=split, training=config.training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    saved = _snapshot(step)
    step.begin([epoch_plan(len(split.train_index), seed=0, epoch=1)], epoch=1)
    step(step.batch_sizes[0])
    assert not any(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    _restore(step, saved)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.promise("divergence")
def test_a_statistic_that_is_not_finite_is_a_divergence(digits_file):
    config = rival_config("convmixer")
    data = load_dataset(digits_file, device=torch.device("cpu"))
    split = split_dataset(data, validate_on_test=False, fraction=0.1, padding=4)
    model = build_rival(config, num_classes=10)
    optimizer = build_optimizer(model, config.training, torch.device("cpu"))
    step = TrainingStep(model, [model], [optimizer], data=data, split=split, training=config.training)
    step.begin([epoch_plan(len(split.train_index), seed=0, epoch=1)], epoch=1)
    step(step.batch_sizes[0])
    assert step.read()[0].bad_step is None
    next(buffer for buffer in model.buffers() if buffer.is_floating_point()).fill_(float("inf"))
    assert step.read()[0].bad_step == 0


@pytest.fixture(scope="module")
def results(tmp_path_factory, digits_file) -> Path:
    """The results folder of a study of three rivals with two seeds."""
    return train_rivals(tmp_path_factory.mktemp("trained") / "results", digits_file)


def start_job(name: str, folder: Path, digits_file: Path, monkeypatch, wanted: list[str]) -> dict:
    """Run the job of one rival on a machine that seems to have one GPU."""
    monkeypatch.setenv(WANTED_RUNS, json.dumps([["paper", "dense"], *(["timm", run] for run in wanted)]))
    monkeypatch.setattr("afmp.machine.device.resolve_device", lambda name: torch.device("cuda"))
    config = rival_config(name)
    run = Run(name, "timm", config, {0: folder / name / "seed_0"}, folder / "checkpoints/timm" / name)
    plain = {other: rival_config(other).to_dict() for other in wanted}
    train_job(run, dataset_path=digits_file, study=plain, download_folder=folder, set_aside=folder / "set_aside" / name)
    return read_result(folder / name / f"seed_0/results_{name}.json")


@pytest.mark.promise("parallel-runs-have-their-bits")
def test_rivals_without_dropout_train_side_by_side_with_their_own_bits(results, digits_file, tmp_path, monkeypatch):
    first = start_job("mixer", tmp_path, digits_file, monkeypatch, list(ARGUMENTS))
    assert first["trained_beside"] == ["convmixer"]
    assert start_job("convmixer", tmp_path, digits_file, monkeypatch, [])["trained_beside"] == ["mixer"]
    for name in ("mixer", "convmixer"):
        for file in ("best", "final"):
            alone = results / f"train/timm/{name}/seed_0/{file}.safetensors"
            assert_same_tensors(tmp_path / name / f"seed_0/{file}.safetensors", alone)


def test_a_rival_with_dropout_trains_alone(digits_file, tmp_path, monkeypatch):
    assert start_job("vit", tmp_path, digits_file, monkeypatch, list(ARGUMENTS))["trained_beside"] == []


def test_seeds_of_a_rival_never_train_as_one_stack(digits_file, tmp_path):
    results = train(rival_config("mixer"), tmp_path, digits_file, semantics="timm", seeds=(0, 1), stack_seeds=True)
    assert [result["trained_together"] for result in results] == [[0], [1]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ARGUMENTS)
def test_rivals_train_on_a_gpu_each_seed_in_its_own_graph(name, digits_file, tmp_path):
    config = rival_config(name, device="cuda", learning_rate=0.001)
    results = train(config, tmp_path / "gpu", digits_file, semantics="timm", seeds=(0, 1))
    cpu = train(rival_config(name, learning_rate=0.001), tmp_path / "cpu", digits_file, semantics="timm", seeds=(0, 1))
    for one, other in zip(results, cpu, strict=True):
        assert one["trained_together"] == other["trained_together"] and one["peak_memory_mb"] > 0
        if name != "vit":  # whose dropout a GPU draws otherwise
            losses = [result["training_history"]["train_loss"] for result in (one, other)]
            np.testing.assert_allclose(*losses, rtol=0.02)


def test_the_command_trains_a_rival_and_refuses_a_semantics_of_afmp(digits_file, tmp_path, capsys):
    study = yaml.safe_load((PROJECT / "config.yaml").read_text())
    study["dataset"] |= {"source": "digits", "image_size": 8}
    study["training"] |= {"epochs": 1, "device": "cpu"}
    study["model"]["patch_size"] = 2
    line = {"run": "vit", "architecture": "timm/vit_tiny_patch16_224", "arguments": VIT}
    wrong = {"run": "wrong", "architecture": "timm/vit_tiny", "arguments": VIT}
    table = {"section": "1", "title": "Rivals", "figure": "rivals", "semantics": ["paper"], "reference": "vit"}
    study["studies"] = {"rivals": table | {"runs": [line, wrong]}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    words = ["train", "--config", tmp_path / "study.yaml", "--dataset", digits_file, "--output", tmp_path / "out"]

    def said(*more: str) -> tuple[int, str, str]:
        return cli.main([*map(str, words), *more]), *capsys.readouterr()

    status, out, _ = said("--run", "vit")
    assert status == 0 and out.startswith("seed 0: test accuracy ")
    assert read_result(tmp_path / "out/seed_0/results_vit.json")["semantics"] == "timm"
    status, _, err = said("--run", "vit", "--semantics", "refined")
    assert status == 2 and "--semantics: 'refined' is for AFMP, but run 'vit' is a model of timm" in err
    status, _, err = said("--run", "wrong")
    assert status == 2 and err.count("\n") == 1 and "'timm/vit_tiny': timm" in err


def test_runs_in_one_folder_keep_a_rival_and_its_argument_apart(digits_file, tmp_path):
    train(rival_config("mixer", epochs=1), tmp_path, digits_file, semantics="timm")
    wider = rival_config("mixer", epochs=1, arguments={"embed_dim": 12, "num_blocks": 1})
    train(wider, tmp_path, digits_file, semantics="timm")
    assert len(list((tmp_path / "checkpoints").glob("seed_0_*.safetensors"))) == 2


def test_what_timm_trains_without_decay_has_none():
    config = rival_config("vit", decay_vectors=False)
    rival = build_rival(config, num_classes=10)
    optimizer = build_optimizer(rival, config.training, torch.device("cpu"))
    decayed, others = (group["params"] for group in optimizer.param_groups)
    names = {id(parameter): name for name, parameter in rival.named_parameters()}
    undecayed = {names[id(parameter)] for parameter in others}
    assert {"network.pos_embed", "network.cls_token"} <= undecayed
    assert {parameter.dim() >= 2 for parameter in decayed} == {True} and len(decayed) + len(others) == len(names)
