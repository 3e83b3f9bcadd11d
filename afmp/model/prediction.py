"""Prediction: the most probable classes of image files under trained weights."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from afmp.data.augmentation import normalise
from afmp.data.image_file import fit_square, to_rgb
from afmp.data.image_folder import log_notes, read_images
from afmp.errors import AfmpError
from afmp.model.rival import Rival
from afmp.model.stack import Model
from afmp.model.trained import About
from afmp.study.semantics import SEMANTICS

# Images are read and classified in batches, so that a folder of any size fits in memory.
MAX_IMAGES, MAX_PIXELS = 256, 1 << 22


class Prediction(NamedTuple):
    """An image file, and its most probable classes with their probabilities, 0 ... 1, in falling order."""

    path: Path
    classes: list[tuple[str, float]]


def predict_files(model: Model, paths: list[Path], *, top: int) -> Iterator[Prediction]:
    """Yield the `top` most probable classes of each image file, or all classes if there are fewer.

    model: as `afmp.load` returns it, on any device. Images become RGB of its size as those of source `folder` do. Under
    `notebook` each image is alone in its batch, as in `afmp explain`: its answer depends on no other file.
    Raises AfmpError naming an image that cannot be read, or one whose probabilities are not finite.
    """
    about = model.about
    notes: list[tuple[str, Path]] = []
    alone = SEMANTICS[about.semantics].depends_on_batch
    size = 1 if alone else max(1, min(MAX_IMAGES, MAX_PIXELS // about.image_size**2))
    for batch in (paths[start : start + size] for start in range(0, len(paths), size)):
        images = torch.from_numpy(read_images(batch, image_size=about.image_size, notes=notes))
        # Stable, so that of classes with equal probabilities the first is named first.
        falling = probabilities(model, images).cpu().sort(dim=1, descending=True, stable=True)
        for path, values, indices in zip(batch, *(found[:, :top].tolist() for found in falling), strict=True):
            check_finite(values, path)
            names = [about.class_names[index] for index in indices]
            yield Prediction(path, list(zip(names, values, strict=True)))
    log_notes(notes)


def check_finite(values: list[float], path: Path) -> None:
    """Raise AfmpError naming an image if one of its probabilities is not finite."""
    if not all(map(math.isfinite, values)):
        raise AfmpError(
            f"{path}: its probabilities are not finite: numbers in the weights are too large for float32; "
            "train or get the weights again."
        )


def prepare_image(about: About, image: Path | Image.Image, *, image_size: int) -> torch.Tensor:
    """Return an image as a model reads it: (3, image_size, image_size) float32, normalised, on the CPU.

    image: a file, or one that Pillow has opened. Raises AfmpError for one that cannot be read, naming the file.
    """
    if isinstance(image, Path):
        pixels = read_images([image], image_size=image_size)
    else:
        try:
            pixels = np.asarray(fit_square(to_rgb(image), image_size)).transpose(2, 0, 1)[None].copy()
        except (OSError, ValueError) as error:
            raise AfmpError(f"image: cannot be read ({error}); give one of 8 bits per channel.") from None
    return normalised(about, torch.from_numpy(pixels))[0]


def normalised(about: About, images: torch.Tensor) -> torch.Tensor:
    """Return images (B, 3, H, W) uint8 as float32, normalised by mean and standard deviation, on their device."""
    mean, std = (torch.tensor(numbers, device=images.device) for numbers in (about.mean, about.std))
    return normalise(images, mean=mean, std=std)


@torch.no_grad()
def probabilities(model: Model, images: torch.Tensor) -> torch.Tensor:
    """Return the probabilities (B, classes) float32 of images (B, 3, H, W) uint8 by `model`, as `afmp.load` returns it.

    The images are normalised by mean and standard deviation of the model's dataset. The result is on its device.
    """
    device = next(model.parameters()).device
    shown = normalised(model.about, images.to(device))
    logits = model(shown[None])[0] if isinstance(model, Rival) else model(shown)
    return logits.softmax(dim=1)
