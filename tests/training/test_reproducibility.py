"""One seed on one machine: the same bits, also in another process."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import PROJECT

from afmp.records import read_result
from afmp.study.study import resolve_study

TRAIN = """
import json, sys
from pathlib import Path
from afmp.study.study import RunConfig
from afmp.training.loop import train_run
config, semantics, dataset, folder = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
train_run(RunConfig.from_dict(config), run="tiny", semantics=semantics, seeds=[3], dataset_path=dataset,
          seed_folders={3: folder}, checkpoint_folder=folder / "checkpoints")
"""


def train(folder: Path, digits_file: Path, *, semantics: str, device: str = "cpu", threads: int = 1) -> Path:
    """Train the seed 3 of a small run in a process of its own, with so many threads; the folder of its files."""
    study = yaml.safe_load((PROJECT / "config.yaml").read_text())
    study["dataset"]["source"] = "digits"
    study["model"] |= {"num_layers": 2, "d_model": 16, "use_top_down": True}
    study["training"] |= {"epochs": 2, "batch_size": 64, "learning_rate": 0.005, "visualize_every": 2, "device": device}
    config = resolve_study(study).runs["sparse_0.3_top_down"]
    command = [sys.executable, "-c", TRAIN, json.dumps(config.to_dict()), semantics, digits_file, folder]
    # Passive: threads that wait for each other on a busy machine would otherwise spin.
    environment = {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def assert_the_same_bits(one: Path, other: Path) -> None:
    for name in ("best.safetensors", "final.safetensors", "diagnostics.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    mine, theirs = (read_result(folder / "results_tiny.json") for folder in (one, other))
    for result in (mine, theirs):
        for key in ("wall_time_s", "finished_at", "peak_memory_mb"):
            del result[key]
        del result["training_history"]["time"]
    assert mine == theirs


@pytest.fixture(scope="module")
def trained(digits_file, tmp_path_factory):
    """The folder of a run, trained when first asked for."""

    @cache
    def folder(semantics: str, threads: int, which: str) -> Path:
        return train(tmp_path_factory.mktemp(which), digits_file, semantics=semantics, threads=threads)

    return folder


@pytest.mark.parametrize(("semantics", "threads"), [("paper", 1), ("notebook", 1), ("paper", 2)])
def test_one_seed_gives_the_same_files_in_another_process(trained, semantics, threads):
    assert_the_same_bits(*(trained(semantics, threads, which) for which in ("one", "other")))


def test_another_number_of_threads_gives_the_same_to_rounding(trained):
    one, other = (read_result(trained("paper", threads, "one") / "results_tiny.json") for threads in (1, 2))
    losses = [result["training_history"]["train_loss"] for result in (one, other)]
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("semantics", ["paper", "notebook"])
def test_one_seed_gives_the_same_files_on_a_gpu(digits_file, tmp_path, semantics):
    folders = (train(tmp_path / name, digits_file, semantics=semantics, device="cuda") for name in ("one", "other"))
    assert_the_same_bits(*folders)
