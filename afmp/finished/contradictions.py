"""Contradictions: where a valid file of a finished study disagrees with its path, its study, its result or itself.

Each one is the second half of a sentence that starts with the file's path.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from afmp.data.split import VALIDATION_SETS
from afmp.errors import AfmpError
from afmp.finished.study_records import StudyRecord
from afmp.model.scaffold import scaffold_hash
from afmp.model.weights import load_weights
from afmp.study.run_config import RunConfig, without_places
from afmp.study.semantics import SEMANTICS
from afmp.study.study import Study


def of_record(content: dict, record: StudyRecord, study: Study) -> Iterator[str]:
    """Yield the contradictions of a valid record."""
    yield from _different(content, record.about, "its path says")
    match record.kind:
        case "result":
            yield from _of_result(content, study.runs[record.about["run"]])
        case "diagnostics":
            yield from _of_diagnostics(content, study.runs[record.about["run"]])
        case "scalability":
            yield from _of_sweep(content, study.scalability)
        case "parameters":
            yield from _different(content, {"num_classes": study.scalability["num_classes"]}, "the study says")


def _different(content: dict, expected: dict, source: str) -> Iterator[str]:
    for key, value in expected.items():
        if content.get(key) != value:
            yield f"{key} is {content.get(key)!r}, {source} {value!r}"


def _of_result(result: dict, config: RunConfig) -> Iterator[str]:
    recorded = without_places(result["config"])
    for section, values in config.without_places().items():
        found = recorded[section]
        expected = values | dict.fromkeys(found.keys() - values.keys())  # a key that the study lacks is a contradiction
        yield from (f"config/{section}/{one}" for one in _different(found, expected, "the study says"))
    history = result["training_history"]
    for key, values in history.items():
        if len(values) != config.training.epochs:
            yield f"training_history/{key} has {len(values)} epochs, the study says {config.training.epochs}"
    best = max(history["val_acc"])
    of_history = {"best_val_accuracy": best, "best_epoch": history["val_acc"].index(best) + 1}
    yield from _different(result, of_history, "its history says")
    expected = {"validation_set": VALIDATION_SETS[SEMANTICS[result["semantics"]].validates_on_test]}
    yield from _different(result, expected, "its semantics says")


def _of_diagnostics(diagnostics: dict, config: RunConfig) -> Iterator[str]:
    found, expected = sorted(map(int, diagnostics["epochs"])), config.training.visualized_epochs
    if found != expected:
        yield f"has epochs {found}, the study says {expected}"


def _of_sweep(sweep: dict, settings: dict) -> Iterator[str]:
    protocol = {key: settings[key] for key in ("warmup", "repeats", "seconds", "num_classes")}
    yield from _different(sweep["protocol"], protocol, "the study says")
    found, expected = {point["resolution"] for point in sweep["points"]}, set(settings["resolutions"])
    # A device may skip sizes, and then says so.
    if found - expected or (expected - found and not sweep["protocol"]["skipped"]):
        yield f"has resolutions {sorted(found)}, the study says {sorted(expected)}"


def of_weights(path: Path, model: torch.nn.Module, about: dict, result: dict) -> Iterator[str]:
    """Yield the contradictions of a weights file, read into `model`, with its expected `about` and with its result."""
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
