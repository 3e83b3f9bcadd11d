"""Scalars for TensorBoard, as TensorBoard itself reads them."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import PROJECT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from training_runs import read_checkpoint, run_in, small_config

from afmp import cli
from afmp.errors import AfmpError
from afmp.finished.manifest_checks import other_files_check
from afmp.records import read_diagnostics, read_result
from afmp.study.study import resolve_study
from afmp.training import loop, tensorboard
from afmp.training.optimizer import learning_rates
from afmp.training.run import Run
from afmp.training.run_training import train_run
from afmp.training.seed_state import SeedTraining
from afmp.training.tensorboard import epoch_scalars, learning_rates_of_epochs, record_training

SEEDS = (0, 1)


def small_run(folder: Path, *, name="tiny", **changes) -> Run:
    """A run of 4 epochs whose learning rate falls after each epoch without a better validation accuracy."""
    changes = {"epochs": 4, "batch_size": 256, "patch_size": 16, "learning_rate": 0.05, "plateau_patience": 0} | changes
    return run_in(folder, small_config(d_model=8, **changes), name=name, seeds=SEEDS)


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return the values of each tag by step."""
    events = EventAccumulator(str(folder)).Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def written(folder: Path) -> Counter:
    """Return how often each tag and step stands in the files of a folder."""
    events = [event for file in folder.iterdir() for event in LegacyEventFileLoader(str(file)).Load()]
    return Counter((value.tag, event.step) for event in events for value in event.summary.value)


def expected_scalars(run: Run, seed: int) -> dict[str, dict[int, float]]:
    """Return the scalars of a finished seed, from its result and diagnostics; without the learning rate."""
    folder = run.seed_folders[seed]
    result = read_result(folder / f"results_{run.name}.json")
    keys = {"loss/train": "train_loss", "loss/sparsity": "sparsity_loss", "seconds_per_epoch": "time"}
    keys |= {"accuracy/train": "train_acc", "accuracy/validation": "val_acc"}
    expected = {tag: dict(enumerate(result["training_history"][key], start=1)) for tag, key in keys.items()}
    expected["accuracy/test"] = {result["best_epoch"]: result["test_accuracy"]}
    for epoch, gates in read_diagnostics(folder / "diagnostics.json")["epochs"].items():
        for layer, (percent, means) in enumerate(zip(gates["pruned_percent"], gates["mean_gate"], strict=True), 1):
            values = {"pruned_edges_percent": percent, "gate_mean": np.mean(means), "gate_std": np.std(means)}
            for name, value in values.items():
                expected.setdefault(f"{name}/layer_{layer}", {})[int(epoch)] = value
    return expected


def assert_complete(folder: Path, run: Run) -> None:
    for seed in SEEDS:
        found, expected = read_scalars(folder / f"seed_{seed}"), expected_scalars(run, seed)
        rates = found.pop("learning_rate")
        assert list(rates) == [1, 2, 3, 4] and found.keys() == expected.keys()
        for tag, values in expected.items():
            assert found[tag] == pytest.approx(values, rel=1e-6), tag
        assert set(written(folder / f"seed_{seed}").values()) == {1}


@pytest.fixture(scope="module")
def trained(few_digits_file, tmp_path_factory) -> tuple[Run, Path]:
    """A run that was trained with scalars, and their folder."""
    folder = tmp_path_factory.mktemp("trained")
    run = small_run(folder)
    with record_training(run, folder / "tensorboard"):
        train_run(run, dataset_path=few_digits_file)
    return run, folder / "tensorboard"


def test_tensorboard_shows_each_number_of_the_results_and_diagnostics(trained):
    run, folder = trained
    assert_complete(folder, run)
    assert "pruned_edges_percent/layer_2" in read_scalars(folder / "seed_0")


def test_the_learning_rate_is_that_of_the_training(trained):
    run, folder = trained
    for seed in SEEDS:
        rates = read_scalars(folder / f"seed_{seed}")["learning_rate"]
        (checkpoint,) = run.checkpoint_folder.glob(f"seed_{seed}_????????????.safetensors")
        state = read_checkpoint(checkpoint)[1]
        accuracies = state["history"]["val_acc"]
        falls = [later <= max(accuracies[: n + 1]) for n, later in enumerate(accuracies[1:])]
        # The rate of the checkpoint is the one after the last epoch's validation.
        after = [*list(rates.values())[1:], state["learning_rate"]]
        for fell, rate, following in zip([False, *falls], rates.values(), after, strict=True):
            assert following == pytest.approx(rate * (run.config.training.plateau_factor if fell else 1), rel=1e-6)
    assert len(set(rates.values())) > 1


def test_a_checkpoint_computes_only_epochs_that_are_not_written_yet(trained):
    run, _ = trained
    result = read_result(run.seed_folders[0] / "results_tiny.json")
    diagnostics = read_diagnostics(run.seed_folders[0] / "diagnostics.json")["epochs"]
    state = {"history": result["training_history"], "diagnostics": diagnostics}
    every = epoch_scalars(state, run.config.training)
    assert list(every) == [1, 2, 3, 4] and "gate_mean/layer_1" in every[max(map(int, diagnostics))]
    first = min(diagnostics, key=int)
    later = epoch_scalars(state | {"diagnostics": diagnostics | {first: None}}, run.config.training, after=int(first))
    assert later == {epoch: scalars for epoch, scalars in every.items() if epoch > int(first)}


