"""Random edges for the controls of a study, drawn by a hash of the image, the layer and the edge.

So they need no random state: a training that resumes, another batch or device and a CUDA graph draw the same ones.
"""

import torch
from torch import Tensor


def image_keys(images: Tensor) -> Tensor:
    """Return a hash (..., 1, 1) int32 of each image (..., 3, H, W), from which random edges are drawn.

    Pixels count in steps of 1/64, because devices round the last bit of a normalised pixel differently.
    """
    pixels = (images.detach().float() * 64).round().to(torch.int32).flatten(-3)
    places = torch.arange(1, pixels.shape[-1] + 1, dtype=torch.int32, device=images.device)
    # The sum of int32 wraps around. In onnxruntime only the cast does so, and its sum of int32 does not.
    return _mixed(pixels * _mixed(places)).sum(dim=-1).to(torch.int32)[..., None, None]


def pseudo_random(keys: Tensor, nodes: int, slots_per_node: int) -> Tensor:
    """Return one number for each slot, (..., N, K) float32, of images with these keys (..., 1, 1): a hash of both."""
    slots = torch.arange(nodes * slots_per_node, dtype=torch.int32, device=keys.device)
    return _mixed(_mixed(slots.view(nodes, slots_per_node)) + keys).float()


def next_keys(keys: Tensor) -> Tensor:
    """Return the keys of the next layer, which draws other edges."""
    return _mixed(keys + 1)


def _mixed(bits: Tensor) -> Tensor:
    for factor, shift in ((-0x61C88647, 15), (-0x7A143589, 13)):  # overflow is meant
        bits = bits * factor
        bits = bits ^ (bits >> shift)
    return bits
