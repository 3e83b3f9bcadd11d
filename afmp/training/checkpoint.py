"""Checkpoints: one safetensors file a (run, seed), replaced whole as a run goes on, tied to what it belongs to.

A checkpoint is never a declared output of the workflow, which would delete it on failure. It stays when a run is
finished, so a job that is started again for a new seed writes its finished seeds out without training them again.
Disks lose bits: each carries a checksum of its content, and the one before it lies beside it, as <name>.before.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from afmp.errors import AfmpError
from afmp.records import atomic_path

log = logging.getLogger("afmp")


def save_checkpoint(path: Path, *, tensors: dict[str, torch.Tensor], state: dict, identity: dict) -> None:
    """Write tensors and plain JSON state atomically, with the identity they belong to; what stood there is kept beside.

    Raises AfmpError as `atomic_path` does.
    """
    content = _on_the_cpu(tensors)
    metadata = {"identity": json.dumps(identity, sort_keys=True), "state": json.dumps(state)}
    metadata["checksum"] = _checksum(content, metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(content, metadata))
        if path.exists():
            shutil.copyfile(path, _before(path))


def load_checkpoint(path: Path, *, identity: dict) -> tuple[dict[str, torch.Tensor], dict] | None:
    """Tensors (on the CPU) and state of a checkpoint; None where there is none.

    A damaged one is replaced by the one before it, and the log says so. Raises AfmpError if that is no better, or if
    the checkpoint belongs to another configuration, seed, dataset or version of the code.
    """
    if not path.exists():
        return None
    try:
        tensors, state, found = _read(path)
    except AfmpError as damaged:
        try:
            tensors, state, found = _read(_before(path))
        except AfmpError:
            raise damaged from None
        log.warning("%s: damaged; the one before it is used, of epoch %s", path, state.get("epoch"))
        os.replace(_before(path), path)
    if found != identity:
        raise AfmpError(
            f"{path}: this checkpoint belongs to another run: {_differences(found, identity)}. "
            "Restore that setting, or delete the file to start from the first epoch."
        )
    return tensors, state


def other_checkpoints(path: Path, *, seed: int, identity: dict) -> list[tuple[Path, str]]:
    """Checkpoints of the same run and seed that are not `path`, each with what sets it apart from `identity`."""
    found = []
    for other in sorted(path.parent.glob(f"seed_{seed}_*.safetensors")):
        try:
            with safe_open(other, framework="pt") as file:
                found.append((other, _differences(json.loads(file.metadata()["identity"]), identity)))
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError, OSError):
            found.append((other, "damaged"))
    return [(other, why) for other, why in found if other != path]


def _differences(found: dict, expected: dict, prefix: str = "") -> str:
    parts = []
    for key in sorted(found.keys() | expected.keys()):
        old, new = found.get(key), expected.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if inner := _differences(old, new, f"{prefix}{key}/"):
                parts.append(inner)
        elif old != new:
            parts.append(f"{prefix}{key} is {old!r} there, {new!r} here")
    return ", ".join(parts)


def save_weights(path: Path, weights: dict[str, torch.Tensor], *, metadata: dict[str, str]) -> None:
    """Write a state dict as safetensors, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(_on_the_cpu(weights), metadata))


def _on_the_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # A copy: safetensors refuses tensors that share memory, and a CPU tensor must not change while it is written.
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _before(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict, dict]:
    """Tensors, state and identity of one file, whole or an AfmpError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        recorded = metadata.pop("checksum")
        if _checksum(tensors, metadata) != recorded:
            raise ValueError("its content does not match its checksum")
        return tensors, json.loads(metadata["state"]), json.loads(metadata["identity"])
    except (SafetensorError, KeyError, AttributeError, TypeError, ValueError, OSError) as error:
        raise AfmpError(
            f"{path}: damaged checkpoint ({error}); delete it and the run starts from its first epoch."
        ) from None


def _checksum(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """sha256 of the metadata and of each tensor's name, type, shape and bytes, in a fixed order."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
