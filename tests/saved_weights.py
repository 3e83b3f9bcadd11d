"""Files of weights that are not trained, with the metadata of trained ones."""

import json
from pathlib import Path

import torch
from rival_runs import rival_config
from safetensors.torch import save_file
from training_runs import small_config

from afmp.model.sizes import build_model
from afmp.study.run_config import RunConfig

MEAN, STD = (0.25, 0.5, 0.75), (0.5, 0.25, 0.125)
NAMES = ("ant", "zèbre\n\x1b[31m", "cat")
ABOUT = {
    "run": "tiny", "seed": 3, "epoch": 2, "class_names": list(NAMES), "mean": list(MEAN), "std": list(STD),
    "dataset": {"name": "x", "hash": "abc"},
}  # fmt: skip
CONFIGS = {"refined": small_config(edges_per_node=2), "paper": small_config(), "timm": rival_config("convmixer")}


def save(
    path: Path, semantics: str = "refined", *, config: RunConfig | None = None, scale: float = 1.0, **changes
) -> Path:
    """Save an untrained model of random weights with the metadata that training gives it, some of them changed."""
    torch.manual_seed(0)
    config = config or CONFIGS[semantics]
    model = build_model(config, semantics=semantics, num_classes=len(NAMES))
    about = ABOUT | {"semantics": semantics, "image_size": config.dataset.image_size}
    about |= {"model": config.model.to_dict()} | changes
    state = model.state_dict()
    weights = {name: tensor * scale if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(weights, path, {"about": json.dumps(about)})
    return path
