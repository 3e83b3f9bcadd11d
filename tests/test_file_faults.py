"""Faults of the disk and of processes that write files. Each fault is real or injected."""

import errno
import json
import multiprocessing
import os
import random
import resource
import signal
import tempfile
from pathlib import Path

import pytest
import torch
from damaged_files import flipped
from synthetic_results import synthetic_results

from afmp.analysis.study_tables import epochs_table
from afmp.analysis.table_files import write_csv
from afmp.benchmark.progress import SweepProgress
from afmp.data.dataset import load_dataset
from afmp.data.download import Archive, fetch
from afmp.data.preparation import prepare_dataset, repair_dataset
from afmp.errors import AfmpError
from afmp.figures.parts.style import new_figure, save_figure
from afmp.log import log, log_to
from afmp.records import atomic_path, read_result, write_result, write_text
from afmp.training.checkpoint import load_checkpoint, save_checkpoint, save_weights

# Processes killed while they write

RESULT, OTHER_RESULT = synthetic_results(seeds=(0, 1))[:2]
IDENTITY = {"run": "dense", "seed": 0}


def _figure(path: Path, version: int) -> None:
    figure = new_figure(3, 2)
    figure.add_subplot().plot([1, 2 + version])
    save_figure(figure, png=path)


# A function per kind of file that writes its version 1 or 2.
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
    # The kernel ends the process in the write that makes a file larger than this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def _before_the_name_changes() -> None:
    os.replace = lambda *_: _kill()


def _after_the_name_changed() -> None:
    replace = os.replace
    os.replace = lambda *names: (replace(*names), _kill())


@pytest.mark.promise("no-partial-file")
@pytest.mark.parametrize("moment", [_in_the_middle, _before_the_name_changes, _after_the_name_changed])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_whose_writer_is_killed_is_the_old_or_the_new_one(kind, moment, tmp_path):
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
    # The next writer of a file removes the temporary file of the killed one.
    assert not list(tmp_path.glob(".*"))


@pytest.mark.promise("no-partial-file")
def test_the_temporary_file_of_another_process_is_not_removed(tmp_path):
    path = tmp_path / "shared.txt"
    with atomic_path(path) as mine:
        mine.write_text("slow")
        write_text(path, "fast")
        assert mine.exists()
    assert path.read_text() == "slow" and list(tmp_path.iterdir()) == [path]


# Disks that are full or read-only


@pytest.mark.promise("full-disk")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_gives_one_sentence_that_names_the_file_and_keeps_the_old_one(kind, tmp_path, full_disk):
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


@pytest.mark.promise("full-disk")
def test_a_log_that_cannot_be_written_does_not_end_the_job(tmp_path, capsys):
    (tmp_path / "full.log").symlink_to("/dev/full")
    os.mkfifo(tmp_path / "pipe.log")
    for path in (tmp_path / "full.log", tmp_path / "pipe.log", tmp_path, Path("/proc/no such folder/x.log")):
        with pytest.raises(SystemExit), log_to(path):
            log.info("a line")
            raise AfmpError("what was wrong")
        assert capsys.readouterr().err.splitlines() == ["a line", "error: what was wrong"]


@pytest.mark.promise("full-disk")
def test_a_download_to_a_full_disk_tries_no_other_source(tmp_path, full_disk):
    source = tmp_path / "archive"
    source.write_bytes(b"content")
    archive = Archive("x.tar.gz", 7, "0" * 64, (source.as_uri(), "http://127.0.0.1:9/never"), "none")
    with pytest.raises(AfmpError) as raised:
        fetch(archive, tmp_path / "x.tar.gz", attempts=1)
    assert "No space left on device" in str(raised.value) and "never" not in str(raised.value)


@pytest.mark.promise("ctrl-c-ends-with-a-sentence")
def test_ctrl_c_ends_a_script_with_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended, log_to(tmp_path / "x.log"):
        log.info("a line")
        signal.raise_signal(signal.SIGINT)
    sentences = ["a line", "interrupted; run the same command again to resume."]
    assert ended.value.code == 130 and capsys.readouterr().err.splitlines() == sentences
    assert [line[21:] for line in (tmp_path / "x.log").read_text().splitlines()] == sentences


# Files that are cut or have a wrong bit


def damages(content: bytes) -> list[bytes]:
    """Return cut files and files with one changed bit, at random places and in the header."""
    generator = random.Random(0)
    cuts = [content[: generator.randrange(len(content))] for _ in range(10)]
    places = [*range(0, 200, 3), *(generator.randrange(len(content)) for _ in range(100))]
    return [b"", *cuts, *(flipped(content, place) for place in places)]


@pytest.mark.promise("damaged-checkpoint")
def test_a_damaged_checkpoint_is_replaced_by_the_previous_one_and_logged(tmp_path, caplog):
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
    # The previous one has replaced the damaged one, and is kept when the next one is written.
    WRITERS["checkpoint"](path, 3)
    path.write_bytes(content[:-1])
    assert load_checkpoint(path, identity=IDENTITY)[1]["epoch"] == 2
    path.write_bytes(b"")
    with pytest.raises(
        AfmpError, match=r"seed_0.safetensors: damaged, or no safetensors file .*; delete it and the run starts"
    ):
        load_checkpoint(path, identity=IDENTITY)


@pytest.mark.promise("damaged-dataset-before-training")
def test_a_damaged_dataset_is_prepared_again_with_the_same_content(digits_file, tmp_path, caplog):
    path = tmp_path / "digits.safetensors"
    dataset = {"source": "digits", "path": None, "image_size": 32}
    content = digits_file.read_bytes()
    for damage in (b"", content[:-1], flipped(content, len(content) // 2)):
        path.write_bytes(damage)
        os.utime(path, (1e9, 1e9))
        with pytest.raises(AfmpError, match="delete it so that it is prepared again"):
            load_dataset(path)
        caplog.clear()
        repair_dataset(path, dataset, download_folder=tmp_path)
        assert path.read_bytes() == content and path.stat().st_mtime == 1e9
        assert f"{path}: " in caplog.text and caplog.messages[0].endswith("; it is prepared again.")
    path.touch()
    kept = path.stat().st_ino
    repair_dataset(path, dataset, download_folder=tmp_path)
    assert path.stat().st_ino == kept


@pytest.mark.promise("damaged-result")
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
            assert found == json.loads(json.dumps(RESULT))  # the bit was in white space


@pytest.mark.promise("damaged-result")
@pytest.mark.long
def test_damaged_points_of_an_unfinished_sweep_are_not_used(tmp_path):
    path = tmp_path / "sweep.jsonl"
    group = {"resolution": 32}
    SweepProgress(path, {}).add(group, [{"time_ms": 1.5}])
    content = path.read_bytes()
    assert SweepProgress(path, {}).find(group) == [{"time_ms": 1.5}]
    for place in range(len(content)):
        path.write_bytes(flipped(content, place))
        assert SweepProgress(path, {}).find(group) in (None, [{"time_ms": 1.5}])
