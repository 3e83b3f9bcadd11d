"""Checkpoints: one safetensors file a (run, seed), replaced whole as a run goes on, tied to what it belongs to.

A checkpoint is never a declared output of the workflow, which would delete it on failure. It stays when a run is
finished, so a job that is started again for a new seed writes its finished seeds out without training them again.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from afmp.errors import AfmpError
from afmp.records import atomic_path


def identity_key(identity: dict) -> str:
    """Short content hash of what decides the numbers of a run; part of the checkpoint's file name."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def save_checkpoint(path: Path, *, tensors: dict[str, torch.Tensor], state: dict, identity: dict) -> None:
    """Write tensors and plain JSON state atomically, with the identity they belong to."""
    metadata = {"identity": json.dumps(identity, sort_keys=True), "state": json.dumps(state)}
    save_weights(path, tensors, metadata=metadata)


def load_checkpoint(path: Path, *, identity: dict) -> tuple[dict[str, torch.Tensor], dict] | None:
    """Tensors (on the CPU) and state of a checkpoint; None where there is none.

    Raises AfmpError if the file is damaged or belongs to another configuration, seed, dataset or version of the code.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = json.loads(metadata["identity"])
            state = json.loads(metadata["state"])
        tensors = load_file(path)
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise AfmpError(
            f"{path}: damaged checkpoint ({error}); delete it and the run starts from its first epoch."
        ) from None
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


def remove_leftovers(path: Path) -> None:
    """Remove what a process killed while it wrote this checkpoint left behind."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        part.unlink(missing_ok=True)


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
    # A copy: safetensors refuses tensors that share memory, and a CPU tensor must not change while it is written.
    content = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}
    with atomic_path(path) as temporary:
        save_file(content, temporary, metadata=metadata)
