"""The images of one dataset as its source gives them: what every reader returns."""

import logging
from typing import NamedTuple

import numpy as np

from afmp.errors import AfmpError
from afmp.machine.memory import host_bytes

log = logging.getLogger("afmp")


class SourceImages(NamedTuple):
    """Training and test images with their labels. All images have one size, which may differ from the study's."""

    name: str
    train_images: np.ndarray  # (N, 3, h, w) uint8
    train_labels: np.ndarray  # (N,) int64, indices into class_names
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]


def claim_memory(num_images: int, image_size: int) -> None:
    """Log how much memory so many images of this size take, before they take it.

    Raises AfmpError if the machine does not have as much.
    """
    gigabytes = num_images * 3 * image_size**2 / 1e9
    machine = host_bytes() / 1e9
    size = f"{num_images:,} images of {image_size:,} px take {gigabytes:,.2f} GB of memory"
    if gigabytes > machine:
        raise AfmpError(f"dataset/image_size: {size}, and this machine has {machine:,.0f} GB; choose a smaller size.")
    log.info("%s, and three times as much while they are written", size)
