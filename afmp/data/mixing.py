"""Random erasing, mixup and CutMix: rectangles that are cleared, and batches that are mixed with themselves reversed.

A box is (top, left, bottom, right) in pixels, without its last row and column; (0, 0, 0, 0) is empty.
"""

import numpy as np
import torch

from afmp.data.augmentation import epoch_digest

ERASED_AREA = (0.02, 0.33)  # share of the image
ERASED_ASPECT = (0.3, 3.3)  # height / width


def draw_erased(
    num_images: int, image_shape: tuple[int, int], *, probability: float, seed: int, epoch: int
) -> torch.Tensor:
    """Draw the boxes (n, 4) int64 that random erasing clears in one epoch's images of (height, width) pixels."""
    random, (height, width) = _random_state("erasing", seed, epoch), image_shape
    chosen = random.random_sample(num_images) < probability
    area = height * width * random.uniform(*ERASED_AREA, num_images)
    aspect = np.exp(random.uniform(*np.log(ERASED_ASPECT), num_images))
    rows = np.rint(np.sqrt(area * aspect)).astype(np.int64).clip(1, height)
    columns = np.rint(np.sqrt(area / aspect)).astype(np.int64).clip(1, width)
    top, left = random.randint(height - rows + 1), random.randint(width - columns + 1)
    boxes = np.stack([top, left, top + rows, left + columns], axis=1)
    return torch.from_numpy(boxes * chosen[:, None])


def draw_mixes(
    num_batches: int, image_shape: tuple[int, int], *, mixup_alpha: float, cutmix_alpha: float, seed: int, epoch: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw how each of S batches of an epoch is mixed: by mixup or CutMix, whichever has an alpha, or either as likely.

    Returns boxes (S, 4) int64, whose pixels come from the other image, and weights (S, 2): that of an image's own
    pixels outside of the box, and that of its own label. The distributions are those of torchvision's MixUp and CutMix.
    """
    random, (height, width) = _random_state("mixing", seed, epoch), image_shape
    cut = random.random_sample(num_batches) < (0.5 if mixup_alpha and cutmix_alpha else float(cutmix_alpha > 0))
    alpha = np.where(cut, cutmix_alpha, mixup_alpha)
    share = random.beta(alpha, alpha)
    row, column = random.randint(height, size=num_batches), random.randint(width, size=num_batches)
    half = 0.5 * np.sqrt(1 - share)  # half a side of the box, whose centre may lie anywhere in the image
    half_rows, half_columns = (half * height).astype(np.int64), (half * width).astype(np.int64)
    top, left = (row - half_rows).clip(min=0), (column - half_columns).clip(min=0)
    bottom, right = (row + half_rows).clip(max=height), (column + half_columns).clip(max=width)
    boxes = np.stack([top, left, bottom, right], axis=1) * cut[:, None]
    outside_box = 1 - (bottom - top) * (right - left) / (height * width)
    weights = np.stack([np.where(cut, 1.0, share), np.where(cut, outside_box, share)], axis=1)
    return torch.from_numpy(boxes), torch.from_numpy(weights).to(torch.get_default_dtype())


def erase(images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Set the pixels of images (..., 3, H, W) in their boxes (..., 4) to 0, in place, and return the images."""
    return images.masked_fill_(_in_boxes(boxes, images)[..., None, :, :], 0.0)


def mix(images: torch.Tensor, boxes: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
    """Return images (M, B, 3, H, W), each mixed with the one at its place in the reversed batch.

    boxes (M, 4) and outside (M,): box and first weight of the batch of each model, as `draw_mixes` returns them.
    """
    own = outside[:, None, None] * ~_in_boxes(boxes, images)  # (M, H, W)
    return torch.lerp(images.flip(1), images, own[:, None, None])


def _in_boxes(boxes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return which pixels of images (..., H, W) lie in boxes (..., 4): (..., H, W) bool. Shapes are static."""
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[-2:])
    top, left, bottom, right = boxes[..., None].unbind(dim=-2)  # (..., 1) each
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return in_rows[..., :, None] & in_columns[..., None, :]


def _random_state(what: str, seed: int, epoch: int) -> np.random.RandomState:
    # RandomState, for the reason in split.py.
    return np.random.RandomState(np.frombuffer(epoch_digest(what, seed=seed, epoch=epoch), "<u4"))
