"""A GPU of its own for each job on a machine: jobs that run at once would all take the first one."""

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
    """Leave one NVIDIA GPU visible to this process and its children, and hold it while the block runs.

    name: the device of the configuration; auto and cuda take the first GPU that no other job of this machine holds, of
    those that CUDA_VISIBLE_DEVICES (a person, a scheduler) leaves to this one, and wait where all are held. A device
    with an index, cpu, mps, or a machine without GPUs takes none. To be entered before CUDA is.
    """
    gpus = _visible_gpus() if name in ("auto", "cuda") else {}
    if not gpus:
        yield
        return
    folder = Path(tempfile.gettempdir())  # the same for every user of the machine
    locks = {folder / f"afmp_{identity.replace('/', '_')}.lock": entry for entry, identity in gpus.items()}
    busy = f"every GPU that this job may use ({', '.join(gpus)}) is taken: start no more GPU jobs at once than GPUs"
    before = os.environ.get(VISIBLE)
    with locked(*locks, busy=busy) as lock:
        os.environ[VISIBLE] = locks[lock]
        log.info("takes GPU %s of %s", locks[lock], ", ".join(gpus))
        try:
            yield
        finally:
            os.environ.pop(VISIBLE)
            if before is not None:
                os.environ[VISIBLE] = before


def _visible_gpus() -> dict[str, str]:
    """What CUDA_VISIBLE_DEVICES calls each GPU that this process may use, and an identity that all processes share."""
    uuids = _gpu_uuids()
    visible = os.environ.get(VISIBLE)
    entries = map(str, range(len(uuids))) if visible is None else map(str.strip, visible.split(","))
    # As CUDA reads it: nothing after the first -1.
    entries = takewhile(lambda entry: entry not in ("", "-1"), entries)
    return {entry: uuids[int(entry)] if entry.isdigit() and int(entry) < len(uuids) else entry for entry in entries}


def _gpu_uuids() -> list[str]:
    # Not from torch, which would start CUDA, after which the choice comes too late.
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
