"""The manifest of an archive: the size and the hash of every file in it.

An archive may come from anywhere. Every name and size is checked here, before any of its files is opened. This module
does not import what draws, because the workflow looks for manifests whenever it starts.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from afmp.errors import AfmpError
from afmp.files import MissingFileError, is_there, read_plain
from afmp.records import record_of
from afmp.study.paths import LOGS

MANIFEST = "MANIFEST.json"
STUDY_FILE = "study.json"  # of an archive only, as it is or packed; among the first files of it that are written
ADVICE = "e.g. with `git checkout` of its folder"
MAX_FILES = 10_000
MAX_MANIFEST_BYTES = 4_000_000  # MAX_FILES entries have 2 MB
MAX_READ_BYTES = 64_000_000  # of one file: a test image of 4,096 px has up to 50 MB
MAX_ARCHIVE_BYTES = 1_000_000_000
# As `afmp.study.paths` names files: without `..` or a root, and with nothing that a disk or a terminal reads otherwise.
ENTRY = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9][A-Za-z0-9_.+-]*(/[A-Za-z0-9][A-Za-z0-9_.+-]*)*")


def manifest_of(archive: Path | str) -> Path:
    """Return the path of an archive's manifest. Raises AfmpError if the folder is no archive, or an unfinished one."""
    manifest = Path(archive, MANIFEST)
    if not is_there(manifest):
        found = [name for name in (STUDY_FILE, f"{STUDY_FILE}.gz", "train") if is_there(Path(archive, name))]
        if found and not is_there(Path(archive, LOGS)):  # a results folder has logs
            raise AfmpError(
                f"{archive}: no finished archive: it has {found[0]}, but no {MANIFEST}, which is written last; "
                f"`afmp archive RESULTS {archive}`, with the results folder of its finished study, goes on from it."
            )
        raise AfmpError(
            f"{archive}: no archive there, seen from {Path.cwd()}: it has no {MANIFEST}; `snakemake archive` makes one."
        )
    return manifest


def entry(content: bytes) -> dict:
    """Return the manifest's entry of a file with this content."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def read_entries(archive: Path) -> dict[str, dict]:
    """Return the entry of each file that the manifest names, by path inside the archive.

    Raises AfmpError naming the first entry that is outside of the archive, is no name of an archived file, or names a
    file twice, and for more files or bytes than an archive may have. No file but the manifest is opened.
    """
    where = manifest_of(archive)
    entries = record_of("manifest", read_plain(where, max_bytes=MAX_MANIFEST_BYTES), where=where)["files"]
    if len(entries) > MAX_FILES:
        raise AfmpError(f"{where}: names {len(entries):,} files; an archive has at most {MAX_FILES:,}.")
    if (total := sum(expected["bytes"] for expected in entries.values())) > MAX_ARCHIVE_BYTES:
        raise AfmpError(f"{where}: names files of {total:,} bytes; an archive has at most {MAX_ARCHIVE_BYTES:,}.")
    unpacked = {MANIFEST.lower(): "itself"}
    for path in entries:
        if path.startswith("/") or ".." in path.split("/"):
            raise AfmpError(
                f"{archive}/{path[:300]}: outside of the archive, but {MANIFEST} names it; nothing is read."
            )
        if not ENTRY.fullmatch(path):
            raise AfmpError(
                f"{archive}: {MANIFEST} names {path[:300]!r}, which no archived file is called; allowed are letters, "
                "digits, _ . + - and / between folders, at most 255 characters."
            )
        other = unpacked.setdefault(path.removesuffix(".gz").lower(), path)
        if other != path:
            raise AfmpError(
                f"{archive}: {MANIFEST} names {other} and {path}, which are one file once they are unpacked or on a "
                "disk that ignores case; restore the archive."
            )
    return entries


def checked_content(archive: Path, path: str, expected: dict) -> bytes:
    """Return the bytes of one archived file, given its entry.

    Raises AfmpError naming the file if it is missing, differs from its entry, or is no plain file inside the archive.
    """
    file = archive / path
    if any(place.is_symlink() for place in _inside(archive, file)):
        raise AfmpError(
            f"{file}: outside of the archive: it is a link, or in a folder that is one; restore the archive."
        )
    try:
        content = read_plain(file, max_bytes=MAX_READ_BYTES)
    except MissingFileError:
        raise AfmpError(f"{file}: missing, but {MANIFEST} names it; restore the archive, {ADVICE}.") from None
    if entry(content) != expected:
        raise AfmpError(
            f"{file}: not the file that {MANIFEST} names, its sha256 differs; restore the archive, {ADVICE}."
        )
    return content


def _inside(archive: Path, file: Path) -> Iterator[Path]:
    """Yield a file and the folders that it is in, up to the archive."""
    while file != archive:
        yield file
        file = file.parent
