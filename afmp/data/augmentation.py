"""Augmentation: random crops and flips of a batch on its own device, which depend on random seed and epoch only.

As in cifar10-airbench, the images stay on the training device as uint8, and a few kernels augment a batch.
"""

import hashlib
from typing import NamedTuple

import torch
import torch.nn.functional as F


class EpochPlan(NamedTuple):
    """All random choices for the data of one epoch, on the CPU.

    Row k of the first four belongs to the k-th image in training order, and of the others to the k-th batch. The last
    three, as mixing.py draws them, have no rows where nothing is erased or mixed.
    """

    order: torch.Tensor  # (n,) int64: index of the k-th image
    offsets: torch.Tensor  # (n, 2) int64, 0 ... 2 * padding: first row and column of the crop
    flips: torch.Tensor  # (n,) bool: mirrored left to right
    erased: torch.Tensor = torch.zeros(0, 4, dtype=torch.int64)  # (n, 4): box that is cleared
    mix_boxes: torch.Tensor = torch.zeros(0, 4, dtype=torch.int64)  # (S, 4): box that comes from the other image
    mix_weights: torch.Tensor = torch.zeros(0, 2)  # (S, 2): of an image's own pixels outside of the box, and label


def epoch_digest(what: str, *, seed: int, epoch: int) -> bytes:
    """Return the 32 bytes that seed the random numbers of one purpose in one epoch of one random seed.

    Hashed, because neighbouring seeds and epochs must not give related random streams.
    """
    return hashlib.sha256(f"afmp {what}, seed {seed}, epoch {epoch}".encode()).digest()


def epoch_seed(what: str, *, seed: int, epoch: int) -> int:
    """Return the same as a seed of PyTorch's generators, 63 bits."""
    return int.from_bytes(epoch_digest(what, seed=seed, epoch=epoch)[:8], "big") >> 1


def epoch_plan(num_images: int, *, seed: int, epoch: int, padding: int = 4, flip: bool = True) -> EpochPlan:
    """Draw one epoch's plan for `num_images` images: their order, crops and flips.

    The plan depends only on seed and epoch. So a resumed run needs no sampler state, and every device sees the same
    images. With `padding` 0 no image is shifted, and without `flip` none is mirrored. Neither changes the order.
    """
    generator = torch.Generator().manual_seed(epoch_seed("epoch plan", seed=seed, epoch=epoch))
    order = torch.randperm(num_images, generator=generator)
    offsets = torch.randint(0, 2 * padding + 1, (num_images, 2), generator=generator)
    flips = torch.rand(num_images, generator=generator) < 0.5
    return EpochPlan(order, offsets, flips if flip else torch.zeros_like(flips))


class PaddedImages(NamedTuple):
    """Images (n, 3, H, W) uint8, padded with black and stored flat, so that one gather crops and mirrors a batch."""

    pixels: torch.Tensor  # (n * 3 * height * width of the padded images,) uint8
    rows: torch.Tensor  # (3, H, 1) int64: offset of each row of the top left crop from the image's first pixel
    columns: torch.Tensor  # (W,) int64: 0 ... W - 1
    image_size: int  # values of a padded image, over all channels
    row_size: int  # pixels of one of its rows


def pad_images(images: torch.Tensor, padding: int) -> PaddedImages:
    """Pad images (n, 3, H, W) by `padding` black pixels per side. With `padding` 0 nothing is copied."""
    _, channels, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding)) if padding else images
    row_size, plane_size = padded.shape[3], padded.shape[2] * padded.shape[3]
    planes = torch.arange(channels, device=images.device).view(-1, 1, 1) * plane_size
    rows = torch.arange(height, device=images.device).view(1, -1, 1) * row_size
    columns = torch.arange(width, device=images.device)
    return PaddedImages(padded.reshape(-1), planes + rows, columns, channels * plane_size, row_size)


def crop_positions(images: PaddedImages, order, offsets, flips) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the positions of an epoch plan's crops in `images.pixels`.

    order (..., n), offsets (..., n, 2) and flips (..., n) are the plan's. Returns start and step, (..., n) int64: the
    position of the crop's first pixel, and the step to the pixel on its right, -1 if the crop is mirrored.
    """
    step = 1 - 2 * flips.to(torch.int64)
    last_column = flips * (len(images.columns) - 1)  # a mirrored row starts there
    start = order * images.image_size + offsets[..., 0] * images.row_size + offsets[..., 1] + last_column
    return start, step


def crop_and_normalise(images: PaddedImages, start, step, *, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Cut out the crops at start and step (...,), as `crop_positions` returns them, and normalise them.

    Returns (..., 3, H, W) float32, equal to torchvision's RandomCrop(padding=padding), horizontal flip, ToTensor and
    Normalize with the same choices. Shapes are static and nothing waits for the device, so a CUDA graph can capture it.
    """
    start, step = start[..., None, None, None], step[..., None, None, None]
    columns = torch.addcmul(start, step, images.columns)  # (..., 1, 1, W)
    positions = columns + images.rows  # (..., 3, H, W)
    return normalise(images.pixels.index_select(0, positions.flatten()).view(positions.shape), mean, std)


def normalise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return (images / 255 - mean) / std, float32, of images (..., 3, H, W) uint8; mean and std (3,), scale 0 ... 1."""
    return images.div(255).sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))
