"""Preparation: one source becomes the one file that training loads."""

import logging
import os
from fractions import Fraction
from math import sqrt
from pathlib import Path

import numpy as np
from PIL import Image

from afmp.data.dataset import load_dataset, write_dataset
from afmp.data.image_file import fit_square
from afmp.data.readers import READERS
from afmp.data.source_images import claim_memory
from afmp.errors import AfmpError

log = logging.getLogger("afmp")


def prepare_dataset(config: dict, destination: Path, *, download_folder: Path) -> str:
    """Read the source that `config` names, write it to `destination`, completely or not at all, and return its hash.

    config: the dataset section of the configuration, with source (one of READERS), image_size in pixels, and path for
    source folder. Archives are kept in `download_folder`, which other processes may use at the same time. An archive
    that is already there is not downloaded. The same input gives the same bytes.
    Raises AfmpError for an impossible config, a failed download, and images that cannot be used.
    """
    source, image_size = config.get("source"), config.get("image_size")
    if not isinstance(image_size, int) or image_size < 1:
        raise AfmpError(f"dataset/image_size: found {image_size!r}; allowed is a whole number of pixels from 1.")
    if source not in READERS:
        raise AfmpError(f"dataset/source: found {source!r}; allowed are {', '.join(READERS)}.")
    images = READERS[source](config, Path(download_folder))
    if images.train_images.shape[2] != image_size:
        claim_memory(len(images.train_images) + len(images.test_images), image_size)
    images = images._replace(
        train_images=_resize(images.train_images, image_size), test_images=_resize(images.test_images, image_size)
    )
    mean, std = _mean_and_std(images.train_images)
    content_hash = write_dataset(destination, images, mean=mean, std=std)
    log.info(
        "%s: %s, %s train and %s test images, %d px, %d classes, hash %s",
        *(destination, images.name, f"{len(images.train_images):,}", f"{len(images.test_images):,}"),
        *(image_size, len(images.class_names), content_hash[:12]),
    )
    return content_hash


def repair_dataset(path: Path, config: dict, *, download_folder: Path) -> None:
    """Prepare the file again if it cannot be loaded. The arguments are those of its `prepare_dataset`."""
    path = Path(path)
    try:
        load_dataset(path)
    except AfmpError as damage:
        log.warning("%s", str(damage).partition(";")[0] + "; it is prepared again.")
        status = path.stat()
        prepare_dataset(config, path, download_folder=download_folder)
        # The bytes are the same, and so is their time: nothing that was made from them is out of date.
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _resize(images: np.ndarray, image_size: int) -> np.ndarray:
    """Scale (N, 3, h, w) uint8 to (N, 3, image_size, image_size), by the rule of image folders."""
    if images.shape[2:] == (image_size, image_size):
        return images
    resized = np.empty((len(images), 3, image_size, image_size), np.uint8)
    for index, image in enumerate(images):
        square = fit_square(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))), image_size)
        resized[index] = np.asarray(square).transpose(2, 0, 1)
    return resized


def _mean_and_std(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel over all pixels, on a scale 0 ... 1.

    Computed from whole-number sums, so that every machine rounds alike.
    """
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
        std.append(sqrt(second - first**2) or 1.0)  # a constant channel becomes 0 and not NaN
    return mean, std
