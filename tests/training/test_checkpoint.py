"""A checkpoint that is gone, and one that cannot be read."""

import logging
import os
from pathlib import Path

import pytest
import torch

from afmp.errors import AfmpError
from afmp.training.checkpoint import load_checkpoint, save_checkpoint

IDENTITY = {"seed": 0}


@pytest.fixture
def saved(tmp_path) -> Path:
    """The checkpoint of epoch 2; that of epoch 1 is kept beside it."""
    path = tmp_path / "seed_0_key.safetensors"
    for epoch in (1, 2):
        save_checkpoint(path, tensors={"x": torch.tensor([epoch])}, state={"epoch": epoch}, identity=IDENTITY)
    return path


def before(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")


def test_neither_is_there(saved):
    saved.unlink()
    before(saved).unlink()
    assert load_checkpoint(saved, identity=IDENTITY) is None


@pytest.mark.promise("damaged-checkpoint")
@pytest.mark.parametrize("broken_link", [False, True])
def test_a_checkpoint_that_is_gone_is_replaced_by_the_one_before(saved, caplog, broken_link):
    saved.unlink()
    if broken_link:
        saved.symlink_to("nowhere")
    with caplog.at_level(logging.WARNING, "afmp"):
        tensors, state = load_checkpoint(saved, identity=IDENTITY)
    assert state == {"epoch": 1} and tensors["x"].tolist() == [1]
    assert caplog.messages == [f"{saved}: gone; the one before it is used, of epoch 1"]
    assert load_checkpoint(saved, identity=IDENTITY)[1] == {"epoch": 1} and not before(saved).exists()


def test_one_is_gone_and_the_other_damaged(saved):
    saved.unlink()
    before(saved).write_bytes(b"damaged")
    with pytest.raises(AfmpError, match=r"\.before: damaged checkpoint .*delete it"):
        load_checkpoint(saved, identity=IDENTITY)


def test_one_is_damaged_and_the_other_gone(saved):
    saved.write_bytes(b"damaged")
    before(saved).unlink()
    with pytest.raises(AfmpError, match=r"safetensors: damaged checkpoint .*delete it"):
        load_checkpoint(saved, identity=IDENTITY)


@pytest.mark.parametrize("kind", ["a folder", "a pipe"])
def test_what_is_no_checkpoint_is_called_what_it_is(saved, kind):
    saved.unlink()
    os.mkfifo(saved) if kind == "a pipe" else saved.mkdir()
    with pytest.raises(AfmpError) as raised:
        load_checkpoint(saved, identity=IDENTITY)
    assert str(raised.value).startswith(f"{saved}: ") and kind in str(raised.value)
    assert "damaged" not in str(raised.value) and before(saved).exists()
