"""Saving of a model of your own training, in the format that `afmp.load`, `afmp predict` and `afmp explain` read."""

import json
import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path

from safetensors.torch import save as safetensors_of

from afmp.errors import AfmpError
from afmp.model.afmp import AFMP
from afmp.model.description import ADVICE, described, model_keys
from afmp.model.sizes import build_model
from afmp.model.weights import GRAPH, checked
from afmp.records import atomic_path
from afmp.study.semantics import SEMANTICS


def save(
    model: AFMP, path: Path | str, *, class_names: Sequence[str], mean: Sequence[float], std: Sequence[float]
) -> None:
    """Write a model to a .safetensors that says how it is built, atomically. `afmp.load(path)` returns the same model.

    - class_names: in the order of the logits
    - mean, std: of each channel, red, green, blue, on the scale 0 ... 1, by which the training normalised its images

    The weights are stored in their own type. Raises AfmpError for a model that such a file cannot describe (no AFMP, a
    replaced part, images that are not square or have not three channels), for weights that are not finite, for other
    numbers of class names, means or standard deviations, for two classes of one name, and for a file that cannot be
    written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise AfmpError(f"{path}: afmp.save writes safetensors; give a name that ends in .safetensors.")
    about = _about(model, class_names, mean, std)
    state = model.state_dict()
    try:
        config = described(about, path)
    except AfmpError as error:
        raise AfmpError(f"{str(error).removesuffix(f'{ADVICE}.')}save its state_dict() instead.") from None
    # Of the configuration that a reader will find, so that what is written can also be read.
    expected = build_model(config, semantics=model.semantics, num_classes=model.num_classes).state_dict()
    for name in sorted({*state, *expected} - set(GRAPH)):
        found, wanted = (tuple(each[name].shape) if name in each else "no tensor" for each in (state, expected))
        if found != wanted:
            raise AfmpError(
                f"{path}: a part of the model was replaced, which the file cannot describe: {name} is {found}, but "
                f"{wanted} in a model of these sizes; save its state_dict() instead."
            )
    # Copies, because safetensors refuses tensors that share memory.
    weights = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    for name, tensor in weights.items():
        checked(tensor, expected[name], f"{path}: {name}")
    content = safetensors_of(weights, {"about": json.dumps(about)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _about(model: AFMP, class_names: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> dict:
    """Return the metadata of a model. Raises AfmpError for what they cannot say."""
    if not isinstance(model, AFMP) or model.is_stack:
        raise AfmpError(
            f"model is {type(model).__name__}: afmp.save takes one AFMP; of a wrapper give the model inside it, "
            "such as model.module or model._orig_mod."
        )
    if model.static_positions.is_meta:
        raise AfmpError("model is on the meta device, which holds no values; there is nothing to save.")
    rows, columns = model.grid_shape
    if rows != columns or model.in_chans != 3 or model.global_pool != "avg":
        size = f"{rows * model.patch_size} x {columns * model.patch_size}"
        raise AfmpError(
            f"model has images of {size} px, {model.in_chans} channels and global_pool {model.global_pool!r}: "
            "afmp.save describes square images of 3 channels and global_pool 'avg'; save the state_dict() of others."
        )
    names = class_names if isinstance(class_names, str) else list(class_names)
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise AfmpError(f"class_names is {str(names)[:80]!r}: allowed is a list with one text for each class.")
    if len(names) != model.num_classes or not names:
        raise AfmpError(
            f"class_names has {len(names)} names for the {model.num_classes} classes of the model: give one text each."
        )
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise AfmpError(f"class_names has {twice[0]!r} twice: give each class a name of its own.")
    budget = {"batch_size": model.batch_size} if SEMANTICS[model.semantics].depends_on_batch else {}
    return budget | {
        "semantics": model.semantics,
        "model": model_keys(model),
        "image_size": rows * model.patch_size,
        "class_names": names,
        "mean": _channels("mean", mean),
        "std": _channels("std", std),
    }


def _channels(name: str, values: Sequence[float]) -> list[float]:
    """Return three numbers as floats: they may be of NumPy or a tensor. Raises AfmpError for others."""
    numbers = values.tolist() if hasattr(values, "tolist") else values
    lowest = "above 0" if name == "std" else "from 0"
    if not isinstance(numbers, (list, tuple)) or len(numbers) != 3 or not all(isinstance(n, Real) for n in numbers):
        raise AfmpError(f"{name} is {str(values)[:80]}: allowed are three numbers {lowest} to 1, one of each channel.")
    numbers = [float(number) for number in numbers]
    if not all(math.isfinite(n) and 0 <= n <= 1 for n in numbers) or (name == "std" and 0 in numbers):
        raise AfmpError(
            f"{name} is {numbers}: allowed are three numbers {lowest} to 1, for pixels that are scaled to 0 ... 1."
        )
    return numbers
