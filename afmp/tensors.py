"""Tensor files (safetensors): what a file says of itself, before any tensor is read, and then its tensors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open

from afmp.errors import AfmpError, one_line
from afmp.files import open_plain

MAX_HEADER_BYTES = 10_000_000  # safetensors itself allows ten times as much, and takes ten times that to read it


class DamagedFileError(AfmpError):
    """A file whose content is not what was written, or never was one of tensors."""


class TensorHeader(NamedTuple):
    """The shapes of all tensors of a file, by name, and its metadata."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_header(path: Path | str, *, advice: str) -> TensorHeader:
    """Read what a file says of its tensors, without PyTorch. The errors of this module end with `advice`.

    Raises AfmpError as `open_plain` does, and DamagedFileError for a file that is damaged or no safetensors file.
    """
    with _opened(path, advice, framework="numpy") as file:
        return TensorHeader(
            {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()},  # noqa: SIM118
            file.metadata() or {},
        )


def read_tensors(path: Path | str, *, advice: str) -> dict:
    """Read all tensors of a file, as PyTorch's on the CPU, which stay on the disk until they are used.

    Raises AfmpError as `read_header` does. Check its shapes first: a small file may hold tensors of any shape.
    """
    with _opened(path, advice, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_row(path: Path | str, name: str, index: int, *, advice: str):
    """Read one row of a tensor, as a NumPy array and without PyTorch. Raises AfmpError as `read_header` does."""
    with _opened(path, advice, framework="numpy") as file:
        return file.get_slice(name)[index]


def json_entry(header: TensorHeader, key: str, *, path: Path | str, advice: str) -> dict:
    """Return the JSON object in one entry of the metadata. Raises DamagedFileError if there is none."""
    try:
        entry = json.loads(header.metadata[key])
    except KeyError:
        raise DamagedFileError(f"{path}: its metadata lacks {key!r}; {advice}.") from None
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path}: the entry {key!r} of its metadata is no JSON ({error}); {advice}.") from None
    if not isinstance(entry, dict):
        raise DamagedFileError(
            f"{path}: the entry {key!r} of its metadata is {repr(entry)[:80]}, not an object; {advice}."
        )
    return entry


@contextmanager
def _opened(path: Path | str, advice: str, *, framework: str) -> Iterator:
    with open_plain(path) as file:
        num_bytes = int.from_bytes(file.read(8), "little")
    if num_bytes > MAX_HEADER_BYTES:
        raise DamagedFileError(
            f"{path}: damaged, or no safetensors file (a header of {num_bytes:,} bytes, of which at most "
            f"{MAX_HEADER_BYTES:,} are read); {advice}."
        )
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except Exception as error:  # a type of its own, and those of PyTorch for shapes and types that it lacks
        raise DamagedFileError(f"{path}: damaged, or no safetensors file ({one_line(error)}); {advice}.") from None
