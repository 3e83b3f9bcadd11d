"""What torch.compile needs while it traces an `autograd.Function`."""

import torch
from torch import Tensor


def returned(tensor: Tensor) -> Tensor:
    """Return the tensor in the form in which the forward pass of an `autograd.Function` is to return it.

    torch.compile of PyTorch 2.11 loses the gradient of a result that the forward pass wrote into, or that is another of
    its tensors (https://github.com/pytorch/pytorch/issues/180642). So while it traces, this is a copy.
    """
    return tensor.clone() if torch.compiler.is_compiling() else tensor
