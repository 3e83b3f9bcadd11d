"""Scratch folders: temporary folders, of which a killed process leaves none for good."""

import fcntl
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from multiprocessing import util
from pathlib import Path

from afmp.errors import AfmpError

PREFIX = "afmp-"


@contextmanager
def scratch_folder(*, longest: int | None = None):
    """Yield a new temporary folder, which is removed when the block ends.

    First the folders of killed processes are removed: no process holds their locks. The folder is in TMPDIR or, where
    that cannot be used, in the system's folder; `longest` is the highest number of bytes that its path may have.
    Raises AfmpError if no folder for temporary files can be used.
    """
    parent = _parent(longest)
    _remove_leftovers(parent)
    folder, descriptor = _locked_folder(parent)
    owner = os.getpid()
    try:
        yield folder
    finally:
        # A forked process ends this block too, when it drops what it inherited.
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@cache
def process_folder(*, longest: int | None = None) -> Path:
    """Return a scratch folder that is there as long as this process."""
    folder = ExitStack()
    # multiprocessing removes its own folder, which may be inside this one, with priority -100.
    util.Finalize(None, folder.close, exitpriority=-200)
    return folder.enter_context(scratch_folder(longest=longest))


@contextmanager
def temporary_files_in(folder: Path):
    """Let libraries make their temporary files in this folder, inside this block."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _parent(longest: int | None) -> Path:
    try:
        parents = [tempfile.gettempdir(), *(["/tmp", "/var/tmp"] if longest else [])]
    except OSError:
        raise AfmpError(
            f"TMPDIR={os.environ.get('TMPDIR', '')}: neither this folder for temporary files can be written nor those "
            "of the system; set TMPDIR to a folder that can be written and has room."
        ) from None
    for parent in parents:
        fits = longest is None or len(os.fsencode(parent)) + len(f"/{PREFIX}12345678") <= longest
        if fits and os.access(parent, os.W_OK | os.X_OK):
            return Path(parent)
    raise AfmpError(f"TMPDIR={parents[0]}: this path is too long for the sockets of processes; set a shorter one.")


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # Before it is locked, another process may take it for a leftover.
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            with suppress(OSError):  # some file systems have no locks; leftovers then stay
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*/"):
        # Folders of other users can be neither opened nor removed.
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
