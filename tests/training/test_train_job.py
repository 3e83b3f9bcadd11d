"""Runs that train beside each other in the first one's job: same results, own files, found finished by own jobs."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import PROJECT
from safetensors.torch import load_file
from training_runs import run_in, small_config, train, without_times

from afmp.errors import AfmpError
from afmp.machine.stopping import stop_on_sigterm
from afmp.records import read_result
from afmp.study.study import RunConfig
from afmp.training import loop
from afmp.training.checkpoint_lock import lock_checkpoints_if_free
from afmp.training.job import WANTED_RUNS, train_job
from afmp.training.run import Run
from afmp.training.run_training import train_run

JOB = """
import json, sys
from pathlib import Path
from afmp.study.study import RunConfig
from afmp.training.job import train_job
from afmp.training.run import Run
folder, study = Path(sys.argv[1]), json.loads(sys.argv[3])
config, seed_folders = RunConfig.from_dict(study["two"]), {0: folder / "two/seed_0"}
run = Run("two", "paper", config, seed_folders, folder / "checkpoints/paper/two")
train_job(run, dataset_path=Path(sys.argv[2]), study=study, download_folder=folder)
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return small_config()


@pytest.fixture
def study(config, monkeypatch):
    """Three runs; a fourth is wanted of the other semantics. The machine pretends to have a GPU, as far as jobs ask."""
    config = replace(config, training=replace(config.training, epochs=2))
    monkeypatch.setenv(WANTED_RUNS, json.dumps([["paper", "one"], ["paper", "two"], ["notebook", "three"]]))
    monkeypatch.setattr("afmp.machine.device.resolve_device", lambda name: torch.device("cuda"))
    return {
        "one": config,
        "two": replace(config, model=replace(config.model, is_sparse=False)),
        "three": config,
    }


def start_job(name: str, study: dict, folder: Path, digits_file: Path) -> dict:
    run = Run(name, "paper", study[name], {0: folder / name / "seed_0"}, folder / "checkpoints/paper" / name)
    plain = {other: config.to_dict() for other, config in study.items()}
    train_job(run, dataset_path=digits_file, study=plain, download_folder=folder)
    return read_result(folder / name / f"seed_0/results_{name}.json")


def test_runs_beside_each_other_end_as_each_does_alone(study, digits_file, tmp_path):
    first = start_job("one", study, tmp_path, digits_file)
    assert first["trained_beside"] == ["two"]
    assert not (tmp_path / "two").exists() and not (tmp_path / "checkpoints/paper/three").exists()
    plain = json.dumps({run: each.to_dict() for run, each in study.items()})
    command = [sys.executable, "-c", JOB, tmp_path, digits_file, plain]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(PROJECT)})
    second = read_result(tmp_path / "two/seed_0/results_two.json")
    for name, result in {"one": first, "two": second}.items():
        folder = tmp_path / "alone" / name
        (alone,) = train(study[name], folder, digits_file, name=name)
        assert without_times(result) | {"trained_beside": []} == without_times(alone)
        for file in ("best.safetensors", "final.safetensors"):
            mine, theirs = load_file(tmp_path / name / "seed_0" / file), load_file(folder / "seed_0" / file)
            assert all(torch.equal(mine[key], theirs[key]) for key in mine) and mine.keys() == theirs.keys()
    # Nothing is kept twice, and a run that its job took is not taken along again.
    (ahead,) = [path for path in (tmp_path / "checkpoints/paper/two").iterdir() if path.is_dir()]
    assert not list(ahead.iterdir())
    assert start_job("one", study, tmp_path, digits_file)["trained_beside"] == ["two"]  # as its checkpoint says
    assert not list(ahead.iterdir())
    assert without_times(start_job("two", study, tmp_path, digits_file)) == without_times(second)


