"""Small training runs that several tests share, and comparisons of what they leave."""

import json
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT
from safetensors import safe_open
from safetensors.torch import load_file

from afmp.data.preparation import prepare_dataset
from afmp.data.readers import READERS
from afmp.records import read_result
from afmp.study.run_config import RunConfig
from afmp.study.study import resolve_study
from afmp.training import loop
from afmp.training.run import Run
from afmp.training.run_training import train_run

MODEL_VARIANTS = {  # semantics, and changes of the section `model`
    "sparse": ("paper", {}),
    "dense": ("paper", {"is_sparse": False}),
    "top-down": ("paper", {"use_top_down": True}),
    "notebook": ("notebook", {"use_top_down": True}),
}

# torch's autograd does not work after a plain fork. The sweeps of other tests fork from the same server.
FORKSERVER = multiprocessing.get_context("forkserver")
PRELOADED = ["afmp.cli", "afmp.training.run_training", "torch._dynamo", "afmp.benchmark.measurement"]
FORKSERVER.set_forkserver_preload(PRELOADED)

# Every part of a recipe that has a key, on the small run.
STRONG_RECIPE = {
    "schedule": "cosine", "warmup_epochs": 1, "label_smoothing": 0.1, "mixup_alpha": 0.8, "cutmix_alpha": 1.0,
    "erasing_probability": 0.25, "ema_decay": 0.99, "clip_norm": 1.0, "decay_vectors": False,
}  # fmt: skip


def small_config(run: str = "sparse_0.3", **changes) -> RunConfig:
    """Return a small run of the study on digits: 2 layers, 16 channels, 3 epochs, on the CPU.

    changes: other values for keys of the sections `model` and `training`.
    """
    study = yaml.safe_load((PROJECT / "config.yaml").read_text())
    study["dataset"]["source"] = "digits"
    study["model"] |= {"num_layers": 2, "d_model": 16}
    study["training"] |= {"epochs": 3, "batch_size": 64, "learning_rate": 0.005, "visualize_every": 2, "device": "cpu"}
    config = resolve_study(study).runs[run]
    model, training = ({key: changes[key] for key in changes if key in study[name]} for name in ("model", "training"))
    assert changes == model | training
    return replace(config, model=replace(config.model, **model), training=replace(config.training, **training))


def prepare_few_digits(folder: Path, *, image_size: int) -> Path:
    """Prepare every third of the digits, which train in a third of the time, and return the file."""
    read, path = READERS["digits"], folder / "digits.safetensors"

    def read_few(config, download_folder):
        digits = read(config, download_folder)
        parts = ("train_images", "train_labels", "test_images", "test_labels")
        return digits._replace(**{part: getattr(digits, part)[::3] for part in parts})

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(READERS, "digits", read_few)
        prepare_dataset({"source": "digits", "path": None, "image_size": image_size}, path, download_folder=folder)
    return path


def run_in(folder: Path, config: RunConfig, *, name="tiny", semantics="paper", seeds=(0,)) -> Run:
    """Return a run with all its files in one folder."""
    seed_folders = {seed: folder / f"seed_{seed}" for seed in seeds}
    return Run(name, semantics, config, seed_folders, folder / "checkpoints")


def train(config: RunConfig, folder: Path, digits_file: Path, *, stack_seeds=None, **options) -> list[dict]:
    """Train a run (options of `run_in`) and return the result of each seed."""
    run = run_in(folder, config, **options)
    train_run(run, dataset_path=digits_file, stack_seeds=stack_seeds)
    return [read_result(seed_folder / f"results_{run.name}.json") for seed_folder in run.seed_folders.values()]


def fork_training(config: RunConfig, folder: Path, digits_file: Path, **options) -> multiprocessing.Process:
    """Train a run (options of `run_in`) in its own process, with a checkpoint after every epoch."""
    process = FORKSERVER.Process(target=_train_with_all_checkpoints, args=(config, folder, digits_file, options))
    process.start()
    return process


def _train_with_all_checkpoints(config: RunConfig, folder: Path, digits_file: Path, options: dict) -> None:
    torch.set_num_threads(1)  # as in conftest.py
    loop.CHECKPOINT_SHARE = float("inf")
    train_run(run_in(folder, config, **options), dataset_path=digits_file)


def read_checkpoint(path: Path) -> tuple[dict, dict]:
    """Return the identity and the state of a checkpoint."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    return json.loads(metadata["identity"]), json.loads(metadata["state"])


def without_times(result: dict) -> dict:
    """Return a result without its times, which differ between two trainings."""
    history = {key: value for key, value in result["training_history"].items() if key != "time"}
    timed = ("wall_time_s", "finished_at", "training_history")
    rest = {key: value for key, value in result.items() if key not in timed}
    return rest | {"training_history": history}


def assert_same_tensors(one: Path, other: Path) -> None:
    """Check that two safetensors files contain the same names and bits."""
    mine, theirs = load_file(one), load_file(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert torch.equal(mine[name], theirs[name]), name


TRAIN = """
import json, sys
from pathlib import Path
import afmp.training.loop
from afmp.study.run_config import RunConfig
from afmp.training.run import Run
from afmp.training.run_training import train_run
config, semantics, seed, share, root, dataset = *map(json.loads, sys.argv[1:5]), *map(Path, sys.argv[5:])
afmp.training.loop.CHECKPOINT_SHARE = share
for name in semantics:
    folder = root / name
    run = Run("tiny", name, RunConfig.from_dict(config), {seed: folder / f"seed_{seed}"}, folder / "checkpoints")
    train_run(run, dataset_path=dataset)
"""


def start_training(
    config: RunConfig, folder: Path, digits_file: Path, *, semantics, seed=0, share=0.05, threads=1
) -> subprocess.Popen:
    """Train one seed in its own process, under one semantics after the other, into folder/<semantics>.

    share: the CHECKPOINT_SHARE; threads: the number of CPU threads.
    """
    options = map(json.dumps, (config.to_dict(), semantics, seed, share))
    # Passive: threads that wait for each other on a busy machine would otherwise spin.
    environment = {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", TRAIN, *options, folder, digits_file]
    return subprocess.Popen(command, env=os.environ | environment)
