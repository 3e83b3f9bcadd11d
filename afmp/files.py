"""Plain files, opened safely: a pipe never makes a job wait, no file is larger than allowed, and each refusal is one
sentence that says what stands there.

`read_plain` reads a file whole, `open_plain` opens it, `is_there` asks for a name. For a library that wants a path and
opens it itself, `open_plain(path).close()` before it gives the same sentences.
"""

import errno
import hashlib
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from afmp.errors import AfmpError

PLAIN_FILE, FOLDER = "a plain file", "a folder"
_KINDS = {
    stat.S_IFREG: PLAIN_FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


# What is wrong with the machine, or with a name that a person gave, and not with the program.
_FAULTS_OF_THE_MACHINE = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EMFILE, errno.ENFILE, errno.ESTALE),
)


class MissingFileError(AfmpError):
    """Nothing has this name, or only a link to nothing."""


@contextmanager
def faults_of_the_machine():
    """Raise AfmpError naming file and reason if the system refuses a file in this block, where nobody expected it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FAULTS_OF_THE_MACHINE or not isinstance(error.filename, str | bytes | os.PathLike):
            raise
        name = os.fsdecode(error.filename)
        raise AfmpError(f"{name}: cannot be used ({error.strerror}); mend this, or choose another file.") from None


def open_plain(path: Path | str, *, max_bytes: int | None = None) -> BinaryIO:
    """Open a plain file for reading bytes. Links are followed.

    Raises MissingFileError if there is no such file. Raises AfmpError naming path and reason for everything else: a
    folder, a pipe, a socket or a device, missing permission for the file or for a folder above it, links in a circle,
    a name that no file can have, and more than `max_bytes` bytes.
    """
    try:
        # Looked at before it is opened: opening alone makes some devices do something.
        _check(path, os.stat(path), max_bytes)
        # Without O_NONBLOCK, opening a pipe that took the file's place would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check(path, os.fstat(descriptor), max_bytes)
        except BaseException:
            os.close(descriptor)
            raise
        return os.fdopen(descriptor, "rb")
    except OSError as error:
        raise unreadable(path, error) from None
    except AfmpError:
        raise
    except ValueError:  # a zero byte, or characters that this system's names cannot have
        raise MissingFileError(f"{path!a}: no such file: no file can have this name.") from None


def read_plain(path: Path | str, *, max_bytes: int) -> bytes:
    """Return the content of a plain file of at most `max_bytes` bytes. Raises as `open_plain` does."""
    with open_plain(path, max_bytes=max_bytes) as file:
        try:
            # Memory for all that is asked for is taken before it is read, so no more than the system tells is asked for
            # at first. That is not enough: a file may grow, and files of /proc tell 0.
            told = os.fstat(file.fileno()).st_size
            content = file.read(told + 1)
            if len(content) > told:
                content += file.read(max_bytes + 1 - len(content))
        except OSError as error:
            raise unreadable(path, error) from None
    if len(content) > max_bytes:
        raise _too_large(path, f"more than {max_bytes:,}", max_bytes)
    return content


def read_plain_text(path: Path | str, *, max_bytes: int) -> str:
    """Return the text of a plain UTF-8 file, with \\n for each kind of line end. Raises as `read_plain`, and
    UnicodeDecodeError."""
    return read_plain(path, max_bytes=max_bytes).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def sha256_of(path: Path | str) -> str:
    """Return the sha256 of a plain file of any size, in hexadecimal. Raises as `open_plain` does."""
    with open_plain(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise unreadable(path, error) from None


def is_there(path: Path | str) -> bool:
    """Return whether anything has this name; links are followed. Raises AfmpError if a folder above may not be entered.

    `Path.exists` raises PermissionError then, and `os.path.exists` calls such a file missing.
    """
    try:
        os.stat(path)
    except OSError as error:
        refusal = unreadable(path, error)
        if isinstance(refusal, MissingFileError):
            return False
        raise refusal from None
    except ValueError:  # a zero byte, or characters that this system's names cannot have
        return False
    return True


def kind_of(path: Path | str) -> str:
    """Return what has this name, in words: PLAIN_FILE, FOLDER, "a pipe", "a socket" or "a device". Links are followed.

    Raises AfmpError as `open_plain` does, so for a broken link too.
    """
    try:
        return _kind(os.stat(path))
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path | str, error: OSError) -> AfmpError:
    """Return the sentence for a file or folder that the system refused to open, list or look at with `error`."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if os.path.islink(path):
            target = os.readlink(path)
            return MissingFileError(f"{path}: is a broken link: {target} does not exist; mend or remove it.")
        above = next((folder for folder in Path(path).parents if os.path.lexists(folder)), None)
        if error.errno == errno.ENOTDIR and above is not None and not above.is_dir():
            return MissingFileError(f"{path}: no such file: {above} is not a folder.")
        return MissingFileError(f"{path}: no such file.")
    if error.errno == errno.ELOOP:
        return AfmpError(f"{path}: is a broken link, which leads back to itself; mend or remove it.")
    if error.errno == errno.ENAMETOOLONG:
        return MissingFileError(f"{str(path)[:80]}...: no such file: the name is too long.")
    if error.errno in (errno.EACCES, errno.EPERM) and (closed := _closed_folder(path)) is not None:
        return AfmpError(
            f"{path}: cannot be read, because the folder {closed} may not be entered ({error.strerror}); make it "
            "enterable for this user (chmod u+x), or ask its owner."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return AfmpError(
            f"{path}: cannot be read ({error.strerror}); make it readable for this user (chmod u+r), or ask its owner."
        )
    return AfmpError(f"{path}: cannot be read ({error.strerror}); make it readable.")


def _check(path: Path | str, status: os.stat_result, max_bytes: int | None) -> None:
    if (kind := _kind(status)) != PLAIN_FILE:
        raise AfmpError(f"{path}: is {kind}, where a plain file belongs; move it away.")
    if max_bytes is not None and status.st_size > max_bytes:
        raise _too_large(path, f"{status.st_size:,}", max_bytes)


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown kind")


def _too_large(path: Path | str, found: str, max_bytes: int) -> AfmpError:
    return AfmpError(f"{path}: refused unread: it has {found} bytes, and at most {max_bytes:,} are read.")


def _closed_folder(path: Path | str) -> Path | None:
    """Return the first folder on the way to `path` that may not be entered, if there is one."""
    above = reversed(Path(path).absolute().parents)
    # The effective user decides in open() too.
    effective = os.access in os.supports_effective_ids
    return next((folder for folder in above if not os.access(folder, os.X_OK, effective_ids=effective)), None)
