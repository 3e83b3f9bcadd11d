"""One process at a time trains into a checkpoint folder."""

import pytest
from jobs import job_starter


@pytest.fixture
def start(tmp_path):
    with job_starter(tmp_path) as start:
        yield start


HOLD_CHECKPOINTS = """
from pathlib import Path
from afmp.training.checkpoint_lock import lock_checkpoints
from afmp.log import show_progress
with show_progress(), lock_checkpoints(Path(sys.argv[1])):
    print("trains", flush=True)
    sys.stdin.read()
"""


@pytest.mark.promise("second-trainer-waits")
def test_a_second_trainer_waits_and_logs_for_whom(start, tmp_path):
    folder = tmp_path / "checkpoints/paper/dense"
    first = start(HOLD_CHECKPOINTS, folder)
    first.wait_for("trains")
    second = start(HOLD_CHECKPOINTS, folder)
    line = second.wait_for("another process trains into this folder; waiting for")
    assert str(folder) in line and f"process {first.process.pid} on" in line and "trains\n" not in second.lines
    assert start(HOLD_CHECKPOINTS, folder.with_name("sparse")).wait_for("trains")
    first.kill()
    second.wait_for("trains\n")
