"""What happens to a study in the world: killed, out of room, out of memory, with bits lost. Each fault is injected."""

import errno
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import tempfile
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT
from damaged_files import flipped
from synthetic_results import synthetic_results
from training_runs import assert_same_tensors, run_in, without_times

from afmp import cli
from afmp.analysis.study_tables import epochs_table
from afmp.analysis.table_files import write_csv
from afmp.benchmark.progress import SweepProgress
from afmp.data.dataset import load_dataset
from afmp.data.download import Archive, fetch
from afmp.data.preparation import prepare_dataset, repair_dataset
from afmp.errors import AfmpError
from afmp.figures.parts.style import new_figure, save_figure
from afmp.log import log, log_to
from afmp.machine import stopping
from afmp.records import atomic_path, read_diagnostics, read_result, write_result, write_text
from afmp.study.study import RunConfig, read_study
from afmp.training import loop
from afmp.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from afmp.training.run_training import train_run
from afmp.training.seed_state import SeedTraining
from afmp.training.side_by_side import train_side_by_side
from afmp.training.step import TrainingStep

# ---------------------------------------------------------------------------- training, killed and ended


SEEDS = (0, 1)
DATASET = {"source": "digits", "path": None, "image_size": 16}  # 4 patches: training is quick
SAFE = multiprocessing.get_context("forkserver")  # torch's autograd does not outlive a plain fork
SAFE.set_forkserver_preload(["afmp.cli", "afmp.training.run_training"])


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    prepare_dataset(DATASET, path, download_folder=path.parent)
    return path


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    """A study whose run `dense` is small: 2 layers, 8 channels, 6 epochs."""
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


def start(*command) -> multiprocessing.Process:
    """`afmp train` in a process of its own, as soon as it listens for SIGTERM, which is while it trains."""
    process = SAFE.Process(target=cli.main, args=(arguments(*command),))
    process.start()
    caught = 0
    while process.exitcode is None and not caught >> (signal.SIGTERM - 1) & 1:
        time.sleep(0.002)
        caught = int(re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())[1], 16)
    return process


