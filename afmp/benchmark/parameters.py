"""Counts of trainable parameters of the compared models."""

from afmp.benchmark.models import build_afmp_refined_small, build_afmp_small, build_deit_tiny
from afmp.benchmark.settings import check_resolution
from afmp.errors import check_whole_number
from afmp.model.sizes import afmp_tiny
from afmp.records import validate

STUDY_IMAGE_SIZE = 32  # of the accuracy studies, pixels


def count_parameters(num_classes: int = 100, resolution: int = 224) -> dict:
    """Return the trainable parameters of each model, as the content of a parameters file, validated.

    resolution: of the models of the sweep, pixels. Only DeiT-Tiny's count depends on it, through its position
    embedding. The model of the accuracy studies always reads 32 px images.
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
            }
            for name, description, image_size, model in rows
        ],
    }
    validate(parameters, "parameters", where="parameter counts")
    return parameters
