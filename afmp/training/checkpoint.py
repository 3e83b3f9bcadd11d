"""Checkpoints: the files from which an interrupted run resumes, one safetensors file per run and seed.

`identity.checkpoint_path` gives a checkpoint its name, and the file records the identity of its training. It is not an
output of the workflow, which would delete it when a job fails. It stays after the run has finished, so a job that is
started again for a new seed does not train finished seeds again. Files can be damaged on disk, so each file has a
checksum of its content, and the previous checkpoint is kept as <name>.before.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from afmp.errors import AfmpError
from afmp.files import MissingFileError
from afmp.records import atomic_path
from afmp.study.paths import previous_checkpoint_name, seed_checkpoint_file
from afmp.tensors import DamagedFileError, json_entry, read_header, read_tensors

log = logging.getLogger("afmp")

ADVICE = "delete it and the run starts from its first epoch"

# Called with path, identity and state of each checkpoint that was saved: for what follows a training and does not
# change it. Runs that train side by side call it from their own threads.
AFTER_SAVING: list[Callable[[Path, dict, dict], None]] = []


def save_checkpoint(path: Path, *, tensors: dict[str, torch.Tensor], state: dict, identity: dict) -> None:
    """Write tensors, plain JSON state and identity atomically, and keep the previous checkpoint as <name>.before.

    Raises AfmpError as `atomic_path` does.
    """
    content = _cpu_copies(tensors)
    metadata = {"identity": json.dumps(identity, sort_keys=True), "state": json.dumps(state)}
    metadata["checksum"] = _checksum(content, metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(content, metadata))
        if path.exists():
            shutil.copyfile(path, _previous(path))
    for call in AFTER_SAVING:
        call(path, identity, state)


def load_checkpoint(path: Path, *, identity: dict) -> tuple[dict[str, torch.Tensor], dict] | None:
    """Return the tensors, on the CPU, and the state of a checkpoint; None if neither it nor the previous one exists.

    A checkpoint that is damaged or gone is replaced by the previous one, and the log says so. Raises AfmpError if both
    are damaged, if one cannot be read for another reason, or if it belongs to another configuration, seed, dataset or
    version of the code.
    """
    try:
        tensors, state, saved_identity = _read(path)
    except (MissingFileError, DamagedFileError) as fault:
        gone = isinstance(fault, MissingFileError)
        try:
            tensors, state, saved_identity = _read(_previous(path))
        except MissingFileError:
            if gone:
                return None
            raise fault from None
        except DamagedFileError as damaged:
            raise (damaged if gone else fault) from None
        what = "gone" if gone else "damaged"
        log.warning("%s: %s; the one before it is used, of epoch %s", path, what, state.get("epoch"))
        os.replace(_previous(path), path)
    if saved_identity != identity:
        raise AfmpError(
            f"{path}: this checkpoint belongs to another run: {_differences(saved_identity, identity)}. "
            "Restore that setting, or delete the file to start from the first epoch."
        )
    return tensors, state


def other_checkpoints(path: Path, *, seed: int, identity: dict) -> list[tuple[Path, str]]:
    """Return the other checkpoints in the folder of `path` of the same seed, each with its difference to `identity`."""
    others = []
    for other in sorted(path.parent.glob(seed_checkpoint_file(seed, "*"))):
        if other == path:
            continue
        try:
            saved = json_entry(read_header(other, advice=ADVICE), "identity", path=other, advice=ADVICE)
            difference = _differences(saved, identity)
        except AfmpError:
            difference = "damaged, or not to be read"
        others.append((other, difference))
    return others


def _differences(saved: dict, expected: dict, prefix: str = "") -> str:
    parts = []
    for key in sorted(saved.keys() | expected.keys()):
        old, new = saved.get(key), expected.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if inner := _differences(old, new, f"{prefix}{key}/"):
                parts.append(inner)
        elif old != new:
            parts.append(f"{prefix}{key} is {old!r} there, {new!r} here")
    return ", ".join(parts)


def save_weights(path: Path, weights: dict[str, torch.Tensor], *, metadata: dict[str, str]) -> str:
    """Write a state dict as safetensors, atomically, and return the sha256 of the file."""
    content = save(_cpu_copies(weights), metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _cpu_copies(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # Copies, because safetensors refuses tensors that share memory, and a tensor must not change while it is written.
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _previous(path: Path) -> Path:
    return path.with_name(previous_checkpoint_name(path.name))


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict, dict]:
    """Return tensors, state and identity of one file. Raises as `read_header`."""
    header, tensors = read_header(path, advice=ADVICE), read_tensors(path, advice=ADVICE)
    state, identity = (json_entry(header, key, path=path, advice=ADVICE) for key in ("state", "identity"))
    try:
        intact = _checksum(tensors, header.metadata) == header.metadata.get("checksum")
    except TypeError:  # numbers of a type that no checkpoint has
        intact = False
    if not intact:
        raise DamagedFileError(f"{path}: damaged checkpoint (its content does not match its checksum); {ADVICE}.")
    return tensors, state, identity


def _checksum(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """Return the sha256 of the other metadata and of each tensor's name, type, shape and bytes, in a fixed order."""
    covered = {key: value for key, value in metadata.items() if key != "checksum"}
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
