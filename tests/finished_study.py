"""Finished studies of made-up numbers: one to archive, and one in which all files agree and verification passes."""

import hashlib
import json
import shutil
import tempfile
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.numpy import save_file
from synthetic_results import synthetic_diagnostics, synthetic_point, synthetic_result, synthetic_scalability

from afmp import records
from afmp.analysis.models import MODELS
from afmp.analysis.table_files import write_tables
from afmp.analysis.tables import run_tables, sweep_tables
from afmp.benchmark.join import join_resolutions
from afmp.benchmark.measurement import spread
from afmp.benchmark.parameters import count_parameters, count_trained
from afmp.data.dataset import load_dataset
from afmp.data.split import stratified_holdout
from afmp.figures.catalogue import Drawing, figures
from afmp.finished.answered_claims import write_answers
from afmp.finished.results_folder import ResultsFolder
from afmp.finished.study_files import study_drawings
from afmp.finished.study_manifest import write_study_manifest
from afmp.model.scaffold import scaffold_hash
from afmp.model.sizes import build_model
from afmp.study.paths import (
    CLAIMS_FILE,
    CLAIMS_TABLE,
    PARAMETERS_FILE,
    TABLES,
    dataset_file,
    dataset_hash_file,
    diagnostics_file,
    files_of_table,
    resolution_file,
    result_file,
    result_files,
    scalability_file,
    table_file,
    weights_file,
)
from afmp.study.study import Study
from afmp.training.checkpoint import save_weights
from afmp.training.gates import describe_gates
from afmp.training.seed_files import about_weights

# The smallest study with every kind of figure: two runs.
CHANGES = {
    "dataset": {"source": "digits", "path": None, "image_size": 32},
    "seeds": [0, 1],
    "training": {"epochs": 3, "visualize_every": 2},
    "studies": {
        "top_down_refinement": {
            "section": "7.3",
            "title": "Top-down refinement",
            "figure": "comparison_topdown_vs_no",
            "reference": "sparse_0.3",
            "runs": [{"run": "top_down", "use_top_down": True}, {"run": "sparse_0.3", "label": "Without"}],
        }
    },
}


# The same with small weights, a second scaffold, and the protocol of the made-up sweeps.
TOP_DOWN = CHANGES["studies"]["top_down_refinement"]
WINDOW = {"run": "sparse_0.4", "label": "Window", "scaffold": "window", "window_size": 2}
STUDY = CHANGES | {
    "seeds": [0, 1, 2],
    "studies": {"top_down_refinement": TOP_DOWN | {"runs": [*TOP_DOWN["runs"], WINDOW]}},
    "model": {"num_layers": 2, "d_model": 8},
    "scalability": {
        "resolutions": [64, 128, 224],
        "precision": ["fp32"],
        "mode": ["train"],
        "execution": ["eager"],
        "attention": ["fused"],
        "warmup": 5,
        "repeats": 10,
    },
}

# One claim about runs, one about the sweep.
CLAIMS = {
    "claims": {
        "top_down_helps": {
            "claim": "Top-down refinement raises accuracy",
            "quantity": "test_accuracy",
            "semantics": ["paper", "notebook"],
            "study": "top_down_refinement",
            "runs": ["top_down"],
            "reference": "sparse_0.3",
            "expect": "higher",
        },
        "faster": {
            "claim": "AFMP-Small is faster than DeiT-Tiny",
            "quantity": "time",
            "semantics": ["paper"],
            "models": ["afmp_small"],
            "reference": "deit_tiny",
            "expect": "lower",
            "resolutions": [64, 224],
            "mode": "train",
            "precision": "fp32",
            "execution": "eager",
        },
    }
}


