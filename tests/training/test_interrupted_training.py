"""Training that is interrupted or fails: killed, out of disk space or memory, with damaged checkpoints."""

import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT
from damaged_files import flipped
from training_runs import FORKSERVER, assert_same_tensors, prepare_few_digits, run_in, without_times

from afmp import cli
from afmp.errors import AfmpError
from afmp.machine import stopping
from afmp.records import read_diagnostics, read_result
from afmp.study.run_config import RunConfig
from afmp.study.study import read_study
from afmp.training import loop
from afmp.training.run_training import train_run
from afmp.training.seed_state import SeedTraining
from afmp.training.side_by_side import train_side_by_side
from afmp.training.step import TrainingStep

SEEDS = (0, 1)
DATASET = {"source": "digits", "path": None, "image_size": 16}  # 4 patches: training is quick


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory) -> Path:
    return prepare_few_digits(tmp_path_factory.mktemp("digits"), image_size=DATASET["image_size"])


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    """A study file whose run `dense` is small: 2 layers, 8 channels, 6 epochs."""
    study = yaml.safe_load((PROJECT / "config.yaml").read_text())
    study["dataset"] = DATASET
    study["model"] |= {"num_layers": 2, "d_model": 8}
    study["training"] |= {"epochs": 6, "batch_size": 256, "visualize_every": 3, "device": "cpu"}
    path = tmp_path_factory.mktemp("study") / "config.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def arguments(study_file, digits_file, folder, *, seeds=SEEDS) -> list[str]:
    options = {"config": study_file, "run": "dense", "dataset": digits_file, "output": folder}
    given = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return ["train", *given, "--seeds", ",".join(map(str, seeds))]


def run_command(*command) -> None:
    sys.exit(cli.main(arguments(*command)))


def start(*command) -> multiprocessing.Process:
    """Start `afmp train` in its own process, and return once that catches SIGTERM."""
    process = FORKSERVER.Process(target=run_command, args=command)
    process.start()
    caught = 0
    while process.exitcode is None and not caught >> (signal.SIGTERM - 1) & 1:
        time.sleep(0.002)
        caught = int(re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())[1], 16)
    return process


