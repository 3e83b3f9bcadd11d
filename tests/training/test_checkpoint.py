"""A checkpoint that is gone, and one that cannot be read."""

import logging
import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from afmp.errors import AfmpError
from afmp.training.checkpoint import _checksum, load_checkpoint, other_checkpoints, save_checkpoint

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
    with pytest.raises(AfmpError, match=r"\.before: damaged, or no safetensors file .*; delete it and the run starts"):
        load_checkpoint(saved, identity=IDENTITY)


def test_one_is_damaged_and_the_other_gone(saved):
    saved.write_bytes(b"damaged")
    before(saved).unlink()
    with pytest.raises(
        AfmpError, match=r"safetensors: damaged, or no safetensors file .*; delete it and the run starts"
    ):
        load_checkpoint(saved, identity=IDENTITY)


@pytest.mark.parametrize("kind", ["a folder", "a pipe"])
def test_what_is_no_checkpoint_is_called_what_it_is(saved, kind):
    saved.unlink()
    os.mkfifo(saved) if kind == "a pipe" else saved.mkdir()
    with pytest.raises(AfmpError) as raised:
        load_checkpoint(saved, identity=IDENTITY)
    assert str(raised.value).startswith(f"{saved}: ") and kind in str(raised.value)
    assert "damaged" not in str(raised.value) and before(saved).exists()


def forged(path: Path, *, state: str = "{}", identity: str = '{"seed": 0}', dtype: torch.dtype = torch.int64) -> None:
    """Write a checkpoint whose checksum is right, except for types of numbers that have none."""
    tensors, metadata = {"x": torch.zeros(3).to(dtype)}, {"state": state, "identity": identity}
    with suppress(TypeError):
        metadata["checksum"] = _checksum(tensors, metadata)
    save_file(tensors, path, metadata)


FORGERIES = {
    "state nested": lambda path: forged(path, state="[" * 100_000),
    "state no object": lambda path: forged(path, state="[]"),
    "identity nested": lambda path: forged(path, identity='{"a":' * 100_000),
    "identity no object": lambda path: forged(path, identity="7"),
    "numbers of 8 bits": lambda path: forged(path, dtype=torch.float8_e4m3fn),
    "no metadata": lambda path: save_file({"x": torch.zeros(3)}, path),
    "header of 90 MB": lambda path: path.write_bytes(struct.pack("<Q", 90_000_000) + b"[" * 90_000_000),
}


@pytest.mark.promise("damaged-checkpoint")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_checkpoint_is_damaged_like_any_other(saved, forgery):
    forgery(saved)
    assert load_checkpoint(saved, identity=IDENTITY)[1] == {"epoch": 1}
    before(saved).unlink(missing_ok=True)
    forgery(saved)
    with pytest.raises(AfmpError, match="; delete it and the run starts from its first epoch"):
        load_checkpoint(saved, identity=IDENTITY)


OTHERS = FORGERIES | {"pipe": os.mkfifo, "folder": Path.mkdir, "broken link": lambda path: path.symlink_to("nowhere")}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", OTHERS)
def test_whatever_lies_beside_a_checkpoint_is_listed_and_not_waited_for(saved, kind):
    other = saved.with_name("seed_0_other.safetensors")
    OTHERS[kind](other)
    assert [path for path, _ in other_checkpoints(saved, seed=0, identity=IDENTITY)] == [other]
