"""Finished seeds are used again without their checkpoints, if they are whole and nothing that decides them changed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from damaged_files import flipped
from training_runs import run_in, small_config, train

from afmp.records import read_result, write_result
from afmp.training import reuse
from afmp.training.identity import checkpoint_path, prepared_dataset_hash, seed_identity
from afmp.training.job import train_job
from afmp.training.run import Run

FILES = ("best.safetensors", "final.safetensors", "diagnostics.json", "results_tiny.json")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, few_digits_file) -> Path:
    """A finished run with one seed."""
    folder = tmp_path_factory.mktemp("trained")
    train(small_config(epochs=1), folder, few_digits_file)
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A run whose files were set aside, and whose checkpoints are gone."""
    shutil.copytree(trained / "seed_0", tmp_path / "set_aside/seed_0")
    return tmp_path


def job(folder: Path, few_digits_file: Path, *, seeds=(0,), **changes) -> Run:
    """Run the job of a run, and return the run."""
    run = run_in(folder, small_config(**({"epochs": 1} | changes)), seeds=seeds)
    train_job(run, dataset_path=few_digits_file, study={}, download_folder=folder, set_aside=folder / "set_aside")
    return run


def trains(caplog, seed: int = 0) -> bool:
    return any(f"seed {seed}: epoch 1/1" in message for message in caplog.messages)


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level("INFO", "afmp")


@pytest.mark.promise("checkpoints-deleted")
def test_a_finished_seed_is_used_again_and_a_new_one_trains(folder, few_digits_file, caplog):
    job(folder, few_digits_file, seeds=(0, 1))
    assert not trains(caplog) and trains(caplog, seed=1)
    for name in FILES:
        assert (folder / "seed_0" / name).read_bytes() == (folder / "set_aside/seed_0" / name).read_bytes()
    assert (folder / "seed_1/results_tiny.json").exists()


def test_files_are_copied_where_there_are_no_hard_links(folder, few_digits_file, caplog, monkeypatch):
    def refuse(*arguments):
        raise OSError

    monkeypatch.setattr(reuse.os, "link", refuse)
    job(folder, few_digits_file)
    assert not trains(caplog) and read_result(folder / "seed_0/results_tiny.json")["seed"] == 0


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "gone", "folder"])
def test_a_seed_that_is_not_whole_is_not_used_again(folder, few_digits_file, name, damage):
    path = folder / "set_aside/seed_0" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(flipped(content, len(content) // 2))
    elif damage == "folder":
        path.mkdir()
    assert reusable(folder, few_digits_file) is None


def reusable(folder: Path, few_digits_file: Path, **changes) -> Path | None:
    run = run_in(folder, small_config(**({"epochs": 1} | changes)))
    dataset_hash = prepared_dataset_hash(few_digits_file)
    return reuse.reusable_files(run, 0, set_aside=folder / "set_aside", dataset_hash=dataset_hash)


def test_where_the_images_lie_does_not_matter(folder, few_digits_file):
    run = run_in(folder, small_config(epochs=1))
    moved = replace(run, config=replace(run.config, dataset=replace(run.config.dataset, path="elsewhere")))
    dataset_hash = prepared_dataset_hash(few_digits_file)
    identities = [seed_identity(each, 0, dataset_hash=dataset_hash, device_type="cpu") for each in (run, moved)]
    assert identities[0] == identities[1]
    assert reuse.reusable_files(moved, 0, set_aside=folder / "set_aside", dataset_hash=dataset_hash)
    assert reuse.reusable_files(moved, 0, set_aside=folder / "set_aside", dataset_hash="0" * 64) is None


@pytest.mark.parametrize("changes", [{"epochs": 2}, {"d_model": 8}, {"device": "auto"}])
def test_a_seed_of_another_configuration_is_not_used_again(folder, few_digits_file, changes):
    assert reusable(folder, few_digits_file) and reusable(folder, few_digits_file, **changes) is None


@pytest.mark.parametrize("code", ["0" * 64, None])
def test_a_seed_of_other_code_is_not_used_again(folder, few_digits_file, code):
    path = folder / "set_aside/seed_0/results_tiny.json"
    result = read_result(path)
    del result["code"]
    write_result(path, result | ({"code": code} if code else {}))
    assert reusable(folder, few_digits_file) is None


def test_a_seed_with_its_finished_checkpoint_is_written_again(folder, trained, few_digits_file, caplog):
    """The code that writes its files may have changed."""
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    assert reusable(folder, few_digits_file) is None
    run = job(folder, few_digits_file)
    assert not trains(caplog) and (folder / "seed_0/results_tiny.json").exists()
    identity = seed_identity(run, 0, dataset_hash=prepared_dataset_hash(few_digits_file), device_type="cpu")
    checkpoint = checkpoint_path(run, identity)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    assert reusable(folder, few_digits_file)


def test_a_result_says_which_code_and_files_belong_to_it(trained):
    result = json.loads((trained / "seed_0/results_tiny.json").read_text())
    assert result["code"] == reuse.numbers_hash() and set(result["files"]) == {"best", "final", "diagnostics"}
