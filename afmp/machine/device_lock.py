"""One GPU per job: without a lock, jobs that run at the same time on a machine would all use the first GPU."""

import logging
import os
import subprocess
import tempfile
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from afmp.machine.locks import locked

log = logging.getLogger("afmp")

VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def own_device(name: str):
    """Lock one NVIDIA GPU inside this block, and make only that one visible to this process and its children.

    name: the device of the configuration. For auto and cuda, the first GPU is locked that no other job of this machine
    has locked, among those that CUDA_VISIBLE_DEVICES allows; while all are locked, it waits. For a device with an
    index, for cpu and mps, and on a machine without GPUs, nothing is locked. Enter the block before CUDA starts.
    """
    gpus = _visible_gpus() if name in ("auto", "cuda") else {}
    if not gpus:
        yield
        return
    folder = Path(tempfile.gettempdir())  # the same folder for every user of the machine
    locks = {folder / f"afmp_{identity.replace('/', '_')}.lock": entry for entry, identity in gpus.items()}
    busy = (
        f"other jobs use all GPUs that this job may use ({', '.join(gpus)}): start no more GPU jobs at once than GPUs"
    )
    before = os.environ.get(VISIBLE)
    with locked(*locks, busy=busy) as lock:
        os.environ[VISIBLE] = locks[lock]
        log.info("uses GPU %s of %s", locks[lock], ", ".join(gpus))
        try:
            yield
        finally:
            os.environ.pop(VISIBLE)
            if before is not None:
                os.environ[VISIBLE] = before


def _visible_gpus() -> dict[str, str]:
    """Return, by entry of CUDA_VISIBLE_DEVICES, an identity for each usable GPU that all processes share."""
    uuids = _gpu_uuids()
    visible = os.environ.get(VISIBLE)
    entries = map(str, range(len(uuids))) if visible is None else map(str.strip, visible.split(","))
    # CUDA ignores everything after the first -1.
    entries = takewhile(lambda entry: entry not in ("", "-1"), entries)
    return {entry: uuids[int(entry)] if entry.isdigit() and int(entry) < len(uuids) else entry for entry in entries}


def _gpu_uuids() -> list[str]:
    # Not from torch: it would start CUDA, and then it is too late to choose a GPU.
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
