"""What a file of a finished study says against its path, its study, its result or itself, as parts of sentences."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from afmp.errors import AfmpError
from afmp.model.scaffold import scaffold_hash
from afmp.model.weights import load_weights
from afmp.study.study import RunConfig, Study

VALIDATION_SETS = {"paper": "train_holdout", "notebook": "test"}


def of_record(content: dict, path: str, study: Study) -> Iterator[str]:
    """What a valid record says against its path, its study or itself."""
    folder, *place = path.split("/")
    if folder == "train":
        semantics, run, seed, file = place
        about = {"run": run, "semantics": semantics, "seed": int(seed.removeprefix("seed_"))}
        yield from _different(content, about, "its path says")
        config = study.runs[run]
        yield from _of_diagnostics(content, config) if file == "diagnostics.json" else _of_result(content, config)
    elif folder == "benchmark_scalability":
        yield from _different(content, {"semantics": place[0]}, "its path says")
        protocol = {key: study.scalability[key] for key in ("warmup", "repeats", "seconds", "num_classes")}
        yield from _different(content["protocol"], protocol, "the study says")
        sizes, asked = {point["resolution"] for point in content["points"]}, set(study.scalability["resolutions"])
        if sizes - asked or (asked - sizes and not content["protocol"]["skipped"]):
            yield f"has resolutions {sorted(sizes)}, the study says {sorted(asked)}"
    else:
        yield from _different(content, {"num_classes": study.scalability["num_classes"]}, "the study says")


def _different(content: dict, expected: dict, source: str) -> Iterator[str]:
    for key, value in expected.items():
        if content.get(key) != value:
            yield f"{key} is {content.get(key)!r}, {source} {value!r}"


def _of_result(result: dict, config: RunConfig) -> Iterator[str]:
    for section, values in config.to_dict().items():
        found = result["config"][section]
        expected = values | dict.fromkeys(found.keys() - values.keys())  # a key that the study lacks is one too many
        yield from (f"config/{section}/{one}" for one in _different(found, expected, "the study says"))
    history = result["training_history"]
    for key, values in history.items():
        if len(values) != config.training.epochs:
            yield f"training_history/{key} has {len(values)} epochs, the study says {config.training.epochs}"
    best = max(history["val_acc"])
    of_history = {"best_val_accuracy": best, "best_epoch": history["val_acc"].index(best) + 1}
    yield from _different(result, of_history, "its history says")
    yield from _different(result, {"validation_set": VALIDATION_SETS[result["semantics"]]}, "its semantics says")


def _of_diagnostics(gates: dict, config: RunConfig) -> Iterator[str]:
    found, expected = sorted(map(int, gates["epochs"])), config.training.visualized_epochs
    if found != expected:
        yield f"has epochs {found}, the study says {expected}"


def of_weights(path: Path, model: torch.nn.Module, about: dict, result: dict) -> Iterator[str]:
    """What weights, read into `model`, say against what they should be `about` and against their result."""
    try:
        load_weights(model, path)
    except AfmpError as error:
        yield str(error).removeprefix(f"{path}: ")
        return
    with safe_open(path, framework="pt") as file:
        yield from _different(json.loads(file.metadata().get("about", "{}")), about, "it should be")
    found = {
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "scaffold_hash": scaffold_hash(model.static_positions, model.edge_index),
    }
    yield from _different(found, {key: result[key] for key in found}, "its result says")
