"""Small archives of images, in the layout in which CIFAR is published."""

import hashlib
import io
import pickle
import tarfile

import numpy as np

from afmp.data.download import Archive


def archive_of(content: bytes, *addresses: str, name: str = "data.tar.gz") -> Archive:
    """Describe an archive of this content for `fetch`."""
    return Archive(name, len(content), hashlib.sha256(content).hexdigest(), addresses, "none")


class Python2Pickler(pickle._Pickler):
    """A pickler that writes as Python 2 did: str and bytes are both its 8-bit strings, and NumPy is the old one."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, value):
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string


def python2_pickle(content) -> bytes:
    """Return `content` as Python 2 would have pickled it."""
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def tar_of(members: dict[str, bytes]) -> bytes:
    """Return a .tar.gz archive with these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tiny_cifar(source: str) -> tuple[bytes, np.ndarray, list[int]]:
    """Return an archive in the published layout, its train pixels, uint8 (N, 3, 32, 32), and its labels."""
    generator = np.random.default_rng(5)
    batches = 5 if source == "cifar10" else 1
    data = generator.integers(0, 256, (batches * 4, 3072), np.uint8)
    labels = [int(label) for label in generator.integers(0, 3, len(data))]
    key, names = ("labels", "label_names") if source == "cifar10" else ("fine_labels", "fine_label_names")
    folder = "cifar-10-batches-py" if source == "cifar10" else "cifar-100-python"
    train = [f"data_batch_{number + 1}" for number in range(5)] if source == "cifar10" else ["train"]
    test, meta = ("test_batch", "batches.meta") if source == "cifar10" else ("test", "meta")
    members = {
        f"{folder}/{name}": python2_pickle({"data": data[4 * i : 4 * i + 4], key: labels[4 * i : 4 * i + 4]})
        for i, name in enumerate(train)
    }
    members[f"{folder}/{test}"] = python2_pickle({"data": data[::-1][:3].copy(), key: [2, 1, 0]})
    members[f"{folder}/{meta}"] = python2_pickle({names: ["ape", "bee", "cod"], "other": ["x"]})
    members["../../escape"] = b"never written"
    return tar_of(members), data.reshape(-1, 3, 32, 32), labels
