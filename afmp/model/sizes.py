"""AFMP in its named sizes, AFMP-Tiny and AFMP-Small and those of `refined`, and the model of a run of the study."""

from afmp.model.afmp import AFMP
from afmp.model.rival import Rival, build_rival
from afmp.study.run_config import ModelConfig, RunConfig

REFINED = {"semantics": "refined", "is_sparse": False, "use_top_down": False}


def afmp_tiny(**overrides) -> AFMP:
    """Build AFMP-Tiny: 4 layers, 128 channels, patches of 8 on 32 px (CIFAR); 435,688 parameters, 100 classes."""
    return AFMP(**{"num_layers": 4, "d_model": 128, "img_size": 32, "patch_size": 8, **overrides})


def afmp_small(**overrides) -> AFMP:
    """Build AFMP-Small: 5 layers, 512 channels, patches of 16 on 224 px; 6,119,913 parameters, 100 classes."""
    return AFMP(**{"num_layers": 5, "d_model": 512, "img_size": 224, "patch_size": 16, **overrides})


def afmp_refined_tiny(**overrides) -> AFMP:
    """Build `refined` for CIFAR: 9 layers, 128 channels, all edges, patches of 4 on 32 px; 816,925 parameters."""
    return AFMP(**REFINED | {"num_layers": 9, "d_model": 128, "img_size": 32, "patch_size": 4} | overrides)


def afmp_refined_small(**overrides) -> AFMP:
    """Build `refined` for 224 px: 6 layers, 256 channels, all edges, patches of 16; 1,939,722 parameters."""
    return AFMP(**REFINED | {"num_layers": 6, "d_model": 256, "img_size": 224, "patch_size": 16} | overrides)


def build_model(config: RunConfig, *, semantics: str, num_classes: int) -> AFMP | Rival:
    """Build the model of one run, with initial weights from torch's global random state."""
    model = config.model
    if model.is_rival:
        return build_rival(config, num_classes=num_classes)
    return AFMP(
        **arguments_of(model),
        num_classes=num_classes,
        img_size=config.dataset.image_size,
        semantics=semantics,
        batch_size=config.training.batch_size,
    )


def arguments_of(model: ModelConfig) -> dict:
    """Return the arguments of AFMP that the keys of `model` give. Without a number per node it is None there, not 0."""
    return model.to_dict() | {"edges_per_node": model.edges_per_node or None}
