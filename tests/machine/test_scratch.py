"""Scratch folders: that of a killed process is removed by the next one, that of a running process is not."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import PROJECT

from afmp.errors import AfmpError
from afmp.machine.scratch import scratch_folder

KILLED = {
    "sweep": "from afmp.machine.isolation import run_isolated\nrun_isolated('os:getcwd', {})",
    "archive": "from afmp.machine.scratch import scratch_folder\nfolder = scratch_folder()\n"
    "(folder.__enter__() / 'file').write_text('x')",
}


@pytest.fixture
def folder():
    """A temporary folder with a short path, as the system's own is."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


def start(code: str, folder: Path) -> int:
    """Run code whose TMPDIR is `folder`, and return the exit code."""
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(PROJECT)}
    return subprocess.run([sys.executable, "-c", code], env=environment).returncode


@pytest.mark.promise("temporary-folders")
@pytest.mark.parametrize("job", KILLED)
@pytest.mark.parametrize("next_job", KILLED)
def test_the_next_process_removes_the_folder_of_a_killed_one(job, next_job, folder):
    assert start(f"{KILLED[job]}\nimport os\nos.kill(os.getpid(), 9)", folder) == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert any(left.iterdir())
    assert start(KILLED[next_job], folder) == 0
    assert not left.exists()


@pytest.mark.promise("temporary-folders")
def test_the_folder_of_a_process_that_runs_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder() as mine:
        with scratch_folder() as other:
            assert mine.is_dir() and other.is_dir() and other != mine
        assert list(tmp_path.iterdir()) == [mine]
    assert not list(tmp_path.iterdir())


def test_a_forked_process_that_ends_leaves_the_folder_of_its_parent(folder):
    code = (
        "import multiprocessing\nfrom afmp.machine.scratch import process_folder\nfolder = process_folder()\n"
        "child = multiprocessing.get_context('fork').Process(target=print)\nchild.start()\nchild.join()\n"
        "assert folder.is_dir()"
    )
    assert start(code, folder) == 0
    assert not list(folder.iterdir())


@pytest.mark.promise("any-temporary-folder")
@pytest.mark.parametrize("name", ["short", "a" * 100, "ä b'" * 30])
def test_processes_start_whatever_the_temporary_folder_is_called(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    assert start(KILLED["sweep"], folder) == 0
    assert not list(folder.iterdir())


@pytest.mark.promise("any-temporary-folder")
def test_without_any_temporary_folder_the_error_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere", "/proc"])
    with pytest.raises(AfmpError, match=r"^TMPDIR=/nowhere: neither this folder .* can be written"), scratch_folder():
        pass
