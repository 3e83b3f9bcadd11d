"""Records: files that outlive a job, written completely or not at all, and checked against a schema when read."""

import errno
import fcntl
import hashlib
import json
import math
import os
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import jsonschema
import yaml

from afmp.errors import AfmpError
from afmp.files import read_plain

NOT_TO_BE_WRITTEN = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
)
# mkstemp makes files private. A group reads results, so they get the mode of an ordinary open(). The umask is read only
# once, because reading it also sets it, for all threads. A umask that takes rights from the user too (0777, 0377) is
# changed: AFMP reads what it has written.
UMASK = os.umask(0) & ~0o700
os.umask(UMASK)
LONGEST_NAME = 200  # bytes of a name that its temporary file repeats: file systems allow 255 in all
# The largest record of the archived study has 0.6 MB. A parsed record takes up to thirty times its size in memory.
MAX_RECORD_BYTES = 100_000_000
SCHEMA_FOLDER = Path(__file__).resolve().parent / "schemas"


@contextmanager
def atomic_path(path: Path | str, *, mode: int = 0o666 & ~UMASK):
    """Yield a temporary path in the folder of `path`. It is renamed to `path` when the block ends without an error.

    The bytes are on the disk before the name changes, so a crash leaves the old file or the new one, never a part. The
    next writer in this folder removes the temporary file of a killed process. Raises AfmpError if the disk is full or
    cannot be written, or if no file can have this name.
    """
    path = Path(path)
    try:
        temporary, handle = _locked_part(path)
    except OSError as error:
        raise _not_to_be_written(path, error) from None
    try:
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(mode)
            os.replace(temporary, path)
        finally:
            os.close(handle)
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in NOT_TO_BE_WRITTEN:
            raise
        raise _not_to_be_written(path, error) from None


def check_can_write(path: Path | str) -> None:
    """Raise AfmpError, as `atomic_path` does, unless this file could be written now: ask before hours of work."""
    with suppress(_NotWritten), atomic_path(path):
        if Path(path).is_dir():
            raise AfmpError(f"{path}: is a folder, where a file is to be written; choose another name.")
        raise _NotWritten


def check_room(folder: Path | str, *, num_bytes: int) -> None:
    """Raise AfmpError unless files of `num_bytes` could be written into a folder now. It is made if it is missing."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(num_bytes))
    except OSError as error:
        raise _not_to_be_written(Path(folder), error) from None


class _NotWritten(Exception):
    """The end of a block in which nothing was written."""


def _not_to_be_written(path: Path, error: OSError) -> AfmpError:
    return AfmpError(
        f"{path}: cannot be written ({error.strerror}); make room or get permission there, or choose another name or "
        "folder, then run this again."
    )


def _locked_part(path: Path) -> tuple[Path, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        path.lstat()  # fails for a name that is too long
    _remove_leftovers(path.parent)
    name = os.fsdecode(os.fsencode(path.name)[:LONGEST_NAME])
    while True:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{name}.", suffix=".part")
        with suppress(OSError):  # some file systems have no locks; leftovers then stay
            fcntl.flock(handle, fcntl.LOCK_EX)
        # Before it was locked, another process may have taken it for a leftover.
        if os.path.lexists(part):
            return Path(part), handle
        os.close(handle)


def remove_leftovers(folder: Path | str) -> None:
    """Remove what killed processes were writing, in a folder and below it, also where nothing is written again."""
    for inner in {part.parent for part in Path(folder).rglob(".*.part")}:
        _remove_leftovers(inner)


def _remove_leftovers(folder: Path) -> None:
    # A part that is being written right now, by another workflow perhaps, is locked by its writer.
    for part in folder.glob(".*.part"):
        # Without O_NONBLOCK, opening a pipe of such a name would wait.
        with suppress(OSError), open(os.open(part, os.O_RDONLY | os.O_NONBLOCK)) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write `text` atomically, UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, content) -> None:
    """Write `content` as JSON atomically. Raises ValueError for a number that is not finite: JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str):
    """Read one JSON file of at most MAX_RECORD_BYTES. Raises AfmpError naming one that is broken or no plain file."""
    return json_of(read_plain(path, max_bytes=MAX_RECORD_BYTES), where=path)


