"""Checks of what training left: results, diagnostics and weights, each by itself and the seeds beside each other."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from afmp.files import read_plain
from afmp.finished.check import Check, NotCheckedError, guarded
from afmp.finished.differences import differences
from afmp.finished.finished_study import FinishedStudy
from afmp.model.scaffold import scaffold_hash
from afmp.model.sizes import build_model
from afmp.model.stack import Model
from afmp.model.weights import load_weights, read_about
from afmp.records import with_checksum
from afmp.study.paths import WEIGHTS, diagnostics_file, result_file, result_files, seed_folder, weights_file
from afmp.study.run_config import with_every_key
from afmp.training.seed_files import about_weights

HEADER_BYTES = 1_000_000  # room for names and metadata in a file of weights


def training_checks(finished: FinishedStudy) -> Iterator[Check]:
    """Yield the checks of every run, and of its seeds beside each other."""
    study = finished.study
    for semantics, run in study.trainings:
        name, seeds = f"{run} [{semantics}], {len(study.seeds)} seeds", study.seeds
        results = result_files(semantics, [run], seeds)
        diagnostics = [diagnostics_file(semantics, run, seed) for seed in seeds]
        where = finished.results / seed_folder(semantics, run, seeds[0])
        yield Check(f"results of {name}", lambda paths=results: finished.faults_of(paths), where)
        yield Check(
            f"diagnostics of {name}",
            lambda one=semantics, run=run, paths=diagnostics: [
                *finished.faults_of(paths),
                *_diagnostics_faults(finished, one, run),
            ],
            where,
        )
        yield Check(f"weights of {name}", lambda one=semantics, run=run: _weights_faults(finished, one, run), where)
    folder = finished.results / "train"
    for semantics in dict.fromkeys(semantics for semantics, _ in study.trainings):
        found = {path: finished.contents[path] for path in finished.trained if path in finished.contents}
        own = {path: result for path, result in found.items() if finished.records[path].about["semantics"] == semantics}
        yield Check(f"no training twice [{semantics}]", lambda own=own: _repeated(finished, own), folder)
        yield Check(f"seeds trained together [{semantics}]", lambda own=own: _apart(finished, own), folder)


def _diagnostics_faults(finished: FinishedStudy, semantics: str, run: str) -> Iterator[str]:
    """Yield the faults of diagnostics against the results, which say their checksums, and against each other."""
    seen: dict[str, int] = {}
    for seed in finished.study.seeds:
        path = diagnostics_file(semantics, run, seed)
        result, diagnostics = finished.contents.get(result_file(semantics, run, seed)), finished.contents.get(path)
        if diagnostics is None:
            continue
        if result is not None and "files" in result:
            checksum = with_checksum(diagnostics)["checksum"]
            if checksum != result["files"]["diagnostics"]:
                yield f"{finished.results / path}: not the diagnostics that its result was written with"
        gates = [content["mean_gate"] for content in diagnostics["epochs"].values()]
        if any(0 < gate < 1 for epoch in gates for layer in epoch for gate in layer):
            other = seen.setdefault(json.dumps(gates), seed)
            if other != seed:
                yield f"{finished.results / path}: has the gates of seed {other}"


def _weights_faults(finished: FinishedStudy, semantics: str, run: str) -> Iterator[str]:
    if finished.data is None:
        raise NotCheckedError("without a prepared dataset the number of classes is not known")
    # A model of its own: a file brings its graph with it.
    config = finished.study.runs[run]
    model = build_model(config, semantics=semantics, num_classes=finished.data.num_classes)
    seen: dict[str, int] = {}
    unchecked = []
    for seed in finished.study.seeds:
        result = finished.contents.get(result_file(semantics, run, seed))
        if result is None:
            unchecked.append(seed)
            continue
        if "files" not in result:
            path = finished.results / result_file(semantics, run, seed)
            yield f"{path}: lacks the sha256 of its weights; delete it so that it is written again"
        epochs = (result["best_epoch"], config.training.epochs)
        for which, epoch in zip(WEIGHTS, epochs, strict=True):
            path = finished.results / weights_file(semantics, run, seed, which)
            about = {"run": run, "semantics": semantics, "seed": seed, "epoch": epoch}
            about |= about_weights(config, finished.data, semantics=semantics)

            def faults(path=path, which=which, about=about, result=result) -> Iterator[str]:
                yield from _of_weights(path, model, which=which, about=about, result=result)
                other = seen.setdefault(_values(model), about["seed"])
                if other != about["seed"]:
                    yield f"{path}: has the weights of seed {other}"

            yield from guarded(faults, path)
    if unchecked:
        raise NotCheckedError(f"no valid result of seed {', '.join(map(str, unchecked))}")


def _of_weights(path: Path, model: Model, *, which: str, about: dict, result: dict) -> Iterator[str]:
    """Yield the faults of a file of weights, read into `model`, with what it should be and with its result."""
    largest = sum(tensor.nbytes for tensor in model.state_dict().values()) + HEADER_BYTES
    content = read_plain(path, max_bytes=largest)
    recorded = result.get("files", {}).get(which)
    if recorded not in (None, hashlib.sha256(content).hexdigest()):
        yield f"{path}: not the weights that its result was written with: their sha256 differs"
    load_weights(model, path)
    said = read_about(path)
    if isinstance(said.get("model"), dict):
        said["model"] = with_every_key(said["model"])
    # Older weights lack a batch size.
    about = {key: value for key, value in about.items() if key in said or key != "batch_size"}
    yield from (f"{path}: {fault}" for fault in differences(said, about, "it should be"))
    found = {"scaffold_hash": scaffold_hash(model.static_positions, model.edge_index)}
    expected = {key: result[key] for key in found}
    yield from (f"{path}: {fault}" for fault in differences(found, expected, "its result says"))


def _values(model: Model) -> str:
    """Return a digest of a model's parameters: files of weights also contain the seed, and so differ."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def _repeated(finished: FinishedStudy, results: dict[str, dict]) -> Iterator[str]:
    """Yield each result whose epochs are those of another: every seed starts from other weights and other batches."""
    of_losses: dict[tuple, str] = {}
    of_times: dict[tuple, str] = {}
    for path, result in results.items():
        losses, times = (tuple(result["training_history"][key]) for key in ("train_loss", "time"))
        other = of_losses.setdefault(losses, path)
        if results[other]["seed"] != result["seed"]:
            yield f"{finished.results / path}: has the training losses of {finished.results / other}"
        other = of_times.setdefault(times, path)
        # Two runs of one seed may give the same numbers, but only seeds of one stack take the same time.
        if other != path and not _together(result, results[other]):
            yield f"{finished.results / path}: has the times of {finished.results / other}, to the last digit"


def _apart(finished: FinishedStudy, results: dict[str, dict]) -> Iterator[str]:
    """Yield what seeds say differently about the process in which they trained together."""
    first: dict[tuple, str] = {}
    for path, result in results.items():
        other = first.setdefault((result["run"], *sorted(result["trained_together"])), path)
        if other != path and _together(result, results[other]):
            shared = {key: results[other][key] for key in ("device", "versions", "message_passing", "trained_beside")}
            for fault in differences(result, shared, f"seed {results[other]['seed']}, trained together with it, says"):
                yield f"{finished.results / path}: {fault}"


def _together(one: dict, other: dict) -> bool:
    def listed(result: dict) -> set[int]:
        return set(result["trained_together"])

    return one["run"] == other["run"] and listed(one) == listed(other) >= {one["seed"], other["seed"]}
