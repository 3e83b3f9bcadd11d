"""The digest of an image folder: what its images are, and not where they lie or when they were written."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from afmp.data.image_folder import is_ignored, is_split
from afmp.errors import AfmpError
from afmp.files import sha256_of
from afmp.records import read_json, write_json


def folder_digest(folder: Path | str, *, known: Path | str) -> str:
    """Return the sha256 of names and contents of the files that `read_image_folder` reads.

    known: a file with the digest of the folder as it was last read. While no name, size or time of a file has changed,
    no image is read. A copy or a renamed folder has the digest of the original. Whatever cannot be read counts by its
    name alone, because the job that prepares the dataset says what is wrong.
    """
    files = sorted(_files(Path(folder)))
    state = hashlib.sha256(repr([(name, _state(path)) for name, path in files]).encode("utf-8", "surrogatepass"))
    with suppress(AfmpError, AttributeError):
        if digest := read_json(known).get(state.hexdigest()):
            return str(digest)
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for (name, _), content in zip(files, pool.map(_content, [path for _, path in files]), strict=True):
            digest.update(os.fsencode(f"{name}\0{content}\0"))
    with suppress(AfmpError):  # without the file, the images are read again the next time
        write_json(known, {state.hexdigest(): digest.hexdigest()})
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and path of each class folder and of all in it, of the splits that are read."""
    splits = ("train", "test" if os.path.lexists(folder / "test") else "val") if is_split(folder) else (".",)
    for split in splits:
        for entry in _visible(folder / split):
            yield f"{split}/{entry.name}", entry
            for image in _visible(entry):
                yield f"{split}/{entry.name}/{image.name}", image


def _visible(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder) if not is_ignored(name)]
    except OSError:
        return []


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    # The time of the last change of the inode too: a program can set the other one to what it was.
    return status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _content(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except AfmpError:  # a folder, a pipe, or a file that may not be read
        return None
