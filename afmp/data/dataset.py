"""Every data source, prepared once into one plain uint8 file that training loads whole.

The file is safetensors (no pickle): train_images and test_images (N, 3, H, W) uint8, train_labels and
test_labels (N,) int64, and one metadata entry in JSON with name, class names, per-channel mean and std,
content hash and format version.
"""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from afmp.data.cifar import read_cifar
from afmp.data.download import ARCHIVES, fetch
from afmp.data.image_folder import fit_square, read_image_folder
from afmp.errors import AfmpError
from afmp.machine.locks import locked
from afmp.records import atomic_path

log = logging.getLogger("afmp")

FORMAT_VERSION = 1
SOURCES = ("cifar10", "cifar100", "digits", "folder")
TENSORS = ("train_images", "train_labels", "test_images", "test_labels")
# One entry, not one a field: safetensors writes several in no fixed order, and equal data must give equal
# files.
METADATA_KEY = "dataset"


@dataclass(frozen=True)
class PreparedDataset:
    """A whole dataset in memory, on one device."""

    name: str
    class_names: tuple[str, ...]
    mean: torch.Tensor  # (3,) float32, per channel over the train images, scale 0 ... 1
    std: torch.Tensor  # (3,) float32
    hash: str  # sha256 of everything above and below but the name
    train_images: torch.Tensor  # (N, 3, H, W) uint8
    train_labels: torch.Tensor  # (N,) int64
    test_images: torch.Tensor
    test_labels: torch.Tensor

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        return self.train_images.shape[-1]

    @property
    def num_bytes(self) -> int:
        """Bytes that images and labels take on their device."""
        return sum(getattr(self, name).nbytes for name in TENSORS)


def prepare_dataset(config: dict, destination: Path, *, download_folder: Path) -> None:
    """Read the source that `config` names and write it to `destination`, whole or not at all.

    config: source (cifar100, cifar10, folder or digits), image_size in pixels, and path for folder. Archives
    are kept in `download_folder`, which other processes may use at the same time; one that lies there already is
    not downloaded. The same input gives the same bytes.
    Raises AfmpError for an impossible config, a failed download, and images that cannot be used.
    """
    source, image_size = config.get("source"), config.get("image_size")
    if not isinstance(image_size, int) or image_size < 1:
        raise AfmpError(f"dataset/image_size: found {image_size!r}; allowed is a whole number of pixels from 1.")
    if source == "folder":
        if not config.get("path"):
            raise AfmpError("dataset/path: found nothing; source: folder needs the folder that holds train/ and test/.")
        path = Path(config["path"]).expanduser()
        name, read = path.resolve().name, read_image_folder(path, image_size=image_size)
    elif source in ARCHIVES:
        path = Path(download_folder) / ARCHIVES[source].file_name
        # Who comes second waits for the download of the first, and finds it there.
        with locked(path.with_name(f".{path.name}.lock"), busy=f"{path}: another process is fetching it"):
            fetch(ARCHIVES[source], path)
        name, read = source, read_cifar(path, source=source, archive=ARCHIVES[source])
    elif source == "digits":
        name, read = source, _read_digits()
    else:
        raise AfmpError(f"dataset/source: found {source!r}; allowed are {', '.join(SOURCES)}.")
    train_images, train_labels, test_images, test_labels, class_names = read
    arrays = (_resize(train_images, image_size), train_labels, _resize(test_images, image_size), test_labels)
    tensors = {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in zip(TENSORS, arrays, strict=True)}
    mean, std = _mean_and_std(arrays[0])
    metadata = {
        "name": name,
        "class_names": class_names,
        "mean": mean,
        "std": std,
        "format_version": FORMAT_VERSION,
    }
    metadata["hash"] = _content_hash(metadata, tensors)
    with atomic_path(destination) as temporary:
        temporary.write_bytes(save(tensors, {METADATA_KEY: json.dumps(metadata, sort_keys=True)}))
    log.info(
        f"{destination}: {name}, {len(arrays[0]):,} train and {len(arrays[2]):,} test images, "
        f"{image_size} px, {len(class_names)} classes, hash {metadata['hash'][:12]}"
    )


