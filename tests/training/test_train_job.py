"""Training jobs, and runs that train side by side in the job of the first one and are finished in their own jobs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import PROJECT
from training_runs import assert_same_tensors, run_in, small_config, train, without_times

from afmp.errors import AfmpError
from afmp.machine.stopping import stop_on_sigterm
from afmp.records import read_result
from afmp.study.run_config import RunConfig
from afmp.training import loop
from afmp.training.checkpoint_lock import lock_checkpoints_if_free
from afmp.training.job import WANTED_RUNS, train_job
from afmp.training.run import Run
from afmp.training.run_training import train_run

JOB = """
import json, sys
from pathlib import Path
from afmp.study.run_config import RunConfig
from afmp.training.job import train_job
from afmp.training.run import Run
folder, study = Path(sys.argv[1]), json.loads(sys.argv[3])
config, seed_folders = RunConfig.from_dict(study["two"]), {0: folder / "two/seed_0"}
run = Run("two", "paper", config, seed_folders, folder / "checkpoints/paper/two")
train_job(run, dataset_path=Path(sys.argv[2]), study=study, download_folder=folder, set_aside=folder / "set_aside/two")
assert "torch" not in sys.modules
"""


@pytest.fixture(autouse=True, scope="module")
def one_gpu():
    """Jobs see a GPU and three wanted runs, one of them of the other semantics. Training itself uses the CPU."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(WANTED_RUNS, json.dumps([["paper", "one"], ["paper", "two"], ["notebook", "three"]]))
        patched.setattr("afmp.machine.device.resolve_device", lambda name: torch.device("cuda"))
        yield


@pytest.fixture
def study() -> dict[str, RunConfig]:
    return {
        "one": small_config(epochs=2),
        "two": small_config(epochs=2, is_sparse=False),
        "three": small_config(epochs=2),
    }


def start_job(name: str, study: dict, folder: Path, few_digits_file: Path) -> dict:
    run = Run(name, "paper", study[name], {0: folder / name / "seed_0"}, folder / "checkpoints/paper" / name)
    plain = {other: config.to_dict() for other, config in study.items()}
    set_aside = folder / "set_aside" / name
    train_job(run, dataset_path=few_digits_file, study=plain, download_folder=folder, set_aside=set_aside)
    return read_result(folder / name / f"seed_0/results_{name}.json")


def changed(config: RunConfig, **training) -> RunConfig:
    return replace(config, training=replace(config.training, **training))


def handover_folder(folder: Path) -> Path:
    """The folder in which the job of run `one` left the files of run `two`."""
    (found,) = [path for path in (folder / "checkpoints/paper/two").iterdir() if path.is_dir()]
    return found


@pytest.fixture
def side_by_side(study, few_digits_file, tmp_path, tmp_path_factory) -> Path:
    """A folder in which the job of run `one` has also trained run `two`; trained once, then copied for each test."""
    trained = tmp_path_factory.getbasetemp() / "side_by_side"
    if not trained.exists():
        start_job("one", study, trained, few_digits_file)
    return shutil.copytree(trained, tmp_path / "side_by_side")


@pytest.mark.promise("parallel-runs-have-their-bits")
def test_runs_trained_side_by_side_have_the_bits_that_each_has_alone(study, side_by_side, few_digits_file, tmp_path):
    first = read_result(side_by_side / "one/seed_0/results_one.json")
    assert first["trained_beside"] == ["two"]
    assert not (side_by_side / "two").exists() and not (side_by_side / "checkpoints/paper/three").exists()
    plain = json.dumps({run: each.to_dict() for run, each in study.items()})
    command = [sys.executable, "-c", JOB, side_by_side, few_digits_file, plain]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(PROJECT)})
    second = read_result(side_by_side / "two/seed_0/results_two.json")
    for name, result in {"one": first, "two": second}.items():
        folder = tmp_path / "alone" / name
        (alone,) = train(study[name], folder, few_digits_file, name=name)
        assert without_times(result) | {"trained_beside": []} == without_times(alone)
        for file in ("best.safetensors", "final.safetensors"):
            assert_same_tensors(side_by_side / name / "seed_0" / file, folder / "seed_0" / file)
    # No file exists twice, and another job does not train a run again whose own job has its files.
    handover = handover_folder(side_by_side)
    assert not list(handover.iterdir())
    again = start_job("one", study, side_by_side, few_digits_file)
    assert again["trained_beside"] == ["two"]  # from its checkpoint
    assert not list(handover.iterdir())
    assert without_times(start_job("two", study, side_by_side, few_digits_file)) == without_times(second)


