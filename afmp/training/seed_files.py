"""The files of a finished seed: weights, diagnostics and result."""

import json
from datetime import UTC, datetime

from afmp.data.dataset import PreparedDataset
from afmp.data.split import Split
from afmp.model.scaffold import scaffold_hash
from afmp.records import with_checksum, write_diagnostics, write_result
from afmp.study.paths import seed_file_names
from afmp.study.run_config import RunConfig
from afmp.study.semantics import SEMANTICS
from afmp.training.checkpoint import save_weights
from afmp.training.identity import numbers_hash
from afmp.training.run import Run
from afmp.training.seed_state import SeedTraining


def about_weights(config: RunConfig, data: PreparedDataset, *, semantics: str) -> dict:
    """Return what a file of weights says besides run, semantics, seed and epoch, as plain JSON values.

    It is what a program needs to build the model, to prepare an image for it, and to name the class that it predicts.
    """
    # Only where answers depend on it does the batch size of the training belong to the model.
    budget = {"batch_size": config.training.batch_size} if SEMANTICS[semantics].depends_on_batch else {}
    return budget | {
        "model": config.model.to_dict(),
        "image_size": config.dataset.image_size,
        "class_names": list(data.class_names),
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "dataset": {"name": data.name, "hash": data.hash},
    }


def write_seed(run: Run, finished: SeedTraining, *, data: PreparedDataset, split: Split) -> None:
    """Write the four files of a finished seed. The result is the last, so that it never exists without the others."""
    model, progress, seed = finished.model, finished.progress, finished.seed
    best, final, diagnostics, result = (run.seed_folders[seed] / name for name in seed_file_names(run.name))
    about = {"run": run.name, "semantics": run.semantics, "seed": seed}
    described = about | about_weights(run.config, data, semantics=run.semantics)
    files = {}
    for which, path, weights, epoch in (
        ("best", best, finished.best_weights, progress.best_epoch),
        ("final", final, finished.evaluated.state_dict(), progress.epoch),
    ):
        # All metadata is in one entry: safetensors writes several entries in an undefined order, and equal weights must
        # give equal bytes.
        files[which] = save_weights(path, weights, metadata={"about": json.dumps(described | {"epoch": epoch})})
    gates = {
        "format_version": 1,
        **about,
        "image_index": 0,
        "patch_size": run.config.model.patch_size,
        "positions": model.static_positions.tolist(),
        "edge_index": model.directed_edge_index.tolist(),
        "epochs": progress.diagnostics,
    }
    write_diagnostics(diagnostics, gates)
    # The checksum of the content and not of the file: an archive has the same diagnostics in another layout.
    files["diagnostics"] = with_checksum(gates)["checksum"]
    write_result(
        result,
        {
            "format_version": 1,
            "model_type": run.name,
            "best_val_accuracy": progress.best_accuracy,
            "peak_memory_mb": progress.peak_memory_mb,
            "training_history": progress.history,
            "test_accuracy": progress.test_accuracy,
            "best_epoch": progress.best_epoch,
            "validation_set": split.validation_set,
            **about,
            "config": run.config.to_dict(),
            "code": numbers_hash(),
            "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
            "scaffold_hash": scaffold_hash(model.static_positions, model.edge_index),
            "dataset": {
                "name": data.name,
                "hash": data.hash,
                "num_classes": data.num_classes,
                "num_train": len(split.train_index),
                "num_val": len(split.val_labels),
                "num_test": len(data.test_labels),
            },
            "device": progress.trained_by[-1]["device"],
            "versions": progress.trained_by[-1]["versions"],
            "trained_by": progress.trained_by,
            "trained_together": progress.trained_together,
            "trained_beside": progress.trained_beside,
            "message_passing": progress.message_passing,
            "files": files,
            **({} if progress.step is None else {"step": progress.step}),
            "wall_time_s": progress.wall_time_s,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
