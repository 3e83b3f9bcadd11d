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


def crop_flip_normalise(
    images: torch.Tensor,
    offsets: torch.Tensor,
    flips: torch.Tensor,
    *,
    mean: torch.Tensor,
    std: torch.Tensor,
    padding: int = 4,
) -> torch.Tensor:
    """Crop each image out of itself padded with black, mirror it if its flip says so, and normalise.

    images (B, 3, H, W) uint8, offsets (B, 2) int64, flips (B,) bool, mean and std (3,) float32, all on one
    device -> (B, 3, H, W) float32. Equal to torchvision's RandomCrop(padding=padding), horizontal flip,
    ToTensor and Normalize with the same choices. Shapes are static and nothing waits for the device: a CUDA
    graph can capture it.
    """
    batch, channels, height, width = images.shape
    padded_width = width + 2 * padding
    padded = F.pad(images, (padding, padding, padding, padding))
    rows = torch.arange(height, device=images.device) + offsets[:, :1]  # (B, H)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = torch.where(flips[:, None], width - 1 - columns, columns) + offsets[:, 1:]  # (B, W)
    pixels = rows[:, :, None] * padded_width + columns[:, None, :]  # (B, H, W): each pixel's place in padded
    pixels = pixels.reshape(batch, 1, height * width).expand(batch, channels, height * width)
    cropped = padded.flatten(2).gather(2, pixels).view(batch, channels, height, width)
    return normalise(cropped, mean, std)


def normalise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """uint8 images (B, 3, H, W) -> float32 (images / 255 - mean) / std; mean, std (3,) on a 0 ... 1 scale."""
    return images.to(torch.float32).div(255).sub(mean.view(1, -1, 1, 1)).div(std.view(1, -1, 1, 1))
