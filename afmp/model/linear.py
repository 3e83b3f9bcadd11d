"""Linear maps that may have a model axis, for models that train together as a stack; and hooks on modules."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.fx._symbolic_trace import is_fx_symbolic_tracing
from torch.nn.modules.module import _has_any_global_hook

from afmp.message_passing.autocast import autocast_dtype
from afmp.message_passing.traced import returned


class Linear(nn.Linear):
    """A linear map as `nn.Linear`. In a stack of M models, weight is (M, out, in) and bias (M, out)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (..., in) to (..., out); in a stack (M, ..., in) to (M, ..., out)."""
        if self.weight.dim() == 2:
            return F.linear(inputs, self.weight, self.bias)
        if len(self.weight) == 1:  # libraries are fastest with a plain product
            return F.linear(inputs, self.weight[0], self.bias[0])
        mapped = torch.bmm(inputs.flatten(1, -2), self.weight.mT).view(*inputs.shape[:-1], self.weight.shape[1])
        bias = self.bias.view(len(self.bias), *[1] * (inputs.dim() - 2), -1)
        return mapped + bias.to(mapped.dtype)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last dimension. In a stack of M models, weight and bias are (M, D)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise inputs (..., D); in a stack (M, ..., D)."""
        if self.weight.dim() == 1:
            return F.layer_norm(inputs, self.normalized_shape, self.weight, self.bias, self.eps)
        weight, bias = (part.view(len(part), *[1] * (inputs.dim() - 2), -1) for part in (self.weight, self.bias))
        return F.layer_norm(inputs, self.normalized_shape, eps=self.eps) * weight + bias


class Normalisation(nn.Module):
    """Layer normalisation over the last dimension without weights, x = (h - mean) / sqrt(var + eps).

    Under autocast x has the type in which autocast computes, and the backward pass reads x alone: h is not kept.
    """

    eps = 1e-5

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise inputs (..., D)."""
        dtype = autocast_dtype(inputs)
        if dtype is not None and not needs_plain_operations():
            return _Normalised.apply(inputs, dtype, self.eps)
        return F.layer_norm(inputs, inputs.shape[-1:], eps=self.eps)


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, dtype, eps):
        normalised, _, inverse_std = torch.native_layer_norm(inputs, inputs.shape[-1:], None, None, eps)
        normalised = normalised.to(dtype)
        ctx.save_for_backward(normalised, inverse_std)
        return returned(normalised)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_normalised):
        # The gradient through an input of mean 0 and variance 1, which x is, is that through h but for its scale.
        normalised, inverse_std = ctx.saved_tensors
        # CUDA wants statistics in float32, a CPU in the type of x. Both hold 0 and 1 exactly.
        kind = inverse_std.dtype if inverse_std.is_cuda else normalised.dtype
        statistics = torch.zeros_like(inverse_std, dtype=kind), torch.ones_like(inverse_std, dtype=kind)
        d_inputs, _, _ = torch.ops.aten.native_layer_norm_backward(
            d_normalised, normalised, normalised.shape[-1:], *statistics, None, None, [True, False, False]
        )
        return d_inputs * inverse_std, None, None


def is_linear(module: nn.Module) -> bool:
    """Return True if `module` is a linear map and nothing else, so that its weights may be read instead of calling it.

    An adapter, or a map with a parametrisation or a hook, must be called. So must a map without bias.
    """
    return type(module) in (Linear, nn.Linear) and module.bias is not None and not has_hooks(module)


def needs_plain_operations() -> bool:
    """Return True where only the plain operations of PyTorch work: under torch.func, in torch.export and torch.fx.

    Fast paths write into views and have backward passes of their own, which these cannot follow.
    """
    if torch.compiler.is_compiling() and not is_exporting():
        return False  # torch.compile follows them
    return is_exporting() or torch._C._are_functorch_transforms_active() or is_fx_symbolic_tracing()


def is_exporting() -> bool:
    """Return True in torch.export only, unlike `torch.compiler.is_exporting()` of torch 2.11 under torch.compile."""
    return torch.compiler._is_exporting_flag


def has_hooks(module: nn.Module) -> bool:
    """Return True if a call of `module` runs hooks, forward or backward, its own or those for all modules."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(len(registered) > 0 for registered in hooks) or _has_any_global_hook()
