"""One seed on one machine gives the same bits, in another process too."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import run_in, small_config, start_training

from afmp.records import read_result
from afmp.training.run_training import train_run

CONFIG = small_config("sparse_0.3_top_down", epochs=2, use_top_down=True)


@pytest.fixture(scope="module")
def digits_file(few_digits_file) -> Path:
    return few_digits_file


def train(folder: Path, digits_file: Path, *semantics: str, device: str = "cpu", threads: int = 1) -> Path:
    """Train seed 3 of a small run in its own process with so many threads, under one semantics after the other."""
    config = replace(CONFIG, training=replace(CONFIG.training, device=device))
    process = start_training(config, folder, digits_file, semantics=semantics, seed=3, threads=threads)
    assert process.wait() == 0
    return folder


def train_here(folder: Path, digits_file: Path, *semantics: str) -> Path:
    """The same in this process, with one thread, as conftest.py sets it."""
    for name in semantics:
        run = run_in(folder / name, CONFIG, semantics=name, seeds=[3])
        train_run(run, dataset_path=digits_file)
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
    """A function that returns the folder of one process's training, and trains only if that is not done yet.

    "here" is this process, and any other name one of its own.
    """

    @cache
    def folder(which: str, threads: int) -> Path:
        semantics, place = ("paper", "notebook", "refined"), tmp_path_factory.mktemp(which)
        if which == "here":
            return train_here(place, digits_file, *semantics)
        return train(place, digits_file, *(semantics if threads == 1 else ("paper",)), threads=threads)

    return folder


@pytest.mark.promise("same-bits-on-cpu")
@pytest.mark.parametrize(
    ("semantics", "threads"),
    [("paper", 1), ("notebook", 1), ("refined", 1), pytest.param("paper", 2, marks=pytest.mark.long)],
)
def test_one_seed_gives_the_same_files_in_another_process(trained, semantics, threads):
    one = "here" if threads == 1 else "one"
    assert_the_same_bits(*(trained(which, threads) / semantics / "seed_3" for which in (one, "other")))


@pytest.mark.promise("other-thread-count")
def test_another_number_of_threads_gives_the_same_to_rounding(trained):
    files = [trained("other", threads) / "paper/seed_3/results_tiny.json" for threads in (1, 2)]
    losses = [read_result(file)["training_history"]["train_loss"] for file in files]
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.promise("same-bits-on-gpu")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("semantics", ["paper", "notebook", "refined"])
def test_one_seed_gives_the_same_files_on_a_gpu(digits_file, tmp_path, semantics):
    folders = [train(tmp_path / name, digits_file, semantics, device="cuda") for name in ("one", "other")]
    assert_the_same_bits(*(folder / semantics / "seed_3" for folder in folders))
