"""Jobs side by side on one machine: a GPU each, one trainer to a checkpoint folder, one download to a data store."""

import errno
import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import PROJECT
from tiny_archives import archive_of, tiny_cifar

from afmp.data.dataset import load_dataset
from afmp.machine import locks
from afmp.machine.locks import locked

GPUS = ("GPU-aaaa", "GPU-bbbb")  # pretended ones: what nvidia-smi lists


class Job:
    """A process that runs `code`; what it says, on either stream, can be waited for."""

    def __init__(self, code: str, *arguments: str | Path, environment: dict[str, str]):
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import os, sys\n" + code, *map(str, arguments)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")))
        self.reader.start()

    def says(self, text: str) -> str:
        """The first line with `text`, as soon as it is there."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if found := [line.strip() for line in self.lines if text in line]:
                return found[0]
            time.sleep(0.02)
        raise AssertionError(f"never said {text!r}: {self.lines}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> list[str]:
        """Tell the job to go on to its end; all that it said."""
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0, self.lines
        self.reader.join()
        return self.lines


@pytest.fixture
def start(tmp_path):
    """Start jobs on a machine of the pretended GPUs, with a temporary folder of its own."""
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho '" + "\n".join(GPUS) + "'\n")
    smi.chmod(0o755)
    own = {"PATH": f"{smi.parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    machine = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"} | own
    jobs = []

    def start_job(code: str, *arguments: str | Path, **environment: str) -> Job:
        jobs.append(Job(code, *arguments, environment=machine | environment))
        return jobs[-1]

    yield start_job
    for job in jobs:
        job.kill()
        job.reader.join()


# ---------------------------------------------------------------------------- a GPU for each job

HOLD_GPU = """
from afmp.machine.device_lock import own_device
from afmp.log import show_progress
with show_progress(), own_device(sys.argv[1]):
    print("has", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    sys.stdin.read()
print("left", os.environ.get("CUDA_VISIBLE_DEVICES"))
"""


def test_each_job_has_a_gpu_of_its_own_and_a_killed_one_gives_it_back(start):
    first, second = start(HOLD_GPU, "auto"), start(HOLD_GPU, "cuda")
    given = first.says("has")
    assert {given, second.says("has")} == {"has 0", "has 1"}
    third = start(HOLD_GPU, "auto")
    said = third.says("every GPU that this job may use (0, 1) is taken: start no more GPU jobs at once than GPUs")
    assert f"process {first.process.pid} on" in said and f"process {second.process.pid} on" in said
    assert not [line for line in third.lines if line.startswith("has")]
    first.kill()
    assert third.says("has") == given
    assert "left None\n" in second.end()


@pytest.mark.parametrize("visible", ["1", "1,0", "GPU-bbbb", "1,-1,0"])
def test_the_gpus_that_a_scheduler_gave_are_kept_to(start, visible):
    job = start(HOLD_GPU, "auto", CUDA_VISIBLE_DEVICES=visible)
    assert job.says("has") == f"has {visible.split(',')[0]}"
    # Whoever names the same GPU in another way does not get it.
    assert start(HOLD_GPU, "auto").says("has") == "has 0"
    assert start(HOLD_GPU, "auto", CUDA_VISIBLE_DEVICES="1").says("is taken")
    assert f"left {visible}\n" in job.end()


def test_who_needs_no_gpu_takes_none(start):
    holders = [start(HOLD_GPU, "auto"), start(HOLD_GPU, "auto")]
    for holder in holders:
        holder.says("has")
    for device in ("cpu", "mps", "cuda:1"):
        assert start(HOLD_GPU, device).says("has") == "has None"
    assert start(HOLD_GPU, "auto", CUDA_VISIBLE_DEVICES="").says("has") == "has"
    assert start(HOLD_GPU, "auto", CUDA_VISIBLE_DEVICES="-1").says("has") == "has -1"
    assert start(HOLD_GPU, "auto", PATH="/nowhere").says("has") == "has None"  # a machine without NVIDIA's tools


MEASURE = """
from afmp.machine.device_lock import own_device
from afmp.machine.isolation import run_isolated
with own_device("cuda"):
    print("measures on", run_isolated("os:getenv", {"key": "CUDA_VISIBLE_DEVICES"}), flush=True)
    run_isolated("subprocess:run", {"args": ["sleep", "30"], "stdout": -3, "stderr": -3})
"""


def test_a_sweep_holds_its_gpu_for_the_processes_that_measure(start):
    sweep = start(MEASURE, CUDA_VISIBLE_DEVICES="1")
    assert sweep.says("measures on") == "measures on 1"
    waiting = start(HOLD_GPU, "auto", CUDA_VISIBLE_DEVICES="1")
    waiting.says("is taken")
    sweep.kill()
    assert waiting.says("has") == "has 1"  # though what the sweep started may live a moment longer


# ---------------------------------------------------------------------------- one trainer to a checkpoint folder

HOLD_CHECKPOINTS = """
from pathlib import Path
from afmp.training.checkpoint_lock import lock_checkpoints
from afmp.log import show_progress
with show_progress(), lock_checkpoints(Path(sys.argv[1])):
    print("trains", flush=True)
    sys.stdin.read()
"""


def test_a_second_trainer_waits_and_says_for_whom(start, tmp_path):
    folder = tmp_path / "checkpoints/paper/dense"
    first = start(HOLD_CHECKPOINTS, folder)
    first.says("trains")
    second = start(HOLD_CHECKPOINTS, folder)
    said = second.says("another process trains into this folder; waiting for")
    assert str(folder) in said and f"process {first.process.pid} on" in said and "trains\n" not in second.lines
    assert start(HOLD_CHECKPOINTS, folder.with_name("sparse")).says("trains")
    first.kill()
    second.says("trains\n")


def test_where_the_file_system_has_no_locks_work_goes_on_and_it_is_said(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    caplog.set_level("INFO", "afmp")
    with locked(tmp_path / "a", tmp_path / "b", busy="taken") as lock:
        assert lock == tmp_path / "a"
    assert f"{tmp_path / 'a'}: cannot be locked (No locks available)" in caplog.text


# ---------------------------------------------------------------------------- one download to a data store

PREPARE = """
from pathlib import Path
from afmp.data import dataset as datasets
from afmp.data.download import Archive, archive_folder
from afmp.log import show_progress
name, size, sha256, address, destination = sys.argv[1:]
datasets.ARCHIVES["cifar100"] = Archive(name, int(size), sha256, (address,), "none")
config = {"source": "cifar100", "path": None, "image_size": 32}
with show_progress():
    datasets.prepare_dataset(config, Path(destination), download_folder=archive_folder("not_here"))
"""


@pytest.fixture
def slow_server():
    """A local web server that stops in the middle of `content` until `go_on` is set; `asked` counts requests."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            httpd.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(httpd.content)))
            self.end_headers()
            half = len(httpd.content) // 2
            try:
                self.wfile.write(httpd.content[:half])
                httpd.go_on.wait(60)
                self.wfile.write(httpd.content[half:])
            except OSError:
                pass  # who asked was killed

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.content, httpd.asked, httpd.go_on = tiny_cifar("cifar100")[0], 0, threading.Event()
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    yield httpd
    httpd.go_on.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.mark.parametrize("killed", [False, True])
def test_two_workflows_share_one_download(start, slow_server, tmp_path, killed):
    archive = archive_of(slow_server.content, f"http://127.0.0.1:{slow_server.server_address[1]}/a")
    store = tmp_path / "store"

    def prepare(destination: str) -> Job:
        wanted = (archive.file_name, archive.num_bytes, archive.sha256, archive.addresses[0], tmp_path / destination)
        return start(PREPARE, *wanted, AFMP_DATA_DIR=str(store))

    first = prepare("first.safetensors")
    first.says("asking")
    while not list(store.glob("*.part")):
        time.sleep(0.02)
    second = prepare("second.safetensors")
    assert f"process {first.process.pid} on" in second.says("another process is fetching it; waiting for")
    assert slow_server.asked == 1
    if killed:
        first.kill()
        second.says("asking")
    slow_server.go_on.set()
    second.end()
    assert slow_server.asked == (2 if killed else 1)
    if not killed:
        first.end()
        assert sorted(path.name for path in store.iterdir()) == [f".{archive.file_name}.lock", archive.file_name]
        assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "second.safetensors").read_bytes()
    assert load_dataset(tmp_path / "second.safetensors").num_classes == 3
    assert not Path("not_here").exists()
