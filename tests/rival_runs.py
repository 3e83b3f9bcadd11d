"""Three small rivals, a ViT, an MLP-Mixer and a ConvMixer, and their training on the digits."""

from dataclasses import replace
from pathlib import Path

from training_runs import prepare_few_digits, small_config

from afmp.study.run_config import DatasetConfig, RunConfig
from afmp.training.run import Run
from afmp.training.run_training import train_run

DATASET = DatasetConfig("digits", None, 8)
VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2}
ARGUMENTS = {
    "vit": ("timm/vit_tiny_patch16_224", VIT | {"drop_path_rate": 0.2, "drop_rate": 0.1}),
    "mixer": ("timm/MlpMixer", {"embed_dim": 16, "num_blocks": 2}),
    "convmixer": ("timm/ConvMixer", {"dim": 8, "depth": 2, "kernel_size": 3}),
}


def rival_config(name: str, **changes) -> RunConfig:
    architecture, arguments = ARGUMENTS[name]
    given = {"epochs": 2, "patch_size": 2, "batch_size": 128, "architecture": architecture, "arguments": arguments}
    return replace(small_config(**(given | changes)), dataset=DATASET)


def prepare_small_digits(folder: Path) -> Path:
    """Prepare a third of the digits in their own size, which train in a second, and return the file."""
    return prepare_few_digits(folder, image_size=DATASET.image_size)


def train_rivals(results: Path, digits_file: Path) -> Path:
    """Train the three rivals with two seeds each into a results folder, and return it."""
    for name in ARGUMENTS:
        folders = {seed: results / f"train/timm/{name}/seed_{seed}" for seed in (0, 1)}
        run = Run(name, "timm", rival_config(name), folders, results / "checkpoints")
        train_run(run, dataset_path=digits_file)
    return results
