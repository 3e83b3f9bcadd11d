"""Locks on checkpoint folders: one process at a time trains into each."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from afmp.machine.locks import lock_if_free, locked


def lock_checkpoints(folder: Path) -> AbstractContextManager:
    """Lock a checkpoint folder inside this block; wait first while another process trains into it."""
    return locked(_lock_file(folder), busy=f"{folder}: another process trains into this folder")


def lock_checkpoints_if_free(folder: Path, held: ExitStack) -> bool:
    """Lock a checkpoint folder until `held` closes. Return False at once if another process trains into it."""
    return lock_if_free(_lock_file(folder), held)


def _lock_file(folder: Path) -> Path:
    return Path(folder) / ".lock"