def fill_results(folder: Path, study) -> None:
    """Fill `folder` as the results of a finished study, with made-up numbers and empty figures."""
    for semantics in study.semantics:
        for run, config in study.runs.items():
            for seed in study.seeds:
                result = synthetic_result(run, semantics=semantics, seed=seed) | {"config": config.to_dict()}
                records.write_result(folder / result_file(semantics, run, seed), result)
                layers = config.model.num_layers
                gates = synthetic_diagnostics(semantics=semantics, epochs=(2, 3), num_layers=layers) | {
                    "run": run,
                    "seed": seed,
                }
                records.write_diagnostics(folder / diagnostics_file(semantics, run, seed), gates)
                (folder / weights_file(semantics, run, seed, "best")).write_bytes(b"weights")
        points = [synthetic_point(model, size) for model in MODELS for size in (64, 128, 224)]
        sweep = synthetic_scalability(points, semantics=semantics)
        records.write_scalability(folder / scalability_file(semantics), sweep)
    counts = [{"model": name, "description": name, "resolution": 224, "num_parameters": 6_000_000} for name in MODELS]
    parameters = {"format_version": 1, "num_classes": 100, "models": counts}
    records.write_parameters(folder / "count_parameters/parameters.json", parameters)
    for file in (file for drawing in figures(study.to_dict()) for file in drawing.files):
        records.write_text(folder / file, "drawn")
    for table in TABLES:
        records.write_text(folder / table_file(table), "a,b\n1,2\n")
    records.write_text(folder / CLAIMS_FILE, yaml.safe_dump(CLAIMS))
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    (folder / "prepare_data").mkdir()
    save_file({"test_images": images}, folder / "prepare_data/digits.safetensors")


def finish_study(folder: Path, study: Study, digits_file: Path) -> None:
    """Fill `folder` as results/ of a finished study whose files agree; only the numbers of training are made up."""
    fill_results(folder, study)
    dataset = folder / dataset_file(study.dataset.source)
    shutil.copy(digits_file, dataset)
    data = load_dataset(dataset)
    records.write_text(folder / dataset_hash_file(study.dataset.source), f"{data.hash}\n")
    for number, (semantics, run) in enumerate(product(study.semantics, study.runs)):
        for seed in study.seeds:
            torch.manual_seed(1000 * number + seed)
            model = build_model(study.runs[run], semantics=semantics, num_classes=data.num_classes)
            finish_seed(folder, study, model, run=run, seed=seed, data=data)
    trained = count_trained(study.models, num_classes=data.num_classes)
    parameters = count_parameters(num_classes=study.scalability["num_classes"], trained=trained)
    counts = {model["model"]: model["num_parameters"] for model in parameters["models"] if model["model"] in MODELS}
    records.write_parameters(folder / PARAMETERS_FILE, parameters)
    sweeps = [finish_sweep(folder, study, semantics, counts) for semantics in study.semantics]
    results = [
        records.read_result(folder / file)
        for one in study.semantics
        for file in result_files(one, study.runs, study.seeds)
    ]
    tables = run_tables(results, study.studies) | sweep_tables(sweeps, parameters)
    for name, table in tables.items():
        files = files_of_table(name)
        write_tables({name: table}, {key: str(folder / file) for key, file in files.items()})
    files = {key: str(folder / file) for key, file in files_of_table(CLAIMS_TABLE).items()}
    write_answers(CLAIMS, ResultsFolder(folder, study), files | {"answered": str(folder / CLAIMS_FILE)})
    for drawing in study_drawings(study):
        drawing.write(source=folder, folder=folder)
    write_study_manifest(study, folder)


