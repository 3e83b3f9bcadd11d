"""Loading of trained weights. No code in a file is executed, and weights that do not fit are refused."""

import math
import os
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch

from afmp.errors import AfmpError, check_whole_number, one_line
from afmp.files import MissingFileError, open_plain
from afmp.model.afmp import AFMP
from afmp.model.description import ADVICE, builder_call, described, refuse_larger
from afmp.model.rival import Rival
from afmp.model.sizes import build_model
from afmp.model.trained import About, about_of, release_path
from afmp.study.semantics import SEMANTICS
from afmp.tensors import DamagedFileError, json_entry, read_header, read_tensors

SUFFIXES = (".safetensors", ".pth", ".pt")
# Parts of a name that DataParallel and its relatives, torch.compile, FSDP and checkpointed activations add.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int32, torch.int64)
GRAPH = ("static_positions", "edge_index", "edge_attr")  # buffers that may have another size than the model's
SAID = {"semantics", "image_size", "class_names", "mean", "std"}  # the metadata without which there is no `About`
MAX_FOREIGN_GRAPH = 1 << 24  # numbers in one of them, if it is read but not used: images of over 20,000 px


def load_weights(model: AFMP | Rival, path: Path | str, *, graph: bool = True, head: bool = True) -> About | None:
    """Load weights into `model`: a .safetensors of a training, or a state dict (.pth, .pt) of the original notebook.

    path: a file, or the name of a release that the package contains.

    Returns the `About` of the file, whose mean and standard deviation a fine-tuning needs. Returns None if the file
    does not say them, as a state dict.

    The graph in the file replaces the model's. With graph=False the model keeps its own, so that weights trained at one
    image size run at another of the same patch size: no parameter depends on the size. With head=False the model keeps
    its classifier, so that weights trained with other classes start a training with its own.

    A .pth is read by torch.load(weights_only=True), which builds only
    tensors and plain containers. Names may have the prefixes of PyTorch's wrappers. Weights are dense, of fp16, bf16,
    fp32 or fp64, and become the type of the model's. Raises AfmpError for a file that is missing, damaged or contains
    anything except such tensors, for weights of another architecture or semantics, for a number that is not finite,
    and for a model on the meta device. The model then stays as it was.
    """
    path = release_path(path) or Path(path)
    if path.suffix not in SUFFIXES:
        raise AfmpError(f"{path}: a file of weights ends in {', '.join(SUFFIXES)}, not in {path.suffix!r}.")
    expected = model.state_dict()
    if any(tensor.is_meta for tensor in expected.values()):
        raise AfmpError(
            "the model is on the meta device, which holds no values; give it memory first: model.to_empty(device='cpu')"
        )
    classifier = _classifier_prefixes(model)
    own, about = () if head else classifier, {}
    checks = {"graph": graph, "classifier": classifier}
    try:
        if path.suffix == ".safetensors":
            about = read_about(path)
            checks["builder"] = partial(builder_call, about)
            weights = _read_safetensors(path, model, expected, about=about, own=own, **checks)
        else:
            weights = _read_pickle(path)
    except MissingFileError as missing:
        raise AfmpError(f"{str(missing).rstrip('.')}; give a file of weights ({', '.join(SUFFIXES)}).") from None
    said = about_of(about, path) if about.keys() >= SAID else None
    weights = _with_own(_unwrapped(weights, path), expected, own)
    check_shapes({name: tensor.shape for name, tensor in weights.items()}, expected, path, **checks)
    if not graph:
        weights |= {name: expected[name] for name in GRAPH if name in expected}
    weights = {name: checked(tensor, expected[name], f"{path}: {name}") for name, tensor in weights.items()}
    try:
        model.load_state_dict(weights)
    except AfmpError as error:
        raise AfmpError(f"{path}: {error}") from None
    return said


def read_about(path: Path | str) -> dict:
    """Return what a .safetensors of a training says of its weights, {} if it says nothing.

    It has run, semantics, seed and epoch, and what `afmp.training.seed_files.about_weights` adds.

    Raises AfmpError for a file that is missing or damaged, and for metadata that is no JSON object.
    """
    try:
        header = read_header(path, advice=ADVICE)
    except DamagedFileError:
        if _is_pickle(path):
            raise AfmpError(
                f"{path}: a PyTorch file, which does not say how its model is built; load it into a model by "
                "load_state_dict, and save that model by afmp.save."
            ) from None
        raise
    return json_entry(header, "about", path=path, advice=ADVICE) if "about" in header.metadata else {}


