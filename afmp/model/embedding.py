"""Patches of images, and the embeddings of `refined`: of a patch's pixels and of its position."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afmp.errors import AfmpError
from afmp.model.linear import Linear

OCTAVES = 4  # frequencies of the position features
NO_TORCHSCRIPT = (
    "TorchScript (torch.jit) cannot represent AFMP; allowed are torch.export, torch.onnx.export(dynamo=True) and "
    "torch.compile"
)


def patches_of(
    images: Tensor, grid: tuple[int, int], size: int, *, in_chans: int, models: tuple[int, ...] = ()
) -> Tensor:
    """Cut images (*models, B, C, height, width) into patches (*models, B, N, C P P), ordered (channel, row, column).

    grid: rows and columns of patches; size: P, their side in pixels. Raises AfmpError for images of another shape or
    type, and for TorchScript.
    """
    if torch.jit.is_tracing():
        raise AfmpError(NO_TORCHSCRIPT)
    rows, columns = grid
    expected = (in_chans, rows * size, columns * size)
    if images.dim() != 4 + len(models) or images.shape[-3:] != expected or not images.is_floating_point():
        raise AfmpError(
            f"images are {images.dtype} of shape {tuple(images.shape)}: allowed are floating-point "
            f"images of shape ({', '.join(map(str, (*models, 'batch', *expected)))})"
        )
    patches = images.reshape(-1, in_chans, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(*images.shape[:-3], rows * columns, in_chans * size * size)


class PatchEmbedding(nn.Module):
    """The embedding of patches in two steps, their quarters and then the patch, so that it is no linear map of pixels.

    W_2 [GELU(W_1 quarter + b_1) of each quarter] + b_2. A patch of an odd side is not divided.
    """

    def __init__(self, patch_size: int, d_model: int, in_chans: int = 3) -> None:
        super().__init__()
        self.in_chans, self.per_side = in_chans, 1 if patch_size % 2 else 2
        self.side, parts = patch_size // self.per_side, self.per_side**2
        width = max(1, d_model // parts)
        self.W_1, self.W_2 = Linear(in_chans * self.side * self.side, width), Linear(parts * width, d_model)
        # As for rectified units (He et al., 2015), so that pixels count as much as positions from the start.
        for linear, gain in ((self.W_1, "relu"), (self.W_2, "linear")):
            nn.init.kaiming_normal_(linear.weight, nonlinearity=gain)

    def forward(self, patches: Tensor) -> Tensor:
        """Embed patches (..., N, C P P), ordered (channel, row, column), to (..., N, D)."""
        cut = patches.unflatten(-1, (self.in_chans, self.per_side, self.side, self.per_side, self.side))
        quarters = cut.movedim((-4, -2), (-5, -4)).flatten(-3)
        return self.W_2(F.gelu(self.W_1(quarters)).flatten(-3))


class PositionFeatures(nn.Module):
    """The embedding of positions: a linear map of waves over the image, so that it fits every image size.

    features of x in [-1, 1], the position over the extent of the image: sin and cos of pi / 2 * 2^o * x, o < OCTAVES
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.map = Linear(4 * OCTAVES, d_model)

    def forward(self, positions: Tensor) -> Tensor:
        """Embed patch centres (..., N, 2) in pixels."""
        extent = positions.amax(dim=-2, keepdim=True) + positions.amin(dim=-2, keepdim=True)
        angle = torch.pi / 2 * (2 * positions / extent - 1)
        waves = [wave(2**octave * angle) for octave in range(OCTAVES) for wave in (torch.sin, torch.cos)]
        return self.map(torch.cat(waves, dim=-1))
