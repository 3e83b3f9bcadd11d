"""The prepared dataset: one checked file of uint8 images that training loads whole.

The file is safetensors (no pickle): train_images and test_images (N, 3, H, W) uint8, train_labels and test_labels
(N,) int64, and one metadata entry in JSON with name, class names, mean and std per channel, content hash and format
version.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from afmp.data.source_images import SourceImages
from afmp.errors import AfmpError
from afmp.files import MissingFileError
from afmp.records import atomic_path
from afmp.tensors import json_entry, read_header, read_tensors

FORMAT_VERSION = 1
TENSORS = ("train_images", "train_labels", "test_images", "test_labels")
# One entry for all fields: safetensors writes several in no fixed order, and equal data must give equal files.
METADATA_KEY = "dataset"
AGAIN = "delete it so that it is prepared again"


@dataclass(frozen=True)
class PreparedDataset:
    """A whole dataset in memory, on one device."""

    name: str
    class_names: tuple[str, ...]
    mean: torch.Tensor  # (3,) float32, per channel over the train images, scale 0 ... 1
    std: torch.Tensor  # (3,) float32
    hash: str  # sha256 of all other fields but the name
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
        """Size of images and labels on their device, in bytes."""
        return sum(getattr(self, name).nbytes for name in TENSORS)


def write_dataset(path: Path, images: SourceImages, *, mean: list[float], std: list[float]) -> str:
    """Write a prepared file atomically and return its content hash."""
    tensors = {key: torch.from_numpy(np.ascontiguousarray(getattr(images, key))) for key in TENSORS}
    metadata = {
        "name": images.name,
        "class_names": images.class_names,
        "mean": mean,
        "std": std,
        "format_version": FORMAT_VERSION,
    }
    metadata["hash"] = _content_hash(metadata, tensors)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {METADATA_KEY: json.dumps(metadata, sort_keys=True)}))
    return metadata["hash"]


def load_dataset(path: Path, *, device: torch.device | str = "cpu") -> PreparedDataset:
    """Load a prepared file onto `device` and check it against its own hash.

    Raises AfmpError naming the file if it is missing, may not be read, is damaged or of another format version, or if
    it does not contain the images and labels of a dataset.
    """
    path = Path(path)
    try:
        header = read_header(path, advice=AGAIN)
    except MissingFileError as missing:
        raise AfmpError(f"{str(missing).rstrip('.')}; prepare the dataset first.") from None
    if METADATA_KEY not in header.metadata or not {*TENSORS} <= header.shapes.keys():
        raise AfmpError(f"{path}: not a prepared dataset, which has {', '.join(TENSORS)} and metadata; {AGAIN}.")
    metadata = json_entry(header, METADATA_KEY, path=path, advice=AGAIN)
    if (version := metadata.get("format_version")) != FORMAT_VERSION:
        raise AfmpError(
            f"{path}: has format version {str(version)[:80]}, this version reads {FORMAT_VERSION}; {AGAIN}."
        )
    # Copied, because the file's disk may go away during training.
    tensors = {key: tensor.clone() for key, tensor in read_tensors(path, advice=AGAIN).items() if key in TENSORS}
    if fault := _fault(metadata, tensors):
        raise AfmpError(f"{path}: not a prepared dataset, or a damaged one: {fault}; {AGAIN}.")
    if _content_hash(metadata, tensors) != metadata["hash"]:
        raise AfmpError(f"{path}: is damaged: its content does not match its own hash; {AGAIN}.")
    return PreparedDataset(
        name=metadata["name"],
        class_names=tuple(metadata["class_names"]),
        # Tensors on the device: plain numbers would be copied there at every step, and the step would wait for them.
        mean=torch.tensor(metadata["mean"], device=device),
        std=torch.tensor(metadata["std"], device=device),
        hash=metadata["hash"],
        **{key: tensor.to(device) for key, tensor in tensors.items()},
    )


def _fault(metadata: dict, tensors: dict[str, torch.Tensor]) -> str | None:
    """Return why metadata and tensors are not those of a dataset; None if they are."""
    names = metadata.get("class_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return f"class_names is {repr(names)[:80]}, not a list of names"
    for key in ("name", "hash"):
        if not isinstance(metadata.get(key), str):
            return f"{key} is {repr(metadata.get(key))[:80]}, not a text"
    for key, smallest in (("mean", 0.0), ("std", sys.float_info.min)):
        numbers = metadata.get(key)
        known = isinstance(numbers, list) and all(type(number) is float for number in numbers)
        if not known or len(numbers) != 3 or not all(smallest <= number <= 1.0 for number in numbers):
            return f"{key} is {repr(numbers)[:80]}, not three numbers between 0 and 1"
    size = tensors["train_images"].shape[-1:]
    for images, labels in (TENSORS[:2], TENSORS[2:]):
        count = (len(tensors[images]),) if tensors[images].dim() else ()
        if tensors[images].dtype != torch.uint8 or tensors[images].shape != (*count, 3, *size, *size) or 0 in count:
            return (
                f"{images} is {tensors[images].dtype} of shape {tuple(tensors[images].shape)}, not images of one size"
            )
        if tensors[labels].dtype != torch.int64 or tensors[labels].shape != count:
            return f"{labels} is {tensors[labels].dtype} of shape {tuple(tensors[labels].shape)}, not a label per image"
        if tensors[labels].min() < 0 or tensors[labels].max() >= len(names):
            return f"{labels} has labels that are not among its {len(names)} classes"
    return None


def _content_hash(metadata: dict, tensors: dict[str, torch.Tensor]) -> str:
    """Return the sha256 of class names, mean, std and of each tensor's name, type, shape and bytes, in a fixed order.

    The dataset's name is left out. It is the name of a folder, and moving the images does not make another dataset.
    """
    header = {key: metadata[key] for key in ("class_names", "mean", "std")}
    header["tensors"] = [[key, str(tensors[key].dtype), list(tensors[key].shape)] for key in TENSORS]
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for key in TENSORS:
        digest.update(tensors[key].numpy())
    return digest.hexdigest()
