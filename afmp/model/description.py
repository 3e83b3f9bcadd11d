"""Descriptions of a model: from one that is built, from the metadata of its weights, and the call that builds it."""

import math
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import torch

from afmp.errors import AfmpError
from afmp.model import sizes
from afmp.model.afmp import AFMP, LAYERS
from afmp.model.rival import build_rival
from afmp.records import schema
from afmp.study.memory import num_parameters
from afmp.study.run_config import DatasetConfig, ModelConfig, RunConfig
from afmp.study.semantics import SEMANTICS
from afmp.tensors import read_header

ADVICE = "get or train it again"
NAMED_SIZES = (sizes.afmp_tiny, sizes.afmp_small, sizes.afmp_refined_tiny, sizes.afmp_refined_small)
# The keys of `model` that nothing reads where another key has this value.
UNREAD_IF = {
    "sparsity": ("is_sparse", False),
    "lambda_sparse": ("is_sparse", False),
    "window_size": ("scaffold", "delaunay"),
}


def model_keys(model: AFMP) -> dict:
    """Return every key of `model`, as in config.yaml, of a model that is built. Its graph decides the scaffold."""
    budget = model.budget
    scaffold, window_size = _scaffold_of(model)
    return ModelConfig(
        num_layers=len(model.layers),
        d_model=model.d_model,
        patch_size=model.patch_size,
        is_sparse=budget.is_sparse,
        sparsity=budget.sparsity,
        lambda_sparse=model.lambda_sparse,
        use_top_down=model.use_top_down,
        scaffold=scaffold,
        window_size=window_size,
        edges_per_node=budget.edges_per_node or 0,
        routing=budget.routing,
        messages=budget.messages,
        use_directions=model.use_directions,
        use_errors=model.use_errors,
    ).to_dict()


def _scaffold_of(model: AFMP) -> tuple[str, int]:
    """Return the scaffold and the window size that give a model's graph.

    A graph that neither gives counts as delaunay: a model that loads weights takes the graph in them.
    """
    if model.edge_index.is_meta or not model.edge_index.numel():  # no edges to look at
        return "delaunay", 8
    positions, edges = model.static_positions.detach().cpu().float(), model.edge_index.cpu()
    width = int((edges[0] - edges[1]).abs().max())
    for scaffold, window_size in (("delaunay", 8), ("window", width)):
        if torch.equal(
            edges, LAYERS[model.semantics].stored_edges(positions, scaffold=scaffold, window_size=window_size)
        ):
            return scaffold, window_size
    return "delaunay", 8


def builder_call(about: dict) -> str | None:
    """Return the call that builds the AFMP of a file from its metadata, such as `afmp.afmp_refined_tiny()`.

    None if the metadata describe no AFMP.
    """
    try:
        config = described(about, Path())
    except AfmpError:
        return None
    if config.model.is_rival:
        return None
    wanted = _arguments(config.model) | {"semantics": about["semantics"], "img_size": config.dataset.image_size}
    wanted |= {"num_classes": len(about["class_names"]), "batch_size": about.get("batch_size")}
    own = ("semantics", "num_layers", "d_model")
    for size in (*NAMED_SIZES, AFMP):
        with torch.device("meta"):  # takes no memory for weights
            model = size()
        usual = _arguments(ModelConfig.from_dict(model_keys(model))) | {
            "semantics": model.semantics,
            "img_size": model.grid_shape[0] * model.patch_size,
            "num_classes": model.num_classes,
            "batch_size": model.batch_size,
        }
        if size is AFMP or all(usual[key] == wanted[key] for key in own):
            others = (f"{key}={value!r}" for key, value in wanted.items() if value not in (None, usual[key]))
            return f"afmp.{size.__name__}({', '.join(others)})"
    raise AssertionError("unreachable: AFMP takes any arguments")


def _arguments(model: ModelConfig) -> dict:
    """Return the arguments of AFMP that the keys of `model` give. One that nothing reads is None."""
    values = sizes.arguments_of(model)
    return values | {key: None for key, (other, value) in UNREAD_IF.items() if values[other] == value}


def described(about: dict, path: Path, *, batch_size: int | None = None) -> RunConfig:
    """Return the configuration of a model from the metadata of its weights. Raises AfmpError if they lack it.

    batch_size: of the training, in place of the one that the metadata say.
    """
    config = schema("config")
    model = config["$defs"]["model_keys"] | {
        "type": "object",
        "additionalProperties": False,
        "if": {"required": ["architecture"]},  # of a rival
        "then": {"required": ["patch_size"]},
        "else": {"required": config["properties"]["model"]["required"]},
    }
    keys = {
        "model": model,
        "image_size": config["properties"]["dataset"]["properties"]["image_size"],
        "class_names": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "semantics": {"enum": list(SEMANTICS)},
    }
    optional = {"batch_size": config["$defs"]["training_keys"]["properties"]["batch_size"]}
    wanted = jsonschema.Draft202012Validator({"required": list(keys), "properties": keys | optional})
    if (error := jsonschema.exceptions.best_match(wanted.iter_errors(about))) is not None:
        key = "/".join(map(str, ["about", *error.absolute_path]))
        raise AfmpError(f"{path}: its metadata describes no model: {key}: {error.message[:200]}; {ADVICE}.")
    model = ModelConfig.from_dict(about["model"])
    # Of a training, `build_model` reads the batch size, which only `notebook` uses.
    training = SimpleNamespace(batch_size=batch_size or about.get("batch_size", 1))
    return RunConfig(DatasetConfig("", None, about["image_size"]), model, training)


def refuse_larger(config: RunConfig, num_classes: int, path: Path) -> None:
    """Raise AfmpError for a model with more numbers than its file: to build what metadata say could fill the memory."""
    model, stored = config.model, sum(map(math.prod, read_header(path, advice=ADVICE).shapes.values()))
    if model.is_rival:
        with torch.device("meta"):  # takes no memory
            rival = build_rival(config, num_classes=num_classes)
        needed = sum(parameter.numel() for parameter in rival.parameters())
    else:
        patches = (config.dataset.image_size // model.patch_size) ** 2
        # Half, because some variants of a model have fewer matrices than are counted.
        needed = num_parameters(config) // 2 + num_classes * model.d_model + patches
    if needed > stored:
        raise AfmpError(f"one of at least {needed:,} numbers, but the file has {stored:,}; {ADVICE}.")
