"""Read the Python version of CIFAR-10 and CIFAR-100 without running anything it contains.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. A tar of pickles written by Python 2.
"""

import hashlib
import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmp.data.download import Archive
from afmp.errors import AfmpError


@dataclass(frozen=True)
class _Layout:
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels_key: str
    names_key: str


_LAYOUTS = {
    "cifar100": _Layout(
        train=("cifar-100-python/train",),
        test=("cifar-100-python/test",),
        meta="cifar-100-python/meta",
        labels_key="fine_labels",
        names_key="fine_label_names",
    ),
    "cifar10": _Layout(
        train=tuple(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)),
        test=("cifar-10-batches-py/test_batch",),
        meta="cifar-10-batches-py/batches.meta",
        labels_key="labels",
        names_key="label_names",
    ),
}


# All a pickle of an array needs to name. _reconstruct is taken from an array: NumPy 2 moved it to another
# module.
_ARRAY_PARTS = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numbers, strings, containers and numpy arrays; every other name in a pickle is refused."""

    def find_class(self, module: str, name: str):
        try:
            return _ARRAY_PARTS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array") from None


def read_cifar(path: Path, *, source: str, archive: Archive):
    """Read the archive at `path` in memory; `source` is cifar10 or cifar100.

    Returns train images (N, 3, 32, 32) uint8, train labels (N,) int64, test images, test labels, class names
    (the fine ones). Raises AfmpError if the file is not `archive`: nothing is unpickled before its sha256 was
    checked.
    """
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != archive.sha256:
        raise AfmpError(f"{path}: its sha256 is not that of {archive.file_name}; delete it so that it is got again.")
    layout = _LAYOUTS[source]
    members = _read_members(content, {*layout.train, *layout.test, layout.meta}, path)
    decoded = {name: _unpickle(member, f"{path}: {name}") for name, member in members.items()}

    def split(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        images = np.concatenate([decoded[name]["data"] for name in names]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([np.asarray(decoded[name][layout.labels_key], np.int64) for name in names])
        return images, labels

    return *split(layout.train), *split(layout.test), list(decoded[layout.meta][layout.names_key])


def _read_members(content: bytes, names: set[str], path: Path) -> dict[str, bytes]:
    # Exact names of plain files, read in memory: no path of the archive's own ever reaches the disk.
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        members = {
            member.name: tar.extractfile(member).read() for member in tar if member.name in names and member.isfile()
        }
    if missing := names - members.keys():
        raise AfmpError(f"{path}: the archive lacks {', '.join(sorted(missing))}; delete it so that it is got again.")
    return members


def _unpickle(member: bytes, where: str):
    try:
        # latin1 maps the bytes of Python 2 strings one to one, which numpy relies on to rebuild the pixels.
        return _ArrayUnpickler(io.BytesIO(member), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise AfmpError(f"{where}: refused to unpickle: {error}.") from None
