"""AFMP among the models of timm: after `import afmp.timm`, `timm.create_model` knows its named sizes.

Those with a release in the package have weights of the tag `cifar100`, which pretrained=True loads.

Their arguments are those of `afmp.AFMP`, such as num_classes, img_size, in_chans and semantics, and those of timm:
global_pool ("avg" or ""), features_only, and `pretrained` for a name `local-dir:<folder>`.
"""

from collections.abc import Callable
from functools import partial

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
    register_notrace_function,
    register_notrace_module,
)

from afmp.errors import AfmpError
from afmp.model.afmp import AFMP, LAYERS
from afmp.model.embedding import PatchEmbedding, PositionFeatures, patches_of
from afmp.model.linear import Linear
from afmp.model.refined import RefinedReadout, RefinedTopDown
from afmp.model.sizes import afmp_refined_small, afmp_refined_tiny, afmp_small, afmp_tiny
from afmp.model.top_down import TopDownAggregator
from afmp.model.trained import RELEASES, SUFFIX
from afmp.model.weights import GRAPH, check_shapes

# Of the training images of CIFAR-100.
CIFAR_MEAN, CIFAR_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
EMBEDDINGS = ("embed.weight", "embed.W_1.weight")  # the map that reads pixels, of `paper` and of `refined`


def _settings(side: int, mean: tuple, std: tuple, classifier: str, release: str | None = None) -> dict:
    weights = {} if release is None else {"file": str(RELEASES / f"{release}{SUFFIX}")}
    return weights | {
        "num_classes": 100,
        "input_size": (3, side, side),
        "fixed_input_size": True,
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bilinear",  # and a centre crop, as `afmp predict` prepares images
        "crop_mode": "center",
        "mean": mean,
        "std": std,
        "classifier": classifier,
        "first_conv": (),  # no convolution: `_fitted` adapts the embedding to other channels
    }


default_cfgs = generate_default_cfgs(
    {
        "afmp_tiny_patch8_32": _settings(32, CIFAR_MEAN, CIFAR_STD, "readout.2"),
        "afmp_small_patch16_224": _settings(224, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, "readout.2"),
        "afmp_refined_tiny_patch4_32.cifar100": _settings(
            32, CIFAR_MEAN, CIFAR_STD, "readout.2.map", "afmp_refined_tiny_cifar100"
        ),
        "afmp_refined_small_patch4_32.cifar100": _settings(
            32, CIFAR_MEAN, CIFAR_STD, "readout.2.map", "afmp_refined_small_cifar100"
        ),
        "afmp_refined_small_patch16_224": _settings(224, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, "readout.2.map"),
    }
)


def name_of_release(release: str) -> str | None:
    """Return the name, with its tag, by which `timm.create_model` loads a release of the package; None without one."""
    for name, settings in default_cfgs.items():
        for tag, one in settings.cfgs.items():
            if one.file == str(RELEASES / f"{release}{SUFFIX}"):
                return f"{name}.{tag}"
    return None


@register_model
def afmp_tiny_patch8_32(pretrained: bool = False, **arguments) -> AFMP:
    """AFMP-Tiny, of semantics `paper`."""
    return _create("afmp_tiny_patch8_32", afmp_tiny, pretrained, arguments)


@register_model
def afmp_small_patch16_224(pretrained: bool = False, **arguments) -> AFMP:
    """AFMP-Small, of semantics `paper`."""
    return _create("afmp_small_patch16_224", afmp_small, pretrained, arguments)


@register_model
def afmp_refined_tiny_patch4_32(pretrained: bool = False, **arguments) -> AFMP:
    """AFMP-refined-Tiny."""
    return _create("afmp_refined_tiny_patch4_32", afmp_refined_tiny, pretrained, arguments)


@register_model
def afmp_refined_small_patch4_32(pretrained: bool = False, **arguments) -> AFMP:
    """AFMP-refined-Small for CIFAR: 1,928,202 parameters."""
    size = partial(afmp_refined_small, img_size=32, patch_size=4)
    return _create("afmp_refined_small_patch4_32", size, pretrained, arguments)


@register_model
def afmp_refined_small_patch16_224(pretrained: bool = False, **arguments) -> AFMP:
    """AFMP-refined-Small."""
    return _create("afmp_refined_small_patch16_224", afmp_refined_small, pretrained, arguments)


def _create(name: str, size: Callable[..., AFMP], pretrained: bool, arguments: dict) -> AFMP:
    def build(*, num_classes: int, global_pool: str = "avg", **others) -> AFMP:
        for rate in ("drop_rate", "drop_path_rate"):  # timm's training script gives them, 0 by default
            if others.pop(rate, 0):
                raise AfmpError(f"{rate} of {name}: AFMP has no dropout; allowed is 0")
        model = size(num_classes=num_classes or 1, **others)
        if not num_classes or global_pool != "avg":
            model.reset_classifier(num_classes, global_pool)
        return model

    if arguments.get("feature_cls", "getter") != "getter":
        raise AfmpError(f"feature_cls of {name} is {arguments['feature_cls']!r}: allowed is 'getter'")
    # "getter": all layers have the same resolution, so timm asks `forward_intermediates` for their states.
    features = {"out_indices": 3, "feature_cls": "getter"}
    model = build_model_with_cfg(
        build, name, pretrained, pretrained_filter_fn=_fitted, feature_cfg=features, **arguments
    )
    network = model if isinstance(model, AFMP) else model.model
    sides = [count * network.patch_size for count in network.grid_shape]
    model.pretrained_cfg["input_size"] = (network.in_chans, *sides)  # by which timm prepares images
    return model


def _fitted(weights: dict[str, torch.Tensor], model: AFMP) -> dict[str, torch.Tensor]:
    """Return weights with the graph of a model of another image size, and an embedding of as many channels."""
    own = model.state_dict()
    # The first centre is half a patch from the corner. The number of channels does not tell a patch from another one.
    if (patch := round(2 * float(weights["static_positions"].min()))) != model.patch_size:
        raise AfmpError(
            f"the pretrained weights read patches of {patch} px, but patch_size is {model.patch_size}: allowed is "
            f"{patch} with pretrained=True; img_size, in_chans and num_classes may be others"
        )
    if weights["static_positions"].shape != own["static_positions"].shape:
        weights = weights | {name: own[name] for name in GRAPH}
    for name in EMBEDDINGS:
        if name in weights and name in own and weights[name].shape != own[name].shape:
            # A pixel that is equal in all channels has the embedding that it had before.
            per_channel = weights[name].unflatten(1, (-1, own[name].shape[1] // model.in_chans))
            mean = per_channel.sum(dim=1, keepdim=True) / model.in_chans
            weights = weights | {name: mean.expand(-1, model.in_chans, -1).flatten(1)}
    readout = tuple(name for name in {*own, *weights} if name.startswith("readout."))  # timm itself adapts it
    kept = {name: own[name].shape for name in readout if name in own}
    shapes = {name: tensor.shape for name, tensor in weights.items() if name not in readout} | kept
    check_shapes(shapes, own, "the pretrained weights", graph=True, classifier=())
    return weights


# torch.fx takes each of these as one operation: they read the shapes of their inputs.
for kind in (
    *(Linear, PatchEmbedding, PositionFeatures, TopDownAggregator, RefinedTopDown, RefinedReadout),
    *LAYERS.values(),
):
    register_notrace_module(kind)
register_notrace_function(patches_of)
