"""Settings of every test, and fixtures that several tests share: the digits as a prepared dataset, and a full disk."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import torch

PROJECT = Path(__file__).resolve().parent.parent

# A background job of a shell ignores Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, str(PROJECT))
# Nor does the profile of a person, or another setting of Snakemake's, belong to a test.
for name in [name for name in os.environ if name.startswith("SNAKEMAKE_")]:
    del os.environ[name]

torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported: its kernels then run on the CPU


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory) -> Path:
    """The digits of scikit-learn, prepared at 32 px."""
    from afmp.data.preparation import prepare_dataset

    path = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    config = {"source": "digits", "path": None, "image_size": 32}
    prepare_dataset(config, path, download_folder=path.parent)
    return path


@pytest.fixture(scope="session")
def few_digits_file(tmp_path_factory) -> Path:
    """Every third of these digits, for tests that train."""
    from training_runs import prepare_few_digits

    return prepare_few_digits(tmp_path_factory.mktemp("few_digits"), image_size=32)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder that all processes of a test run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def drawn(shared_folder) -> Path:
    """The folder of figures that are drawn once in a test run."""
    return shared_folder / "drawn"


@pytest.fixture(scope="session")
def finished_workflow(shared_folder) -> Path:
    """The project after one full run of the workflow, including the report. Tests copy it, and leave it as it is."""
    from workflow_runs import finish_workflow, made_once

    return made_once(shared_folder / "workflow", finish_workflow)


@pytest.fixture(scope="session")
def finished_project(shared_folder, digits_file, drawn) -> Path:
    """A project with a finished study, in which all files agree. Tests copy it, and leave it as it is."""
    from finished_study import STUDY, draw_once, finish_study
    from workflow_runs import copy_project, made_once, write_study

    from afmp.study.study import read_study

    def make(folder: Path) -> None:
        write_study(copy_project(folder), STUDY)
        with pytest.MonkeyPatch.context() as patched:
            draw_once(patched, drawn)
            finish_study(folder / "results", read_study(folder / "config.yaml"), digits_file)

    return made_once(shared_folder / "finished", make)


@pytest.fixture
def figures_drawn_once(drawn, monkeypatch) -> None:
    """Verification draws a figure of the same data only once, and counts the parameters of the same models once."""
    from finished_study import count_once, draw_once

    draw_once(monkeypatch, drawn)
    count_once(monkeypatch)


@pytest.fixture
def study_to_break(finished_project, tmp_path, figures_drawn_once, monkeypatch) -> Path:
    """A copy of the finished project that a test may break. Verification says every fault of it."""
    monkeypatch.setattr("afmp.finished.verify.SHOWN_FAULTS", 1000)
    return Path(shutil.copytree(finished_project, tmp_path / "project"))


@pytest.fixture
def powerless():
    """A folder, and a process that has no more rights than any user: root, who may run the tests, reads everything."""
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()
    if user == 0:
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(user)
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)


@pytest.fixture
def full_disk(monkeypatch):
    """Make every temporary file a link to /dev/full, where each write fails because the disk is full."""

    def make(*, dir: Path, prefix: str, suffix: str):
        part = Path(dir) / f"{prefix}x{suffix}"
        part.symlink_to("/dev/full")
        return os.open(part, os.O_RDWR), str(part)

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkstemp", make)
        yield patched
