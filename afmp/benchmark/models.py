"""The models of the sweep, each with the loss that its training pass computes."""

import pkgutil
from collections.abc import Callable

import timm
import torch
from torch.nn.functional import cross_entropy

from afmp.model.afmp import AFMP
from afmp.model.sizes import afmp_refined_small, afmp_small

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_model(candidate: dict, *, image_size: int, num_classes: int) -> tuple[torch.nn.Module, Loss]:
    """Return the model of a candidate {builder, semantics, fused_attention, ...}, and its loss.

    `builder` is "package.module:function", a function with the signature of those below. The loss is a function of
    images (B, 3, R, R) and labels (B,).
    """
    return pkgutil.resolve_name(candidate["builder"])(
        image_size=image_size,
        num_classes=num_classes,
        semantics=candidate["semantics"],
        fused_attention=candidate["fused_attention"],
    )


def build_afmp_small(
    *, image_size: int, num_classes: int, semantics: str, fused_attention: bool
) -> tuple[torch.nn.Module, Loss]:
    """Return AFMP-Small and its loss, cross entropy + sparsity loss. It has no attention to fuse."""
    return _with_loss(afmp_small(img_size=image_size, num_classes=num_classes, semantics=semantics))


def build_afmp_refined_small(
    *, image_size: int, num_classes: int, semantics: None, fused_attention: bool
) -> tuple[torch.nn.Module, Loss]:
    """Return AFMP-refined-Small and its loss, cross entropy: it keeps all edges. Its semantics is always `refined`."""
    return _with_loss(afmp_refined_small(img_size=image_size, num_classes=num_classes))


def build_deit_tiny(
    *, image_size: int, num_classes: int, semantics: None, fused_attention: bool
) -> tuple[torch.nn.Module, Loss]:
    """Return timm's DeiT-Tiny, untrained, and its loss, cross entropy. It has no semantics."""
    # timm's attention reads this flag when it is built, not when it is called.
    timm.layers.set_fused_attn(fused_attention)
    model = timm.create_model("deit_tiny_patch16_224", pretrained=False, num_classes=num_classes, img_size=image_size)

    def loss(images, labels):
        return cross_entropy(model(images), labels)

    return model, loss


def _with_loss(model: AFMP) -> tuple[AFMP, Loss]:
    def loss(images, labels):
        logits, sparsity_loss = model.forward_train(images)
        return cross_entropy(logits, labels) + sparsity_loss

    return model, loss