def test_a_run_that_fails_beside_another_is_left_to_its_own_job(study, digits_file, tmp_path, caplog):
    study["two"] = replace(study["two"], training=replace(study["two"].training, learning_rate=1e30))
    assert start_job("one", study, tmp_path, digits_file)["best_epoch"] >= 1
    assert [
        line
        for line in caplog.messages
        if line.startswith("two failed side by side with one and is left to its own job: two [paper]")
    ]
    with pytest.raises(AfmpError, match=r"^two \[paper\] seed 0 diverged"):
        start_job("two", study, tmp_path, digits_file)
    assert not list(tmp_path.rglob("results_two.json"))


def test_files_of_a_move_that_was_killed_are_written_again(study, digits_file, tmp_path):
    start_job("one", study, tmp_path, digits_file)
    (ahead,) = [path for path in (tmp_path / "checkpoints/paper/two").iterdir() if path.is_dir()]
    (ahead / "best.safetensors").unlink()  # moved, then removed with the outputs of a job that failed
    start_job("two", study, tmp_path, digits_file)
    assert len(list((tmp_path / "two/seed_0").iterdir())) == 4


def test_a_damaged_dataset_is_prepared_again_before_anything_is_named_after_it(study, digits_file, tmp_path):
    damaged = tmp_path / "digits.safetensors"
    damaged.write_bytes(digits_file.read_bytes()[:-1000])
    start_job("one", study, tmp_path, damaged)
    start_job("two", study, tmp_path, damaged)
    (ahead,) = [path for path in (tmp_path / "checkpoints/paper/two").iterdir() if path.is_dir()]
    assert not list(ahead.iterdir())


def test_a_run_that_another_process_trains_is_not_taken_along(study, digits_file, tmp_path):
    with ExitStack() as other:
        assert lock_checkpoints_if_free(tmp_path / "checkpoints/paper/two", other)
        assert start_job("one", study, tmp_path, digits_file)["trained_beside"] == []


def test_sigterm_saves_all_runs_that_train_beside_each_other(study, digits_file, tmp_path, monkeypatch):
    finish, done = loop._finish_epoch, []
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 0.0)

    def finish_and_ask(group, seed, *arguments, **options):
        finish(group, seed, *arguments, **options)
        done.append(seed.label)
        if len(done) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "_finish_epoch", finish_and_ask)
    study = {name: replace(each, training=replace(each.training, epochs=50)) for name, each in study.items()}
    with pytest.raises(SystemExit) as ended, stop_on_sigterm():
        start_job("one", study, tmp_path, digits_file)
    assert ended.value.code == 143
    for run in ("one", "two"):
        assert len(list((tmp_path / "checkpoints/paper" / run).glob("*.safetensors"))) == 1
    assert not list(tmp_path.rglob("results_*.json"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("semantics", ["paper", "notebook"])
def test_beside_others_on_a_gpu_a_run_keeps_its_bits(config, digits_file, tmp_path, semantics):
    config = replace(config, training=replace(config.training, device="cuda"))
    study = {
        "one": config,
        "two": replace(config, model=replace(config.model, is_sparse=False)),
        "three": replace(config, model=replace(config.model, use_top_down=True)),
    }

    def run(name: str, folder: Path) -> Run:
        return run_in(folder / name, study[name], name=name, semantics=semantics, seeds=(0, 1))

    for folder, others in (("alone", []), ("together", ["two", "three"])):
        side_by_side = [run(name, tmp_path / folder) for name in others]
        train_run(run("one", tmp_path / folder), dataset_path=digits_file, side_by_side=side_by_side)
    for seed in (0, 1):
        mine, theirs = (load_file(tmp_path / f"{f}/one/seed_{seed}/final.safetensors") for f in ("alone", "together"))
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_runs_of_another_arithmetic_are_not_taken_along(study, digits_file, tmp_path):
    study["two"] = replace(study["two"], training=replace(study["two"].training, precision="bf16"))
    assert start_job("one", study, tmp_path, digits_file)["trained_beside"] == []


def test_a_run_that_was_changed_meanwhile_is_trained_anew(study, digits_file, tmp_path):
    start_job("one", study, tmp_path, digits_file)
    study["two"] = replace(study["two"], training=replace(study["two"].training, weight_decay=0.5))
    assert start_job("two", study, tmp_path, digits_file)["config"]["training"]["weight_decay"] == 0.5
