"""Random crops and flips for a whole batch on its own device, reproducible from seed and epoch alone.

As in cifar10-airbench, the images stay on the training device as uint8, and a batch is augmented in a few
kernels.
"""

import hashlib
from typing import NamedTuple

import torch
import torch.nn.functional as F


class EpochPlan(NamedTuple):
    """Everything random about one epoch's data, on the CPU. Row k belongs to the k-th image that is shown."""

    order: torch.Tensor  # (n,) int64: which image comes k-th
    offsets: torch.Tensor  # (n, 2) int64, 0 ... 2 * padding: row and column where the crop begins
    flips: torch.Tensor  # (n,) bool: mirrored left to right


def epoch_plan(num_images: int, *, seed: int, epoch: int, padding: int = 4, flip: bool = True) -> EpochPlan:
    """Draw one epoch's plan for `num_images` images.

    It depends on (seed, epoch) and nothing else, so a resumed run needs no sampler state and every device
    sees the same images. `padding` 0 leaves images where they are; without `flip` none is mirrored; neither
    changes the order.
    """
    # Hashed, because neighbouring seeds and epochs must not give related streams.
    digest = hashlib.sha256(f"afmp epoch plan, seed {seed}, epoch {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    order = torch.randperm(num_images, generator=generator)
    offsets = torch.randint(0, 2 * padding + 1, (num_images, 2), generator=generator)
    flips = torch.rand(num_images, generator=generator) < 0.5
    return EpochPlan(order, offsets, flips if flip else torch.zeros_like(flips))


class PaddedImages(NamedTuple):
    """uint8 images (n, 3, H, W) padded with black and laid out flat, so that one gather crops and mirrors a batch."""

    pixels: torch.Tensor  # (n * 3 * height * width of the padded images,) uint8
    rows: torch.Tensor  # (3, H, 1) int64: from an image's first pixel to where each row of its top left crop begins
    columns: torch.Tensor  # (W,) int64: 0 ... W - 1
    image_size: int  # pixels and channels of a padded image
    row_size: int  # pixels of its row


def pad_images(images: torch.Tensor, padding: int) -> PaddedImages:
    """Pad images (n, 3, H, W) by `padding` black pixels a side; nothing is copied where that is 0."""
    _, channels, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding)) if padding else images
    row_size, plane_size = padded.shape[3], padded.shape[2] * padded.shape[3]
    planes = torch.arange(channels, device=images.device).view(-1, 1, 1) * plane_size
    rows = torch.arange(height, device=images.device).view(1, -1, 1) * row_size
    columns = torch.arange(width, device=images.device)
    return PaddedImages(padded.reshape(-1), planes + rows, columns, channels * plane_size, row_size)


def crop_places(images: PaddedImages, order, offsets, flips) -> tuple[torch.Tensor, torch.Tensor]:
    """The crops of an epoch plan, order (..., n), offsets (..., n, 2), flips (..., n), as places in `images.pixels`.

    Two (..., n) int64: the place of the crop's first pixel, and the step to the pixel right of it, -1 if mirrored.
    """
    step = 1 - 2 * flips.to(torch.int64)
    last_column = flips * (len(images.columns) - 1)  # where a mirrored row begins
    start = order * images.image_size + offsets[..., 0] * images.row_size + offsets[..., 1] + last_column
    return start, step


def cut_and_normalise(images: PaddedImages, start, step, *, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """The crops that `crop_places` placed at start and step (...,), normalised: (..., 3, H, W) float32.

    Equal to torchvision's RandomCrop(padding=padding), horizontal flip, ToTensor and Normalize with the same choices.
    Shapes are static and nothing waits for the device: a CUDA graph can capture it.
    """
    start, step = start[..., None, None, None], step[..., None, None, None]
    columns = torch.addcmul(start, step, images.columns)  # (..., 1, 1, W)
    places = columns + images.rows  # (..., 3, H, W)
    return normalise(images.pixels.index_select(0, places.flatten()).view(places.shape), mean, std)


def normalise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """uint8 images (..., 3, H, W) -> float32 (images / 255 - mean) / std; mean, std (3,) on a 0 ... 1 scale."""
    return images.div(255).sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))
