"""The prepared dataset: one checked file of uint8 images that training loads whole.

The file is safetensors (no pickle): train_images and test_images (N, 3, H, W) uint8, train_labels and test_labels
(N,) int64, and one metadata entry in JSON with name, class names, mean and std per channel, content hash and format
version.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from afmp.data.source_images import SourceImages
from afmp.errors import AfmpError
from afmp.records import atomic_path

FORMAT_VERSION = 1
TENSORS = ("train_images", "train_labels", "test_images", "test_labels")
# One entry for all fields: safetensors writes several in no fixed order, and equal data must give equal files.
METADATA_KEY = "dataset"


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

    Raises AfmpError naming the file if it is missing, damaged or of another format version.
    """
    path = Path(path)
    if not path.is_file():
        raise AfmpError(f"{path}: no such file; prepare the dataset first.")
    again = "delete it so that it is prepared again"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()[METADATA_KEY])
            # Copied, because the file's disk may go away during training.
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
        # Tensors on the device: plain numbers would be copied there at every step, and the step would wait for them.
        mean=torch.tensor(metadata["mean"], device=device),
        std=torch.tensor(metadata["std"], device=device),
        hash=recorded,
        **{key: tensor.to(device) for key, tensor in tensors.items()},
    )


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
