"""One GPU per job: jobs in parallel on one machine."""

import pytest
from jobs import job_starter


@pytest.fixture
def start(tmp_path):
    with job_starter(tmp_path) as start:
        yield start


HOLD_GPU = """
from afmp.machine.device_lock import own_device
from afmp.log import show_progress
with show_progress(), own_device(sys.argv[1]):
    print("has", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    sys.stdin.read()
print("left", os.environ.get("CUDA_VISIBLE_DEVICES"))
"""


@pytest.mark.promise("one-gpu-per-job")
def test_each_job_has_its_own_gpu_and_a_killed_job_frees_it(start):
    first, second = start(HOLD_GPU, "auto"), start(HOLD_GPU, "cuda")
    given = first.wait_for("has")
    assert {given, second.wait_for("has")} == {"has 0", "has 1"}
    third = start(HOLD_GPU, "auto")
    line = third.wait_for("other jobs use all GPUs that this job may use (0, 1): start no more GPU jobs at once")
    assert f"process {first.process.pid} on" in line and f"process {second.process.pid} on" in line
    assert not [line for line in third.lines if line.startswith("has")]
    first.kill()
    assert third.wait_for("has") == given
    assert "left None\n" in second.finish()


@pytest.mark.promise("one-gpu-per-job")
@pytest.mark.parametrize("visible", ["1", "1,0", "GPU-bbbb", "1,-1,0"])
def test_only_the_gpus_that_a_scheduler_allows_are_used(start, visible):
    job = start(HOLD_GPU, "auto", CUDA_VISIBLE_DEVICES=visible)
    assert job.wait_for("has") == f"has {visible.split(',')[0]}"
    # Another name of the same GPU means the same lock.
    assert start(HOLD_GPU, "auto").wait_for("has") == "has 0"
    assert start(HOLD_GPU, "auto", CUDA_VISIBLE_DEVICES="1").wait_for("other jobs use all GPUs")
    assert f"left {visible}\n" in job.finish()


def test_a_job_that_needs_no_gpu_locks_none(start):
    holders = [start(HOLD_GPU, "auto"), start(HOLD_GPU, "auto")]
    for holder in holders:
        holder.wait_for("has")
    for device in ("cpu", "mps", "cuda:1"):
        assert start(HOLD_GPU, device).wait_for("has") == "has None"
    assert start(HOLD_GPU, "auto", CUDA_VISIBLE_DEVICES="").wait_for("has") == "has"
    assert start(HOLD_GPU, "auto", CUDA_VISIBLE_DEVICES="-1").wait_for("has") == "has -1"
    assert start(HOLD_GPU, "auto", PATH="/nowhere").wait_for("has") == "has None"  # no nvidia-smi


MEASURE = """
from afmp.machine.device_lock import own_device
from afmp.machine.isolation import run_isolated
with own_device("cuda"):
    print("measures on", run_isolated("os:getenv", {"key": "CUDA_VISIBLE_DEVICES"}), flush=True)
    run_isolated("subprocess:run", {"args": ["sleep", "30"], "stdout": -3, "stderr": -3})
"""


@pytest.mark.promise("one-gpu-per-job")
def test_a_sweep_holds_its_gpu_for_the_processes_that_measure(start):
    sweep = start(MEASURE, CUDA_VISIBLE_DEVICES="1")
    assert sweep.wait_for("measures on") == "measures on 1"
    waiting = start(HOLD_GPU, "auto", CUDA_VISIBLE_DEVICES="1")
    waiting.wait_for("other jobs use all GPUs")
    sweep.kill()
    assert waiting.wait_for("has") == "has 1"  # although a process of the sweep may live a moment longer
