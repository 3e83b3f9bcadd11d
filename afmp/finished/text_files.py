"""Comparison of a text file of a study with the one that was computed again."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from afmp.errors import AfmpError
from afmp.files import read_plain_text
from afmp.finished.differences import shortened

MAX_TEXT_BYTES = 100_000_000


def read_text(path: Path) -> str:
    """Return the text of a file. Raises AfmpError that names it if it is no plain file of UTF-8."""
    try:
        return read_plain_text(path, max_bytes=MAX_TEXT_BYTES)
    except UnicodeDecodeError as error:
        raise AfmpError(f"{path}: is no text ({error.reason}); delete it so that it is made again.") from None


def different_text(found: Path, computed: Path) -> Iterator[str]:
    """Yield the first line of `found` that differs."""
    lines = [read_text(path).split("\n") for path in (found, computed)]
    for number, (one, other) in enumerate(zip_longest(*lines), 1):
        if one != other:
            yield f"{found}: line {number} is {shortened(one)}, computed again {shortened(other)}"
            return