def finish_seed(folder: Path, study: Study, model, *, run: str, seed: int, data) -> None:
    """Write the files of one seed, as training writes them."""
    semantics, config = model.semantics, study.runs[run]
    num_train, num_val = len(data.train_labels), len(data.test_labels)
    if semantics == "paper":
        num_train, num_val = map(len, stratified_holdout(data.train_labels, config.training.validation_fraction))
    result = records.read_result(folder / result_file(semantics, run, seed))
    history = result["training_history"]
    history["val_acc"] = [whole(value, num_val) for value in history["val_acc"]]
    history["train_acc"] = [whole(value, num_train) for value in history["train_acc"]]
    if seed == 0:
        history["val_acc"].reverse()  # the best epoch is not the last
    result["best_val_accuracy"] = max(history["val_acc"])
    result["best_epoch"] = history["val_acc"].index(result["best_val_accuracy"]) + 1
    result["test_accuracy"] = whole(result["test_accuracy"], len(data.test_labels))
    if semantics == "notebook":
        result["test_accuracy"] = result["best_val_accuracy"]
    counted = {
        "num_train": num_train,
        "num_val": num_val,
        "num_test": len(data.test_labels),
        "num_classes": data.num_classes,
    }
    result["dataset"] |= counted | {"hash": data.hash}
    result["num_parameters"] = sum(parameter.numel() for parameter in model.parameters())
    result["scaffold_hash"] = scaffold_hash(model.static_positions, model.edge_index)
    about = {"run": run, "semantics": semantics, "seed": seed}
    files = {}
    for which, epoch in (("best", result["best_epoch"]), ("final", config.training.epochs)):
        torch.nn.init.constant_(model.readout["2"].bias, epoch / 100)  # other weights in another epoch
        metadata = {"about": json.dumps(about | about_weights(config, data, semantics=semantics) | {"epoch": epoch})}
        files[which] = save_weights(
            folder / weights_file(semantics, run, seed, which), model.state_dict(), metadata=metadata
        )
    gates = {
        "format_version": 1,
        **about,
        "image_index": 0,
        "patch_size": config.model.patch_size,
        "positions": model.static_positions.tolist(),
        "edge_index": model.directed_edge_index.tolist(),
        "epochs": {
            str(epoch): describe_gates(model, data, image_index=0) for epoch in config.training.visualized_epochs
        },
    }
    records.write_diagnostics(folder / diagnostics_file(semantics, run, seed), gates)
    files["diagnostics"] = records.with_checksum(gates)["checksum"]
    records.write_result(folder / result_file(semantics, run, seed), result | {"files": files})


def whole(percent: float, number: int) -> float:
    """Return the accuracy nearest to `percent` that a number of images gives."""
    return 100.0 * round(percent * number / 100) / number


def finish_sweep(folder: Path, study: Study, semantics: str, counts: dict[str, int]) -> dict:
    """Write a sweep of the study's sizes and its parts, and return it."""
    parts = {}
    for size in study.scalability["resolutions"]:
        points = [synthetic_point(model, size) | {"num_parameters": count} for model, count in counts.items()]
        for point in points:
            point["time_ms"] = spread(point["time_ms"]["all"])
        parts[str(folder / resolution_file(semantics, size))] = synthetic_scalability(points, semantics=semantics)
    for path, part in parts.items():
        records.write_scalability(path, part)
    sweep = join_resolutions(parts)
    records.write_scalability(folder / scalability_file(semantics), sweep)
    return sweep


def draw_once(monkeypatch, kept: Path) -> None:
    """Let each figure of the same data be drawn once, and kept in a folder: verification draws all of them."""
    draw = Drawing.write_from
    kept.mkdir(exist_ok=True)

    def remembered(drawing: Drawing, contents, read_image, *, folder) -> None:
        image = read_image(0).tobytes() if drawing.dataset else b""
        data = json.dumps([drawing.path, drawing.settings, *(contents[path] for path in drawing.sources)])
        drawn = kept / hashlib.sha256(data.encode() + image).hexdigest()
        if not drawn.exists():
            own = Path(tempfile.mkdtemp(dir=kept))
            draw(drawing, contents, read_image, folder=own)
            with suppress(OSError):  # another process was faster
                own.rename(drawn)
        for file in drawing.files:
            Path(folder, file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(drawn / file, Path(folder, file))

    monkeypatch.setattr(Drawing, "write_from", remembered)
