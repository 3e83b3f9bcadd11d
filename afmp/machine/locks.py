"""File locks between processes. The system frees a lock when its process ends, so a killed job never blocks another.

filelock takes the lock itself, on a file that is opened here. Its class FileLock refuses the file of another user in a
shared temporary folder, waits for one file and not for the first free one of several, and does not say who holds it.
"""

import logging
import os
import platform
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

log = logging.getLogger("afmp")

POLL_SECONDS = 0.5


@contextmanager
def locked(*paths: Path | str, busy: str):
    """Hold the lock of the first free file of `paths` inside this block, and yield its path.

    While other processes hold all of them, wait, and log once that they are `busy` and who holds them. The files stay
    afterwards: only their locks count. Where the file system allows no lock (a read-only folder, some network file
    systems), log that and yield the first path.
    """
    descriptors = []
    try:
        try:
            descriptors.extend(map(_open, paths))
            locked_index = _wait_for_one(descriptors, busy)
        except OSError as error:
            log.info(
                "%s: cannot be locked (%s); make sure that no other process does the same work meanwhile.",
                paths[0],
                error.strerror,
            )
            locked_index = 0
        yield Path(paths[locked_index])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def lock_if_free(path: Path | str, held: ExitStack) -> bool:
    """Lock one file until `held` closes. Return False at once if another process holds it.

    Where the file system allows no lock, return True, as `locked` does.
    """
    try:
        descriptor = _open(path)
        held.callback(os.close, descriptor)
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return True


def _open(path: Path | str) -> int:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        # First without O_CREAT: in a shared temporary folder the system refuses it for another user's file.
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT)
        os.fchmod(descriptor, 0o666)  # every user of the machine or of the data store must be able to lock it
        return descriptor


def _wait_for_one(descriptors: list[int], busy: str) -> int:
    """Lock one of the open files and return its index; wait while all are locked."""
    logged = False
    while True:
        for index, descriptor in enumerate(descriptors):
            if lock_descriptor(descriptor, blocking=False):
                with suppress(OSError):  # on a full disk: the name only informs people
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
                return index
        if not logged:
            holders = [os.pread(descriptor, 200, 0).decode(errors="replace") for descriptor in descriptors]
            log.info("%s; waiting for %s.", busy, " or ".join(filter(None, holders)) or "another process")
            logged = True
        time.sleep(POLL_SECONDS)
