"""Loading of trained weights. No code in a file is executed, and weights that do not fit are refused."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from afmp.errors import AfmpError
from afmp.model.afmp import AFMP

SUFFIXES = (".safetensors", ".pth", ".pt")


def load_weights(model: AFMP, path: Path | str) -> None:
    """Load weights into `model`: a .safetensors of a training, or a state dict (.pth, .pt) of the original notebook.

    The graph in the file replaces the model's. A .pth is read by torch.load(weights_only=True), which builds only
    tensors and plain containers. Raises AfmpError for a file that is missing, damaged or contains anything except
    tensors, for weights of another architecture or semantics, and for a number that is not finite. The model then stays
    as it was.
    """
    path = Path(path)
    if not path.is_file():
        raise AfmpError(f"{path}: no such file; give a file of weights ({', '.join(SUFFIXES)}).")
    if path.suffix not in SUFFIXES:
        raise AfmpError(f"{path}: a file of weights ends in {', '.join(SUFFIXES)}, not in {path.suffix!r}.")
    weights, semantics = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickle(path), None)
    if semantics not in (None, model.semantics):
        raise AfmpError(
            f"{path}: weights trained as {semantics!r}, but the model is {model.semantics!r}; build a model of the "
            "weights' semantics."
        )
    _check_fit(weights, model.state_dict(), path)
    try:
        model.load_state_dict(weights)
    except AfmpError as error:
        raise AfmpError(f"{path}: {error}") from None


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return weights, json.loads((file.metadata() or {}).get("about", "{}")).get("semantics")
    except (SafetensorError, OSError, ValueError, AttributeError) as error:
        raise AfmpError(f"{path}: damaged, or no safetensors file ({error}); get or train it again.") from None


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged file may raise any exception. A file with code in it raises UnpicklingError.
        reason = " ".join(str(error).split())[:200]
        raise AfmpError(
            f"{path}: refused: damaged, or it contains more than tensors ({reason}); save only the model's "
            "state_dict()."
        ) from None
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise AfmpError(
            f"{path}: contains {type(weights).__name__}, not a dict of tensors; save only the model's state_dict()."
        )
    return weights


def _check_fit(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], path: Path) -> None:
    if missing := expected.keys() - weights.keys():
        raise AfmpError(f"{path}: of another architecture: it lacks {_some(missing)}, which the model has.")
    if foreign := weights.keys() - expected.keys():
        raise AfmpError(f"{path}: of another architecture: it contains {_some(foreign)}, which the model lacks.")
    for name, tensor in weights.items():
        wanted = expected[name]
        # Another graph may have more or fewer edges; GraphModule checks them.
        if tensor.shape != wanted.shape and name not in ("static_positions", "edge_index", "edge_attr"):
            raise AfmpError(
                f"{path}: of another architecture: {name} has shape {tuple(tensor.shape)}, but {tuple(wanted.shape)} "
                "in the model; build it with the sizes the weights were trained with."
            )
        if tensor.is_floating_point() != wanted.is_floating_point():
            raise AfmpError(f"{path}: {name} contains {tensor.dtype}, but the model has {wanted.dtype} there.")
        if not tensor.isfinite().all():
            raise AfmpError(
                f"{path}: {name} contains NaN or infinite numbers: its training diverged, or the file is damaged."
            )


def _some(names: set) -> str:
    first = sorted(map(str, names))[0]
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