@pytest.fixture(scope="module")
def undisturbed(study_file, digits_file, tmp_path_factory) -> tuple[Path, float]:
    """The folder of a training that nothing disturbed, and the seconds it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(study_file, digits_file, folder)
    started = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return folder, time.monotonic() - started


def assert_same_numbers(folder: Path, other: Path) -> None:
    for seed in SEEDS:
        mine, theirs = (root / f"seed_{seed}" for root in (folder, other))
        assert without_times(read_result(mine / "results_dense.json")) == without_times(
            read_result(theirs / "results_dense.json")
        )
        assert read_diagnostics(mine / "diagnostics.json") == read_diagnostics(theirs / "diagnostics.json")
        for name in ("best", "final"):
            assert_same_tensors(mine / f"{name}.safetensors", theirs / f"{name}.safetensors")


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_ended_at_random_moments_training_ends_with_the_same_files(
    undisturbed, study_file, digits_file, tmp_path, number, times
):
    whole, seconds = undisturbed
    generator = random.Random(times)
    codes, trainings, ended = [], 0, 0
    while len(codes) < times or ended:
        folder = tmp_path / str(trainings)
        process = start(study_file, digits_file, folder)
        # Each training is ended five times at most, so that all come to their end.
        process.join(generator.uniform(0, seconds) if len(codes) < times and ended < 5 else None)
        if process.exitcode is None:
            os.kill(process.pid, number)
            process.join()
        for result in folder.rglob("results_*.json"):
            read_result(result)
        if process.exitcode:
            codes.append(process.exitcode)
            ended += 1
        else:
            assert_same_numbers(folder, whole)
            assert not list(folder.rglob("*.part"))
            trainings, ended = trainings + 1, 0
    # Where training is over and all is written, SIGTERM ends the process as it ends any other.
    expected = -signal.SIGKILL if number == signal.SIGKILL else 128 + signal.SIGTERM
    assert expected in codes and set(codes) <= {expected, -number}


def test_sigterm_ends_after_the_epoch_with_every_seed_saved(config, digits_file, tmp_path, monkeypatch, caplog):
    """Seeds that train together are saved seldom: the signal saves them all, whatever was last written."""
    caplog.set_level("INFO", logger="afmp")
    saved, count, save = [], loop._finish_epoch, SeedTraining.save
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 0)  # after the first epoch nothing more is written by itself
    monkeypatch.setattr(SeedTraining, "save", lambda self: (save(self), saved.append((self.seed, self.progress.epoch))))

    def signalled(group, seed, *rest, **options):
        count(group, seed, *rest, **options)
        if seed.progress.epoch == 3 and seed.seed == 0:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop, "_finish_epoch", signalled)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, stopping.stop_on_sigterm():
        train(config, digits_file, tmp_path, stack_seeds=True)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert saved == [(0, 1), (1, 1), (0, 3), (1, 3)] and not list(tmp_path.rglob("*.json"))
    assert "SIGTERM came, training ends before epoch 4; run again to resume it" in caplog.messages[-1]
    monkeypatch.setattr(loop, "_finish_epoch", count)
    train(config, digits_file, tmp_path, stack_seeds=True)
    train(config, digits_file, tmp_path / "whole", stack_seeds=True)
    assert_same_numbers(tmp_path, tmp_path / "whole")


def test_the_command_ends_with_each_seeds_accuracy_and_its_files(study_file, digits_file, tmp_path, capsys):
    assert cli.main(arguments(study_file, digits_file, tmp_path)) == 0
    accuracies = [read_result(tmp_path / f"seed_{seed}/results_dense.json")["test_accuracy"] for seed in SEEDS]
    assert capsys.readouterr().out.splitlines() == [
        f"seed {seed}: test accuracy {accuracy:.2f} %, files in {tmp_path}/seed_{seed}"
        for seed, accuracy in zip(SEEDS, accuracies, strict=True)
    ]


def test_ctrl_c_ends_a_script_with_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended, log_to(tmp_path / "x.log"):
        log.info("a line")
        signal.raise_signal(signal.SIGINT)
    sentences = ["a line", "interrupted; the same command goes on from what is saved."]
    assert ended.value.code == 130 and capsys.readouterr().err.splitlines() == sentences
    assert [line[21:] for line in (tmp_path / "x.log").read_text().splitlines()] == sentences


def test_a_second_ctrl_c_does_not_wait_for_the_epoch():
    """Runs that train beside each other end the first one after their epoch, here of a minute."""
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


def test_importing_the_package_leaves_sigterm_alone():
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and not stopping.stop_requested()


@pytest.fixture(scope="module")
def config(study_file) -> RunConfig:
    return read_study(study_file).runs["dense"]


def train(config, digits_file, folder, **options) -> None:
    train_run(run_in(folder, config, name="dense", seeds=SEEDS), dataset_path=digits_file, **options)


def test_a_clock_that_jumps_changes_no_duration(config, digits_file, tmp_path, monkeypatch):
    generator = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: generator.uniform(0, 4e9))
    started = time.perf_counter()
    train(config, digits_file, tmp_path)
    seconds = time.perf_counter() - started
    for seed in SEEDS:
        result = read_result(tmp_path / f"seed_{seed}/results_dense.json")
        assert min(result["training_history"]["time"]) > 0
        assert sum(result["training_history"]["time"]) <= result["wall_time_s"] < seconds


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


# ---------------------------------------------------------------------------- files, killed while they are written

RESULT, OTHER_RESULT = synthetic_results(seeds=(0, 1))[:2]
IDENTITY = {"run": "dense", "seed": 0}


def _figure(path: Path, version: int) -> None:
    figure = new_figure(3, 2)
    figure.add_subplot().plot([1, 2 + version])
    save_figure(figure, png=path)


# How each kind of file is written, as its version 1 or 2.
WRITERS = {
    "result": lambda path, version: write_result(path, (RESULT, OTHER_RESULT)[version - 1]),
    "checkpoint": lambda path, version: save_checkpoint(
        path, tensors={"model/weight": torch.full((5000,), float(version))}, state={"epoch": version}, identity=IDENTITY
    ),
    "weights": lambda path, version: save_weights(path, {"weight": torch.ones(5000) * version}, metadata={}),
    "dataset": lambda path, version: prepare_dataset(
        {"source": "digits", "image_size": 8 * version}, path, download_folder=path.parent
    ),
    "figure": _figure,
    "table": lambda path, version: write_csv(epochs_table([RESULT, OTHER_RESULT][:version]), path),
    "sweep": lambda path, version: SweepProgress(path, {}).add({"version": version}, [{"long": "x" * 3000}]),
}


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _in_the_middle() -> None:
    # The kernel itself ends the process in the write that makes a file larger than this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def _before_the_name_changes() -> None:
    os.replace = lambda *_: _kill()


def _after_the_name_changed() -> None:
    replace = os.replace
    os.replace = lambda *names: (replace(*names), _kill())


@pytest.mark.parametrize("moment", [_in_the_middle, _before_the_name_changes, _after_the_name_changed])
@pytest.mark.parametrize("kind", WRITERS)
def test_killed_while_it_is_written_a_file_is_the_old_one_or_the_new_one(kind, moment, tmp_path):
    write, path = WRITERS[kind], tmp_path / "file"
    write(path, 1)
    old = path.read_bytes()

    def killed() -> None:
        moment()
        write(path, 2)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == (-signal.SIGXFSZ if moment == _in_the_middle else -signal.SIGKILL)
    left = path.read_bytes()
    parts = list(tmp_path.glob(".file.*.part"))
    write(path, 2)
    if moment == _after_the_name_changed:
        assert left == path.read_bytes() != old and not parts
    else:
        assert left == old != path.read_bytes() and len(parts) == 1
    # The next writer of a file takes away what the killed one left.
    assert not list(tmp_path.glob(".*"))


def test_a_part_that_another_process_is_writing_is_left_to_it(tmp_path):
    path = tmp_path / "shared.txt"
    with atomic_path(path) as mine:
        mine.write_text("slow")
        write_text(path, "fast")
        assert mine.exists()
    assert path.read_text() == "slow" and list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------------------- no room, no permission


@pytest.fixture
def full_disk(monkeypatch):
    """Every temporary file leads to /dev/full, where the kernel answers each write with ENOSPC."""

    def make(*, dir: Path, prefix: str, suffix: str):
        part = Path(dir) / f"{prefix}x{suffix}"
        part.symlink_to("/dev/full")
        return os.open(part, os.O_RDWR), str(part)

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkstemp", make)
        yield patched


@pytest.mark.parametrize("kind", WRITERS)
def test_on_a_full_disk_one_sentence_names_the_file_and_the_old_one_stays(kind, tmp_path, full_disk):
    path = tmp_path / "file"
    with pytest.raises(AfmpError, match=r"file: cannot be written \(No space left on device\); make room") as raised:
        WRITERS[kind](path, 1)
    assert "\n" not in str(raised.value) and list(tmp_path.iterdir()) == []
    full_disk.undo()
    WRITERS[kind](path, 1)
    old = path.read_bytes()
    full_disk.setattr(tempfile, "mkstemp", _read_only)
    with pytest.raises(AfmpError, match=r"file: cannot be written \(Read-only file system\); make room or get perm"):
        WRITERS[kind](path, 2)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def _read_only(**_):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_training_on_a_full_disk_ends_with_one_line_and_goes_on_when_there_is_room(
    undisturbed, study_file, digits_file, tmp_path, monkeypatch, full_disk, capsys
):
    epochs, count = [], loop._finish_epoch
    monkeypatch.setattr(loop, "_finish_epoch", lambda *a, **k: (count(*a, **k), epochs.append(1)))
    assert cli.main(arguments(study_file, digits_file, tmp_path)) == 2
    said = capsys.readouterr().err.splitlines()
    assert "cannot be written (No space left on device)" in said[-1] and not [s for s in said if "Traceback" in s]
    assert len(epochs) == 1 and [path.name for path in (tmp_path / "checkpoints").iterdir()] == [".lock"]
    full_disk.undo()
    assert cli.main(arguments(study_file, digits_file, tmp_path)) == 0
    assert_same_numbers(tmp_path, undisturbed[0])


def test_a_log_that_cannot_be_written_ends_nothing_and_clutters_nothing(tmp_path, capsys):
    (tmp_path / "full.log").symlink_to("/dev/full")
    for path in (tmp_path / "full.log", Path("/proc/no such folder/x.log")):
        with pytest.raises(SystemExit), log_to(path):
            log.info("a line")
            raise AfmpError("what was wrong")
        assert capsys.readouterr().err.splitlines() == ["a line", "error: what was wrong"]


def test_a_download_onto_a_full_disk_asks_no_further_source(tmp_path, full_disk):
    source = tmp_path / "archive"
    source.write_bytes(b"content")
    archive = Archive("x.tar.gz", 7, "0" * 64, (source.as_uri(), "http://127.0.0.1:9/never"), "none")
    with pytest.raises(AfmpError) as raised:
        fetch(archive, tmp_path / "x.tar.gz", attempts=1)
    assert "No space left on device" in str(raised.value) and "never" not in str(raised.value)


# ---------------------------------------------------------------------------- bits lost on the disk


def damages(content: bytes) -> list[bytes]:
    """Cut files and files with one bit changed, at random places and in the header."""
    generator = random.Random(0)
    cuts = [content[: generator.randrange(len(content))] for _ in range(10)]
    places = [*range(0, 200, 3), *(generator.randrange(len(content)) for _ in range(100))]
    return [b"", *cuts, *(flipped(content, place) for place in places)]


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it_and_that_is_said(tmp_path, caplog):
    path = tmp_path / "seed_0.safetensors"
    for version in (1, 2, 3):
        WRITERS["checkpoint"](path, version)
    content, before = path.read_bytes(), path.with_name(f"{path.name}.before").read_bytes()
    for damage in damages(content):
        path.write_bytes(damage)
        path.with_name(f"{path.name}.before").write_bytes(before)
        caplog.clear()
        tensors, state = load_checkpoint(path, identity=IDENTITY)
        assert state["epoch"] == 2 and tensors["model/weight"][0] == 2
        assert f"{path}: damaged; the one before it is used, of epoch 2" in caplog.text
    # What was used has taken the damaged one's place, and is kept when the next is written.
    WRITERS["checkpoint"](path, 3)
    path.write_bytes(content[:-1])
    assert load_checkpoint(path, identity=IDENTITY)[1]["epoch"] == 2
    path.write_bytes(b"")
    with pytest.raises(AfmpError, match=r"seed_0.safetensors: damaged checkpoint .*; delete it and the run starts"):
        load_checkpoint(path, identity=IDENTITY)


def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    undisturbed, config, digits_file, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO", logger="afmp")
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", float("inf"))  # a checkpoint every epoch
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
    assert_same_numbers(tmp_path, undisturbed[0])


def test_a_damaged_dataset_is_prepared_again_as_it_was(digits_file, tmp_path, caplog):
    path = tmp_path / "digits.safetensors"
    content = digits_file.read_bytes()
    for damage in (b"", content[:-1], flipped(content, len(content) // 2)):
        path.write_bytes(damage)
        os.utime(path, (1e9, 1e9))
        with pytest.raises(AfmpError, match="delete it so that it is prepared again"):
            load_dataset(path)
        caplog.clear()
        repair_dataset(path, DATASET, download_folder=tmp_path)
        assert path.read_bytes() == content and path.stat().st_mtime == 1e9
        assert f"{path}: " in caplog.text and caplog.messages[0].endswith("; it is prepared again.")
    path.touch()
    kept = path.stat().st_ino
    repair_dataset(path, DATASET, download_folder=tmp_path)
    assert path.stat().st_ino == kept


def test_a_damaged_result_is_refused_by_name(tmp_path):
    path = tmp_path / "results_dense.json"
    write_result(path, RESULT)
    content = path.read_bytes()
    assert read_result(path) == json.loads(json.dumps(RESULT))
    for damage in damages(content):
        path.write_bytes(damage)
        try:
            found = read_result(path)
        except AfmpError as error:
            assert str(error).startswith(f"{path}: ") and "elete it so that it is made again" in str(error)
        else:
            assert found == json.loads(json.dumps(RESULT))  # a bit of the white space between numbers


@pytest.mark.long
def test_a_damaged_memory_of_a_sweep_is_not_used(tmp_path):
    path = tmp_path / "sweep.jsonl"
    group = {"resolution": 32}
    SweepProgress(path, {}).add(group, [{"time_ms": 1.5}])
    content = path.read_bytes()
    assert SweepProgress(path, {}).find(group) == [{"time_ms": 1.5}]
    for place in range(len(content)):
        path.write_bytes(flipped(content, place))
        assert SweepProgress(path, {}).find(group) in (None, [{"time_ms": 1.5}])
