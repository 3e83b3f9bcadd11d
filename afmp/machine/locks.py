"""Locks between processes, freed by the system when their holder ends, however it ends: a killed job blocks nobody."""

import fcntl
import logging
import os
import platform
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

log = logging.getLogger("afmp")

POLL_SECONDS = 0.5


@contextmanager
def alone(*paths: Path | str, busy: str):
    """Hold one of some lock files, the first that is free, while the block runs; yields its path.

    While others hold them all it waits, and says once what is `busy` and who they are. The files stay when the block
    ends: nothing but their lock counts. Where there can be no lock (a read-only folder, some network file systems) it
    says so and yields the first path.
    """
    descriptors = []
    try:
        try:
            descriptors.extend(map(_open, paths))
            taken = _wait_for_one(descriptors, busy)
        except OSError as error:
            log.info("%s: cannot be locked (%s); let no other process do the same meanwhile.", paths[0], error.strerror)
            taken = 0
        yield Path(paths[taken])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def lock_checkpoints(folder: Path) -> AbstractContextManager:
    """Holds a folder of checkpoints against other processes that train into it; waits for one that does."""
    return alone(Path(folder) / ".lock", busy=f"{folder}: another process trains into this folder")


def lock_if_free(folder: Path, held: ExitStack) -> bool:
    """Hold a folder of checkpoints for as long as `held` is open; False, without waiting, if another process does."""
    try:
        descriptor = _open(Path(folder) / ".lock")
    except OSError:
        return True  # no locks here, as `alone` says
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _open(path: Path | str) -> int:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        # First without O_CREAT: in a shared temporary folder it is refused for a file of another user's.
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT)
        os.fchmod(descriptor, 0o666)  # every user of the machine or of the data store has to be able to lock it
        return descriptor


def _wait_for_one(descriptors: list[int], busy: str) -> int:
    """The index of the one that this process has locked now."""
    said = False
    while True:
        for index, descriptor in enumerate(descriptors):
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(OSError):  # a full disk: the name is for people only
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
                return index
        if not said:
            holders = [os.pread(descriptor, 200, 0).decode(errors="replace") for descriptor in descriptors]
            log.info("%s; waiting for %s.", busy, " or ".join(filter(None, holders)) or "another process")
            said = True
        time.sleep(POLL_SECONDS)