def _is_pickle(path: Path | str) -> bool:
    """Return True for the first bytes of torch.save: a zip, or before PyTorch 1.6 a pickle."""
    with open_plain(path) as file:
        start = file.read(4)
    return start == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def build_from_weights(path: Path | str, *, batch_size: int | None = None) -> AFMP | Rival:
    """Build the model that a .safetensors of a training or of a release describes, and load its weights.

    The model is on the CPU, in float32 whatever type is stored, and in evaluation mode. `read_about` has the names of
    its classes in the order of its logits, and the mean and standard deviation by which images are normalised.

    batch_size: of the training, for weights of `notebook`, whose answers depend on it. It takes the place of the one in
    the file, which older files lack.

    Raises AfmpError as `load_weights` does, for a file that does not describe its model, and for weights of `notebook`
    without any batch size.
    """
    if batch_size is not None:
        check_whole_number("batch_size", batch_size)
    path, about = Path(path), read_about(path)
    if not about:
        raise AfmpError(
            f"{path}: it does not say how its model is built; load it into a model by afmp.load_weights, and save that "
            "model by afmp.save."
        )
    config = described(about, path, batch_size=batch_size)
    semantics, num_classes = about["semantics"], len(about["class_names"])
    if SEMANTICS[semantics].depends_on_batch and batch_size is None and "batch_size" not in about:
        raise AfmpError(
            f"{path}: weights trained as {semantics!r}, whose answers depend on the training's batch size, which the "
            "file does not say, but the result of a run does; give `afmp.load` batch_size, or `afmp predict` or "
            "`afmp explain` --batch-size."
        )
    try:
        refuse_larger(config, num_classes, path)
        model = build_model(config, semantics=semantics, num_classes=num_classes)
    except AfmpError as error:
        raise AfmpError(f"{path}: its metadata describes no model: {error}") from None
    load_weights(model, path)
    return model.eval()


def _read_safetensors(
    path: Path,
    model: AFMP | Rival,
    expected: dict[str, torch.Tensor],
    *,
    about: dict,
    own: tuple[str, ...],
    **checks,
) -> dict[str, torch.Tensor]:
    semantics = about.get("semantics", model.semantics)
    if semantics != model.semantics:
        call = builder_call(about)
        raise AfmpError(
            f"{path}: weights trained as {str(semantics)[:80]!r}, but the model is {model.semantics!r}; build a model "
            f"of the weights' semantics{f': {call}' if call else ''}."
        )
    # Before any tensor is read: a sparse file can hold one that is larger than the memory.
    shapes = _unwrapped(read_header(path, advice=ADVICE).shapes, path)
    known = {name: tensor.shape for name, tensor in expected.items()}
    check_shapes(_with_own(shapes, known, own), expected, path, **checks)
    return read_tensors(path, advice=ADVICE)


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    with open_plain(path) as file:
        _refuse_packed(file, path)
        try:
            weights = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            # A damaged file may raise any exception. A file with code in it raises UnpicklingError, whose text is a
            # page about how to run that code.
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            reason = f"it names {named[1]}" if named else one_line(error)[:200]
            raise AfmpError(
                f"{path}: refused: damaged, or it contains more than tensors ({reason}); save only the model's "
                "state_dict()."
            ) from None
    if not isinstance(weights, dict):
        raise AfmpError(
            f"{path}: contains {type(weights).__name__}, not a dict of tensors; save only the model's state_dict()."
        )
    for name, tensor in weights.items():
        # A nested tensor has no shape.
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or tensor.is_nested:
            kind = "nested tensor" if getattr(tensor, "is_nested", False) else type(tensor).__name__
            raise AfmpError(
                f"{path}: its entry {str(name)[:80]!r} is a {kind}, not a dense tensor with a name; save only the "
                "model's state_dict()."
            )
    return weights