@pytest.fixture(scope="module")
def uninterrupted(study_file, digits_file, tmp_path_factory) -> tuple[Path, float]:
    """The folder of a training without interruption, and its seconds."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = start(study_file, digits_file, folder)
    started = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return folder, time.monotonic() - started


def assert_same_numbers(folder: Path, other: Path) -> None:
    for seed in SEEDS:
        mine, theirs = (root / f"seed_{seed}" for root in (folder, other))
        results = [without_times(read_result(root / "results_dense.json")) for root in (mine, theirs)]
        assert results[0] == results[1]
        assert read_diagnostics(mine / "diagnostics.json") == read_diagnostics(theirs / "diagnostics.json")
        for name in ("best", "final"):
            assert_same_tensors(mine / f"{name}.safetensors", theirs / f"{name}.safetensors")


@pytest.mark.promise("interrupted-training-ends-the-same")
@pytest.mark.parametrize("times", [3, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)],
    ids=lambda number: number.name,
)
def test_training_interrupted_at_random_moments_ends_with_the_same_files(
    uninterrupted, study_file, digits_file, tmp_path, number, times
):
    whole, seconds = uninterrupted
    generator = random.Random(times)
    codes, trainings, interrupted = [], 0, 0
    while len(codes) < times or interrupted:
        folder = tmp_path / str(trainings)
        process = start(study_file, digits_file, folder)
        # Each training is interrupted at most five times, so that it ends.
        process.join(generator.uniform(0, seconds) if len(codes) < times and interrupted < 5 else None)
        if process.exitcode is None:
            os.kill(process.pid, number)
            process.join()
        for result in folder.rglob("results_*.json"):
            read_result(result)
        if process.exitcode:
            codes.append(process.exitcode)
            interrupted += 1
        else:
            assert_same_numbers(folder, whole)
            assert not list(folder.rglob("*.part"))
            trainings, interrupted = trainings + 1, 0
    # After training, when all is written, SIGTERM ends the process like any other.
    expected = -signal.SIGKILL if number == signal.SIGKILL else 128 + signal.SIGTERM
    assert expected in codes and set(codes) <= {expected, -number}


@pytest.mark.promise("sigterm-saves-every-seed")
def test_sigterm_ends_training_after_the_epoch_with_every_seed_saved(
    config, digits_file, tmp_path, monkeypatch, caplog
):
    """The signal saves every seed, although most epochs of stacked seeds have no checkpoint."""
    caplog.set_level("INFO", logger="afmp")
    saved, finish_epoch, save = [], loop._finish_epoch, SeedTraining.save
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 0)  # the first epoch has a checkpoint, the next ones have none
    monkeypatch.setattr(SeedTraining, "save", lambda self: (save(self), saved.append((self.seed, self.progress.epoch))))

    def signalled(group, seed, *rest, **options):
        finish_epoch(group, seed, *rest, **options)
        if seed.progress.epoch == 3 and seed.seed == 0:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop, "_finish_epoch", signalled)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, stopping.stop_on_sigterm():
        train(config, digits_file, tmp_path, stack_seeds=True)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert saved == [(0, 1), (1, 1), (0, 3), (1, 3)] and not list(tmp_path.rglob("*.json"))
    assert "SIGTERM came, training ends before epoch 4; run again to resume it" in caplog.messages[-1]
    monkeypatch.setattr(loop, "_finish_epoch", finish_epoch)
    train(config, digits_file, tmp_path, stack_seeds=True)
    train(config, digits_file, tmp_path / "whole", stack_seeds=True)
    assert_same_numbers(tmp_path, tmp_path / "whole")


def test_the_command_prints_the_accuracy_and_the_folder_of_each_seed(
    uninterrupted, study_file, digits_file, tmp_path, capsys
):
    shutil.copytree(uninterrupted[0], tmp_path, dirs_exist_ok=True)
    assert cli.main(arguments(study_file, digits_file, tmp_path)) == 0
    accuracies = [read_result(tmp_path / f"seed_{seed}/results_dense.json")["test_accuracy"] for seed in SEEDS]
    assert capsys.readouterr().out.splitlines() == [
        f"seed {seed}: test accuracy {accuracy:.2f} %, files in {tmp_path}/seed_{seed}"
        for seed, accuracy in zip(SEEDS, accuracies, strict=True)
    ]


@pytest.mark.promise("ctrl-c-with-parallel-runs")
def test_a_second_ctrl_c_does_not_wait_for_the_epoch():
    """After the first Ctrl-C, runs side by side end after their epoch, which takes a minute here."""
    begun = multiprocessing.Semaphore(0)

    class LongTraining:
        def train(self) -> None:
            begun.release()
            time.sleep(60)

    def train_two() -> None:
        train_side_by_side({"one": LongTraining, "two": LongTraining}, torch.device("cpu"))

    process = multiprocessing.get_context("fork").Process(target=train_two)
    process.start()
    assert begun.acquire(timeout=20) and begun.acquire(timeout=20)
    os.kill(process.pid, signal.SIGINT)
    process.join(3)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGINT)
    process.join(20)
    assert process.exitcode == -signal.SIGINT


def test_importing_the_package_does_not_change_sigterm():
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and not stopping.stop_requested()


@pytest.fixture(scope="module")
def config(study_file) -> RunConfig:
    return read_study(study_file).runs["dense"]


def train(config, digits_file, folder, **options) -> None:
    train_run(run_in(folder, config, name="dense", seeds=SEEDS), dataset_path=digits_file, **options)


@pytest.mark.promise("jumping-clock")
def test_a_clock_that_jumps_changes_no_duration(config, digits_file, tmp_path, monkeypatch):
    generator = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: generator.uniform(0, 4e9))
    started = time.perf_counter()
    train(replace(config, training=replace(config.training, epochs=2)), digits_file, tmp_path)
    seconds = time.perf_counter() - started
    for seed in SEEDS:
        result = read_result(tmp_path / f"seed_{seed}/results_dense.json")
        assert min(result["training_history"]["time"]) > 0
        assert sum(result["training_history"]["time"]) <= result["wall_time_s"] < seconds


@pytest.mark.promise("training-out-of-memory")
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_out_of_memory_in_training_names_the_sizes_to_lower(config, digits_file, tmp_path, monkeypatch, error):
    def fail(self, batch_size):
        raise error

    with monkeypatch.context() as patched, pytest.raises(AfmpError) as raised:
        patched.setattr(TrainingStep, "__call__", fail)
        train(config, digits_file, tmp_path)
    for size in ("training/batch_size", "model/d_model", "model/num_layers", "dataset/image_size"):
        assert size in str(raised.value)
    assert not list(tmp_path.rglob("*.json"))
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="device-side assert"):
        error = RuntimeError("CUDA error: device-side assert triggered")
        patched.setattr(TrainingStep, "__call__", fail)
        train(config, digits_file, tmp_path)


@pytest.mark.promise("full-disk")
def test_training_on_a_full_disk_ends_with_one_line_and_resumes_when_there_is_room(
    uninterrupted, study_file, digits_file, tmp_path, monkeypatch, full_disk, capsys
):
    epochs, finish_epoch = [], loop._finish_epoch
    monkeypatch.setattr(loop, "_finish_epoch", lambda *a, **k: (finish_epoch(*a, **k), epochs.append(1)))
    assert cli.main(arguments(study_file, digits_file, tmp_path)) == 2
    said = capsys.readouterr().err.splitlines()
    assert "cannot be written (No space left on device)" in said[-1] and not [s for s in said if "Traceback" in s]
    assert len(epochs) == 1 and [path.name for path in (tmp_path / "checkpoints").iterdir()] == [".lock"]
    full_disk.undo()
    assert cli.main(arguments(study_file, digits_file, tmp_path)) == 0
    assert_same_numbers(tmp_path, uninterrupted[0])


@pytest.mark.promise("damaged-checkpoint")
def test_training_resumes_from_the_checkpoint_before_a_damaged_one(
    uninterrupted, config, digits_file, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO", logger="afmp")
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", float("inf"))  # a checkpoint after every epoch
    train(config, digits_file, tmp_path)
    for checkpoint in (tmp_path / "checkpoints").glob("*.safetensors"):
        content = checkpoint.read_bytes()
        checkpoint.write_bytes(flipped(content, len(content) // 2))
    for result in tmp_path.rglob("results_dense.json"):
        result.unlink()
    caplog.clear()
    train(config, digits_file, tmp_path)
    assert len([line for line in caplog.messages if "damaged; the one before it is used, of epoch 5" in line]) == 2
    assert [line for line in caplog.messages if "dense [paper] seed 1: continues after epoch 5 of 6" in line]
    assert_same_numbers(tmp_path, uninterrupted[0])