def load_dataset(path: Path, *, device: torch.device | str = "cpu") -> PreparedDataset:
    """Load a prepared file onto `device`, checked against its own hash.

    Raises AfmpError naming the file if it is missing, damaged or of another format version.
    """
    path = Path(path)
    if not path.is_file():
        raise AfmpError(f"{path}: no such file; prepare the dataset first.")
    again = "delete it so that it is prepared again"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()[METADATA_KEY])
            # Copied, so that nothing of the training data stays on a disk that may go away.
            tensors = {key: file.get_tensor(key).clone() for key in TENSORS}
        version, recorded = metadata["format_version"], metadata["hash"]
        intact = version != FORMAT_VERSION or _content_hash(metadata, tensors) == recorded
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise AfmpError(f"{path}: not a prepared dataset, or a damaged one ({error!r}); {again}.") from None
    if version != FORMAT_VERSION:
        raise AfmpError(f"{path}: has format version {version}, this version reads {FORMAT_VERSION}; {again}.")
    if not intact:
        raise AfmpError(f"{path}: is damaged: its content does not match its own hash; {again}.")
    return PreparedDataset(
        name=metadata["name"],
        class_names=tuple(metadata["class_names"]),
        # Tensors on the device: a tuple of numbers would be copied there, and waited for, at every step.
        mean=torch.tensor(metadata["mean"], device=device),
        std=torch.tensor(metadata["std"], device=device),
        hash=recorded,
        **{key: tensor.to(device) for key, tensor in tensors.items()},
    )


def repair_dataset(path: Path, config: dict, *, download_folder: Path) -> None:
    """Prepare the file of `prepare_dataset` again, with the same arguments, if it cannot be loaded."""
    path = Path(path)
    try:
        load_dataset(path)
    except AfmpError as damage:
        log.warning("%s", str(damage).partition(";")[0] + "; it is prepared again.")
        status = path.stat()
        prepare_dataset(config, path, download_folder=download_folder)
        # The same bytes, so as old as they were: nothing that was made of them is out of date.
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def stratified_holdout(labels: torch.Tensor, fraction: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Split the train images: (train_indices, validation_indices), both sorted int64 on the CPU.

    `fraction` of every class goes to validation, at least one image and never the last one; a class of one
    image keeps it for training. Always the same split, for every seed and run, so that runs are compared on
    the same images.
    """
    if not 0 < fraction < 1:
        raise AfmpError(f"training/validation_fraction: found {fraction}; allowed is a number between 0 and 1.")
    labels = torch.as_tensor(labels).cpu().numpy()
    # RandomState and not default_rng: only its stream is promised never to change (NumPy's NEP 19).
    generator = np.random.RandomState(0)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out[generator.permutation(members)[:count]] = True
    return torch.from_numpy(np.flatnonzero(~held_out)), torch.from_numpy(np.flatnonzero(held_out))


def _read_digits():
    """The 1,797 8x8 digits inside scikit-learn (Alpaydin and Kaynak 1998); every fifth of a class is test."""
    from sklearn.datasets import load_digits  # only this source pays for importing scikit-learn

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[:, None], 3, axis=1)
    labels = digits.target.astype(np.int64)
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    return images[~test], labels[~test], images[test], labels[test], [str(label) for label in range(10)]


def _resize(images: np.ndarray, image_size: int) -> np.ndarray:
    """(N, 3, h, w) uint8 -> (N, 3, image_size, image_size), by the rule of image folders."""
    if images.shape[2:] == (image_size, image_size):
        return images
    resized = np.empty((len(images), 3, image_size, image_size), np.uint8)
    for index, image in enumerate(images):
        square = fit_square(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))), image_size)
        resized[index] = np.asarray(square).transpose(2, 0, 1)
    return resized


def _mean_and_std(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Per channel over all pixels, scale 0 ... 1, from whole-number sums: no machine rounds differently."""
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(images), 1000):
        for channel in range(3):
            counts[channel] += np.bincount(images[start : start + 1000, channel].ravel(), minlength=256)
    mean, std = [], []
    for channel in counts.tolist():
        pixels = sum(channel)
        first = Fraction(sum(value * count for value, count in enumerate(channel)), 255 * pixels)
        second = Fraction(sum(value**2 * count for value, count in enumerate(channel)), 255**2 * pixels)
        mean.append(float(first))
        std.append(sqrt(second - first**2) or 1.0)  # a constant channel carries nothing: it becomes 0, not NaN
    return mean, std


def _content_hash(metadata: dict, tensors: dict[str, torch.Tensor]) -> str:
    """sha256 of class names, mean, std and of each tensor's name, type, shape and bytes, in a fixed order.

    The name is left out: it is the name of a folder, and moving the same images does not make another
    dataset.
    """
    header = {key: metadata[key] for key in ("class_names", "mean", "std")}
    header["tensors"] = [[key, str(tensors[key].dtype), list(tensors[key].shape)] for key in TENSORS]
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for key in TENSORS:
        digest.update(tensors[key].numpy())
    return digest.hexdigest()