def _refuse_packed(file: BinaryIO, path: Path) -> None:
    """Raise AfmpError for a zip whose members are larger than the file: torch.save does not compress."""
    num_bytes = file.seek(0, os.SEEK_END)
    try:
        with zipfile.ZipFile(file) as members:
            unpacked = sum(member.file_size for member in members.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        unpacked = 0  # the older format of torch.save, or damaged
    file.seek(0)
    if unpacked > num_bytes:
        raise AfmpError(
            f"{path}: refused: it would unpack to {unpacked:,} bytes, but a file of torch.save is not compressed; save "
            "only the model's state_dict()."
        )


def _unwrapped(entries: dict, path: Path) -> dict:
    """Return entries by their names without the prefixes of PyTorch's wrappers, wherever in a name they are."""
    plain = {}
    for name, entry in entries.items():
        bare = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if bare in plain:
            raise AfmpError(f"{path}: contains {bare} twice, with different prefixes; save the weights of one model.")
        plain[bare] = entry
    return plain


def _classifier_prefixes(model: AFMP | Rival) -> tuple[str, ...]:
    """Return how the names of the classifier's tensors start. A model of timm may have several classifiers."""
    found = (model.network if isinstance(model, Rival) else model).get_classifier()
    classifiers = found if isinstance(found, (tuple, list)) else [found]
    return tuple(f"{name}." for name, module in model.named_modules() if any(module is each for each in classifiers))


def _with_own(entries: dict, expected: dict, own: tuple[str, ...]) -> dict:
    """Return entries with those of the model, `expected`, in place of all whose names start with one of `own`."""
    if not own:
        return entries
    kept = {name: entry for name, entry in entries.items() if not name.startswith(own)}
    return kept | {name: entry for name, entry in expected.items() if name.startswith(own)}


def check_shapes(
    shapes: dict[str, tuple],
    expected: dict[str, torch.Tensor],
    path: Path | str,
    *,
    graph: bool,
    classifier: tuple[str, ...],
    builder: Callable[[], str | None] = lambda: None,
) -> None:
    """Raise AfmpError, which says what to do, unless tensors of these shapes fit a model with the state `expected`.

    classifier: how the names of the classifier's tensors start. builder: returns the call that builds the file's model.
    """

    def built() -> str:
        return f"; the file's model is {call}" if (call := builder()) else ""

    if missing := expected.keys() - shapes.keys():
        raise AfmpError(f"{path}: of another architecture: it lacks {_some(missing)}, which the model has{built()}.")
    if foreign := shapes.keys() - expected.keys():
        raise AfmpError(
            f"{path}: of another architecture: it contains {_some(foreign)}, which the model lacks{built()}."
        )
    num_patches = len(expected.get("static_positions", ()))  # a rival has no graph
    largest_graph = 2 * max(num_patches, 2) ** 2 if graph else MAX_FOREIGN_GRAPH
    positions = shapes.get("static_positions")
    other_image = graph and positions is not None and tuple(positions) != (num_patches, 2)
    remedies, found = {}, []
    for name, shape in shapes.items():
        wanted = tuple(expected[name].shape)
        if tuple(shape) == wanted:
            continue
        difference = f"{name} has shape {tuple(shape)}, but {wanted} in the model"
        if name == "static_positions" and other_image:
            remedies["another image size"] = "graph=False"
        elif name in GRAPH and (other_image or math.prod(shape) <= largest_graph):
            continue  # another graph may have more or fewer edges; GraphModule checks them
        elif name.startswith(classifier) and len(shape) == len(wanted) and tuple(shape[1:]) == wanted[1:]:
            remedies["other classes"] = "head=False"
        else:
            advice = built() or "; build it with the sizes the weights were trained with"
            raise AfmpError(f"{path}: of another architecture: {difference}{advice}.")
        found.append(difference)
    if remedies:
        kept = {"other classes": "classifier", "another image size": "graph"}
        raise AfmpError(
            f"{path}: of {' and '.join(remedies)}: {found[0]}; give {' and '.join(remedies.values())} to "
            f"keep the model's own {' and '.join(kept[each] for each in remedies)}, or build the model as the file's"
            f"{f', {call}' if (call := builder()) else ''}."
        )


def checked(tensor: torch.Tensor, wanted: torch.Tensor, what: str) -> torch.Tensor:
    """Return a tensor of the wanted type. Raises AfmpError if its numbers are not all there, exact and finite."""
    allowed = FLOATS if wanted.is_floating_point() else INTEGERS
    kind = str(tensor.layout if tensor.layout != torch.strided else tensor.dtype)
    stored = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not stored or tensor.dtype not in allowed or tensor.is_quantized:
        place = "" if tensor.device.type == "cpu" else f" on the device {tensor.device}"
        raise AfmpError(
            f"{what} contains {kind}{place}, but the model has {wanted.dtype} there; allowed are dense tensors of "
            f"{', '.join(str(dtype).removeprefix('torch.') for dtype in allowed)}."
        )
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise AfmpError(f"{what} repeats few stored numbers many times; save a dense tensor, as by .contiguous().")
    converted = tensor.to(wanted.dtype)
    if not converted.isfinite().all():
        raise AfmpError(
            f"{what} contains NaN or infinite numbers, or some too large for {wanted.dtype}: its training diverged, or "
            "the file is damaged."
        )
    return converted


def _some(names: set) -> str:
    first = sorted(map(str, names))[0]
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
