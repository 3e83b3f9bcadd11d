"""Finished studies of made-up numbers: one to archive, and one in which all files agree and verification passes."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from synthetic_results import synthetic_diagnostics, synthetic_point, synthetic_result, synthetic_scalability

from afmp import records
from afmp.analysis.table_files import write_csv
from afmp.analysis.tables import run_tables, sweep_tables
from afmp.data.dataset import load_dataset
from afmp.figures.catalogue import figures
from afmp.model.scaffold import scaffold_hash
from afmp.model.sizes import build_model
from afmp.study.paths import TABLES, diagnostics_file, result_file, scalability_file, weights_file
from afmp.study.study import Study
from afmp.training.checkpoint import save_weights

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
    "scalability": {"resolutions": [64, 128, 224], "warmup": 5, "repeats": 10},
}
EPOCHS = (2, 3)  # with diagnostics


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
        points = [synthetic_point(model, size) for model in ("afmp_small", "deit_tiny") for size in (64, 128, 224)]
        sweep = synthetic_scalability(points, semantics=semantics)
        records.write_scalability(folder / scalability_file(semantics), sweep)
    counts = [
        {"model": name, "description": name, "resolution": 224, "num_parameters": 6_000_000}
        for name in ("afmp_small", "deit_tiny")
    ]
    parameters = {"format_version": 1, "num_classes": 100, "models": counts}
    records.write_parameters(folder / "count_parameters/parameters.json", parameters)
    for file in (file for drawing in figures(asdict(study)) for file in drawing.files):
        records.write_text(folder / file, "drawn")
    for table in TABLES:
        records.write_text(folder / f"aggregate/{table}.csv", "a,b\n1,2\n")
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    (folder / "prepare_data").mkdir()
    save_file({"test_images": images}, folder / "prepare_data/digits.safetensors")


def finish_study(folder: Path, study: Study, digits_file: Path) -> None:
    """Fill `folder` as results/ with files that agree: weights of the right models, tables, and last the figures."""
    fill_results(folder, study)
    dataset = folder / "prepare_data/digits.safetensors"
    shutil.copy(digits_file, dataset)
    results = []
    for semantics in study.semantics:
        for run, config in study.runs.items():
            model = build_model(config, semantics=semantics, num_classes=10)
            for seed in study.seeds:
                path = folder / result_file(semantics, run, seed)
                result = records.read_result(path)
                result["dataset"]["hash"] = load_dataset(dataset).hash
                result["num_parameters"] = sum(parameter.numel() for parameter in model.parameters())
                result["scaffold_hash"] = scaffold_hash(model.static_positions, model.edge_index)
                records.write_result(path, result)
                results.append(result)
                for name, epoch in (("best", result["best_epoch"]), ("final", EPOCHS[-1])):
                    about = {"run": run, "semantics": semantics, "seed": seed, "epoch": epoch}
                    metadata = {"about": json.dumps(about)}
                    save_weights(path.parent / f"{name}.safetensors", model.state_dict(), metadata=metadata)
    sweeps = [records.read_scalability(folder / scalability_file(semantics)) for semantics in study.semantics]
    parameters = records.read_parameters(folder / "count_parameters/parameters.json")
    tables = run_tables(results, study.studies) | sweep_tables(sweeps, parameters)
    for name, (table, _) in tables.items():
        write_csv(table, folder / f"aggregate/{name}.csv")
    drawn = [file for drawing in figures(asdict(study)) for file in drawing.files]
    for semantics in study.semantics:
        for run in study.runs:
            epochs = [f"plot_diagnostics/{semantics}/{run}/epoch_{epoch:04d}" for epoch in EPOCHS]
            drawn += [f"{epoch}.{ending}" for epoch in epochs for ending in ("png", "rst")]
    for file in drawn:
        records.write_text(folder / file, "drawn")