@pytest.mark.promise("parallel-runs-have-their-bits")
def test_a_run_that_fails_side_by_side_is_left_to_its_own_job(study, few_digits_file, tmp_path, caplog):
    study["two"] = changed(study["two"], learning_rate=1e30)
    assert start_job("one", study, tmp_path, few_digits_file)["best_epoch"] >= 1
    said = "two failed side by side with one and is left to its own job: two [paper]"
    assert [line for line in caplog.messages if line.startswith(said)]
    with pytest.raises(AfmpError, match=r"^two \[paper\] seed 0 diverged"):
        start_job("two", study, tmp_path, few_digits_file)
    assert not list(tmp_path.rglob("results_two.json"))


def test_files_of_an_interrupted_move_are_written_again(study, side_by_side, few_digits_file):
    # It was moved, and then removed together with the other outputs of a job that failed.
    (handover_folder(side_by_side) / "best.safetensors").unlink()
    start_job("two", study, side_by_side, few_digits_file)
    assert len(list((side_by_side / "two/seed_0").iterdir())) == 4


def test_a_damaged_dataset_is_prepared_again_before_its_hash_names_anything(study, few_digits_file, tmp_path):
    damaged = tmp_path / "digits.safetensors"
    damaged.write_bytes(few_digits_file.read_bytes()[:-1000])
    start_job("one", study, tmp_path, damaged)
    start_job("two", study, tmp_path, damaged)
    assert not list(handover_folder(tmp_path).iterdir())


def test_a_run_that_another_process_trains_is_left_out(study, few_digits_file, tmp_path):
    with ExitStack() as other:
        assert lock_checkpoints_if_free(tmp_path / "checkpoints/paper/two", other)
        assert start_job("one", study, tmp_path, few_digits_file)["trained_beside"] == []


@pytest.mark.promise("sigterm-saves-every-seed")
def test_sigterm_saves_all_runs_that_train_side_by_side(study, few_digits_file, tmp_path, monkeypatch):
    finish_epoch, done = loop._finish_epoch, []
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 0.0)

    def finish_and_signal(group, seed, *arguments, **options):
        finish_epoch(group, seed, *arguments, **options)
        done.append(seed.label)
        if len(done) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "_finish_epoch", finish_and_signal)
    study = {name: changed(config, epochs=50) for name, config in study.items()}
    with pytest.raises(SystemExit) as ended, stop_on_sigterm():
        start_job("one", study, tmp_path, few_digits_file)
    assert ended.value.code == 143
    for run in ("one", "two"):
        assert len(list((tmp_path / "checkpoints/paper" / run).glob("*.safetensors"))) == 1
    assert not list(tmp_path.rglob("results_*.json"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("semantics", ["paper", "notebook", "refined"])
def test_a_run_trained_side_by_side_on_a_gpu_has_the_bits_it_has_alone(few_digits_file, tmp_path, semantics):
    study = {
        "one": small_config(device="cuda"),
        "two": small_config(device="cuda", is_sparse=False),
        "three": small_config(device="cuda", use_top_down=True),
    }

    def run(name: str, folder: Path) -> Run:
        return run_in(folder / name, study[name], name=name, semantics=semantics, seeds=(0, 1))

    for folder, others in (("alone", []), ("together", ["two", "three"])):
        side_by_side = [run(name, tmp_path / folder) for name in others]
        train_run(run("one", tmp_path / folder), dataset_path=few_digits_file, side_by_side=side_by_side)
    for seed in (0, 1):
        assert_same_tensors(*(tmp_path / f"{f}/one/seed_{seed}/final.safetensors" for f in ("alone", "together")))


def test_a_run_of_another_precision_is_left_out(study, few_digits_file, tmp_path):
    study["two"] = changed(study["two"], precision="bf16")
    assert start_job("one", study, tmp_path, few_digits_file)["trained_beside"] == []


def test_a_run_that_was_changed_meanwhile_is_trained_again(study, side_by_side, few_digits_file):
    study["two"] = changed(study["two"], weight_decay=0.5)
    assert start_job("two", study, side_by_side, few_digits_file)["config"]["training"]["weight_decay"] == 0.5
