"""Counts of the compared models: trainable parameters, and the FLOPs of the forward pass of one image."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from afmp.benchmark.models import build_afmp_refined_small, build_afmp_small, build_deit_tiny
from afmp.benchmark.settings import check_resolution
from afmp.errors import check_whole_number
from afmp.model.rival import Rival
from afmp.model.sizes import afmp_tiny, build_model
from afmp.records import validate
from afmp.study.run_config import RunConfig

STUDY_IMAGE_SIZE = 32  # of the accuracy studies, pixels
SHOWN_LABELS = 5  # of the runs that have one model


def count_parameters(num_classes: int = 100, resolution: int = 224, *, trained: dict | None = None) -> dict:
    """Return the trainable parameters and the FLOPs of each model, as the content of a parameters file, validated.

    resolution: of the models of the sweep, pixels. FLOPs depend on it, and the parameters of DeiT-Tiny, through its
    position embedding. The model of the accuracy studies always reads 32 px images. `count_flops` says what is counted.
    trained: what `count_trained` returned, to be kept beside them.
    """
    check_resolution(resolution)
    check_whole_number("num_classes", num_classes)
    small = {"image_size": resolution, "num_classes": num_classes}
    tiny = {"img_size": STUDY_IMAGE_SIZE, "num_classes": num_classes}
    afmp_small, _ = build_afmp_small(**small, semantics="paper", fused_attention=True)
    deit_tiny, _ = build_deit_tiny(**small, semantics=None, fused_attention=True)
    refined_small, _ = build_afmp_refined_small(**small, semantics=None, fused_attention=True)
    studied = "AFMP of the accuracy studies: 4 layers, 128 channels, patch 8"
    rows = [
        ("afmp_small", "AFMP-Small: 5 layers, 512 channels, patch 16", resolution, afmp_small),
        ("deit_tiny", "DeiT-Tiny: timm's deit_tiny_patch16_224", resolution, deit_tiny),
        ("afmp_refined_small", "AFMP-refined-Small: 6 layers, 256 channels, patch 16", resolution, refined_small),
        ("afmp_tiny", f"{studied}, with top-down refinement", STUDY_IMAGE_SIZE, afmp_tiny(**tiny)),
        ("afmp_tiny_no_top_down", f"{studied}, without it", STUDY_IMAGE_SIZE, afmp_tiny(**tiny, use_top_down=False)),
    ]
    parameters = {
        "format_version": 1,
        "num_classes": num_classes,
        "models": [
            {
                "model": name,
                "description": description,
                "resolution": image_size,
                "num_parameters": sum(p.numel() for p in model.parameters()),
                "flops": count_flops(model, image_size),
            }
            for name, description, image_size, model in rows
        ],
    }
    if trained is not None:
        parameters["trained"] = trained
    validate(parameters, "parameters", where="parameter counts")
    return parameters


def count_trained(models: list[dict], *, num_classes: int) -> dict:
    """Return the same counts of the models that a study trains, `Study.models`; num_classes: of its dataset."""
    return {
        "num_classes": num_classes,
        "models": [_counted(model, RunConfig.from_dict(model["config"]), num_classes) for model in models],
    }


def _counted(about: dict, config: RunConfig, num_classes: int) -> dict:
    size = config.dataset.image_size
    model = build_model(config, semantics=about["semantics"], num_classes=num_classes)
    return {
        "run": about["run"],
        "semantics": about["semantics"],
        "description": f"{_listed(about['labels'])}: {_in_words(config, about['semantics'])}",
        "resolution": size,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        # A rival is a stack of one model, whose images have an axis in front.
        "flops": count_flops(model.network if isinstance(model, Rival) else model, size),
    }


def _listed(labels: list[str]) -> str:
    more = len(labels) - SHOWN_LABELS
    return "; ".join(labels[:SHOWN_LABELS]) + f" and {more} more" * (more > 0)


def _in_words(config: RunConfig, semantics: str) -> str:
    model, size = config.model, f"{config.dataset.image_size} px"
    if model.is_rival:
        return f"{model.architecture}, {size}"
    return (
        f"AFMP under {semantics}, {model.num_layers} layers, {model.d_model} channels, patch {model.patch_size}, {size}"
    )


def count_flops(model: torch.nn.Module, resolution: int) -> int:
    """Return the floating-point operations of the forward pass of one image of `resolution` pixels, in eval mode.

    They are what `torch.utils.flop_counter` knows: products of matrices and convolutions, with 2 per multiplication and
    addition. Everything else counts as 0. In AFMP that is gathering along edges, the norms of prediction errors, the
    choice of edges, and the gated sums at receivers; in all models, normalisation, softmax and activation functions.
    With one operation per element all of these would add less than 5 % to AFMP (tests/benchmark/test_parameters.py).

    A layer of AFMP is counted on its plain path, the equations line by line, because the counter has hooks on all
    modules. So no kernel hides a product. The scores of `paper` and `notebook` map each edge there, also padded slots
    of the neighbour tables. The fast paths map each node in its place, and compute fewer products. Attention is counted
    as products of matrices, also where one kernel computes it. Nothing is computed: tensors have shapes only.
    """
    trains = model.training
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FakeTensorMode(allow_non_fake_inputs=True), counter:
        model.eval()(torch.empty(1, 3, resolution, resolution))
    model.train(trains)
    return counter.get_total_flops()