@pytest.mark.parametrize("num_steps", [1, 7])
def test_with_a_cosine_the_learning_rate_is_the_highest_of_the_epoch(num_steps):
    training = replace(small_config().training, schedule="cosine", epochs=9, warmup_epochs=3)
    highest = [max(learning_rates(training, epoch=epoch, num_steps=num_steps)) for epoch in range(1, 8)]
    assert learning_rates_of_epochs(training, [50.0] * 7) == pytest.approx(highest)


def test_a_training_that_resumes_writes_each_epoch_once(few_digits_file, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", float("inf"))  # a checkpoint after each epoch
    run, folder, save = small_run(tmp_path), tmp_path / "tensorboard", SeedTraining.save

    def interrupted(seed: SeedTraining) -> None:
        save(seed)
        if (seed.seed, seed.progress.epoch) == (1, 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(SeedTraining, "save", interrupted)
    with pytest.raises(KeyboardInterrupt), record_training(run, folder):
        train_run(run, dataset_path=few_digits_file)
    assert list(read_scalars(folder / "seed_1")["loss/train"]) == [1, 2]
    monkeypatch.setattr(SeedTraining, "save", save)
    with record_training(run, folder):
        train_run(run, dataset_path=few_digits_file)
    assert_complete(folder, run)


def test_a_run_that_was_finished_without_scalars_is_not_trained_for_them(
    trained, few_digits_file, tmp_path, monkeypatch
):
    run, _ = trained
    monkeypatch.setattr("afmp.training.run_training.train_group", None)
    with record_training(run, tmp_path / "later"):
        train_run(run, dataset_path=few_digits_file)
    assert_complete(tmp_path / "later", run)


@pytest.mark.long
def test_runs_side_by_side_write_into_folders_of_their_own(few_digits_file, tmp_path):
    one, two = (
        replace(small_run(tmp_path / name, name=name, epochs=1), checkpoint_folder=tmp_path / "checkpoints" / name)
        for name in ("one", "two")
    )
    with record_training(one, tmp_path / "tensorboard/one"):
        train_run(one, dataset_path=few_digits_file, side_by_side=[two])
    for name, run in {"one": one, "two": two}.items():
        found = read_scalars(tmp_path / "tensorboard" / name / "seed_1")
        assert found["loss/train"] == pytest.approx(expected_scalars(run, 1)["loss/train"], rel=1e-6)


def test_a_place_that_cannot_be_written_stops_the_scalars_and_not_the_training(few_digits_file, tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("a file")
    run = small_run(tmp_path, epochs=1)
    with record_training(run, tmp_path / "tensorboard"):
        train_run(run, dataset_path=few_digits_file)
    assert all((folder / "results_tiny.json").is_file() for folder in run.seed_folders.values())
    said = [message for message in caplog.messages if "TensorBoard" in message]
    assert len(said) == len(SEEDS) and "training goes on" in said[0]


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((PROJECT / "config.yaml").read_text()) | {
        "dataset": {"source": "digits", "path": None, "image_size": 32}
    }


def test_the_command_writes_the_same_from_a_results_folder(trained, config, tmp_path, capsys):
    run, _ = trained
    shutil.copytree(run.checkpoint_folder.parent, tmp_path / "results/train/paper/tiny")
    plain = run.config.to_dict()
    table = {"section": "A", "title": "T", "figure": "mine", "reference": "tiny", "runs": [{"run": "tiny"}]}
    config |= {"seeds": [0, 1, 2], "semantics": ["paper"], "scalability": None, "studies": {"one": table}}
    config |= {"model": plain["model"], "training": plain["training"], "dataset": plain["dataset"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    options = ["--config", str(tmp_path / "config.yaml"), "--output", str(tmp_path / "out")]
    assert cli.main(["scalars", str(tmp_path / "results"), *options]) == 0, capsys.readouterr().err
    assert_complete(tmp_path / "out/paper/tiny", run)
    assert "2 trainings" in capsys.readouterr().out  # random seed 2 has not finished
    assert cli.main(["scalars", str(tmp_path), *options]) == 2
    assert "none of the runs of the study has finished" in capsys.readouterr().err


def test_the_key_belongs_to_the_study_and_changes_no_run(config):
    without = resolve_study(config)
    config["training"]["tensorboard"] = True
    study = resolve_study(config)
    assert study.tensorboard and not without.tensorboard
    assert (study.runs, study.to_dict()) == (without.runs, without.to_dict())
    config["studies"]["sparsity_level"]["runs"][0]["tensorboard"] = True
    with pytest.raises(AfmpError, match="tensorboard"):
        resolve_study(config)


def test_without_the_package_one_sentence_comes_before_training(config, few_digits_file, tmp_path, monkeypatch, capsys):
    config["training"] |= {"tensorboard": True, "epochs": 1, "device": "cpu"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    options = {
        "config": tmp_path / "config.yaml",
        "run": "dense",
        "dataset": few_digits_file,
        "output": tmp_path / "out",
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    assert cli.main(["train", *words]) == 2
    said = capsys.readouterr().err
    assert "the package tensorboard is not installed; run `pip install" in said and "Traceback" not in said
    assert not list(tmp_path.rglob("*.safetensors"))


def test_verification_knows_the_folder(config, tmp_path):
    (tmp_path / "tensorboard/paper/dense/seed_0").mkdir(parents=True)
    (tmp_path / "tensorboard/paper/dense/seed_0/events.out.tfevents.1").touch()
    assert not list(other_files_check(resolve_study(config), tmp_path).find_faults())