def json_of(content: bytes, *, where: Path | str):
    """Return what the bytes of a JSON file contain. Raises AfmpError naming the file if they are none."""
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise AfmpError(f"{where}: not a JSON file ({error}); delete it so that it is made again.") from None


def _finite(word: str) -> float:
    # Python's own reader accepts NaN, Infinity and 1e999, which no schema excludes.
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is no finite number")
    return number


@cache
def schema(kind: str) -> dict:
    """Return the JSON schema (2020-12) of one kind of file, schemas/<kind>.schema.yaml."""
    return yaml.safe_load((SCHEMA_FOLDER / f"{kind}.schema.yaml").read_text(encoding="utf-8"))


def validate(content, kind: str, *, where: Path | str) -> None:
    """Raise AfmpError naming file, key, value and what is allowed if `content` breaks the schema of its kind.

    One format of every kind is read, the schema's `format_version`. In an older file the same key may mean something
    else, so it is made again or read with the release that wrote it.
    """
    readable = schema(kind)["properties"]["format_version"]["const"]
    if isinstance(content, dict) and content.get("format_version") != readable:
        raise AfmpError(
            f"{where}: {kind} file of format {content.get('format_version')!r}, but this AFMP reads format "
            f"{readable} alone. Delete it so that it is made again, or read it with the release of AFMP that wrote it."
        )
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema(kind)).iter_errors(content))
    if error is not None:
        key = "/".join(map(str, error.absolute_path)) or "the file as a whole"
        raise AfmpError(
            f"{where}: not a valid {kind} file: {key}: {error.message[:300]}. Delete it so that it is made again."
        )
    if kind == "result" and len({len(values) for values in content["training_history"].values()}) > 1:
        raise AfmpError(
            f"{where}: not a valid result file: training_history: its lists have different lengths, but each has one "
            "value per epoch. Delete it so that it is made again."
        )


def with_checksum(content: dict) -> dict:
    """Return the content with its sha256 as one more key: a flipped bit can turn one digit into another."""
    return content | {"checksum": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def record_of(kind: str, content: bytes, *, where: Path | str) -> dict:
    """Return the record that a file of one kind contains. Raises AfmpError if it breaks its schema or its checksum."""
    record = json_of(content, where=where)
    try:
        validate(record, kind, where=where)
        checksum = record.pop("checksum", None)
        if checksum == with_checksum(record)["checksum"]:
            return record
    except RecursionError:
        raise AfmpError(
            f"{where}: not a valid {kind} file: its lists or mappings are nested too deeply. Delete it so that it is "
            "made again."
        ) from None
    raise AfmpError(
        f"{where}: damaged or edited: it does not match its own checksum. Delete it so that it is made again."
    )


def _reader(kind: str):
    def read(path: Path | str) -> dict:
        return record_of(kind, read_plain(path, max_bytes=MAX_RECORD_BYTES), where=path)

    read.__doc__ = f"Read one {kind} file. Raises AfmpError if it breaks schemas/{kind}.schema.yaml or its checksum."
    return read


def _writer(kind: str):
    def write(path: Path | str, content: dict) -> None:
        validate(content, kind, where=path)
        write_json(path, with_checksum(content))

    write.__doc__ = f"Check one {kind} file against schemas/{kind}.schema.yaml and write it atomically."
    return write


read_result, write_result = _reader("result"), _writer("result")
read_diagnostics, write_diagnostics = _reader("diagnostics"), _writer("diagnostics")
read_scalability, write_scalability = _reader("scalability"), _writer("scalability")
read_parameters, write_parameters = _reader("parameters"), _writer("parameters")
read_manifest, write_manifest = _reader("manifest"), _writer("manifest")
