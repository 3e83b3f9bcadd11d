"""Processes that run in parallel on a machine with two made-up GPUs."""

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from conftest import PROJECT

GPUS = ("GPU-aaaa", "GPU-bbbb")  # what the made-up nvidia-smi lists


class Job:
    """A process that runs `code` until its input is closed. A test can wait for a line of its output."""

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

    def wait_for(self, text: str) -> str:
        """Return the first line with `text`, as soon as it is written."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if matching := [line.strip() for line in self.lines if text in line]:
                return matching[0]
            time.sleep(0.02)
        raise AssertionError(f"never wrote {text!r}: {self.lines}")

    def kill(self) -> None:
        """Kill the job and wait for its end."""
        self.process.kill()
        self.process.wait()

    def finish(self) -> list[str]:
        """Let the job run to its end and return all its output."""
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0, self.lines
        self.reader.join()
        return self.lines


@contextmanager
def job_starter(folder: Path):
    """Yield a function that starts a Job on the machine with two GPUs, whose temporary folder is `folder`."""
    smi = folder / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho '" + "\n".join(GPUS) + "'\n")
    smi.chmod(0o755)
    own = {"PATH": f"{smi.parent}:{os.environ['PATH']}", "TMPDIR": str(folder), "PYTHONPATH": str(PROJECT)}
    machine = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"} | own
    jobs = []

    def start(code: str, *arguments: str | Path, **environment: str) -> Job:
        jobs.append(Job(code, *arguments, environment=machine | environment))
        return jobs[-1]

    try:
        yield start
    finally:
        for job in jobs:
            job.kill()
            job.reader.join()
