"""The release of a finished run: the weights of one random seed in a small file that describes itself, and its card."""

import json
import math
import re
from pathlib import Path

import torch

from afmp.data.dataset import PreparedDataset, load_dataset
from afmp.data.split import VALIDATION_SETS
from afmp.errors import AfmpError
from afmp.files import MissingFileError, is_there, read_plain, sha256_of
from afmp.finished.citation import read_citation
from afmp.finished.conditions import computing_as
from afmp.finished.deep_checks import IMAGES
from afmp.finished.differences import differences
from afmp.finished.model_card import Release, model_card
from afmp.log import log
from afmp.machine.device import resolve_device
from afmp.machine.scratch import scratch_folder
from afmp.model.stack import stack_models
from afmp.model.trained import RELEASES
from afmp.model.weights import ADVICE, build_from_weights, read_about
from afmp.records import atomic_path, check_can_write, read_result, write_text
from afmp.study.paths import dataset_file, result_file, train_folder, weights_file
from afmp.study.run_config import RunConfig, without_places
from afmp.tensors import read_tensors
from afmp.training.checkpoint import save_weights
from afmp.training.evaluation import count_correct

MAX_BYTES = 4_000_000  # small, because a git repository keeps every version of every file for ever
NAME = re.compile(r"(?!readme$)[a-z0-9][a-z0-9_.+-]{0,79}", re.IGNORECASE)


def write_release(results: Path, run: str, name: str, *, semantics: str | None, folder: Path) -> Release:
    """Write <folder>/<name>.safetensors and its card <name>.md for a run of a results folder, and return what they say.

    The weights are those of the best epoch of the random seed with the highest validation accuracy, of the first such
    seed if several have it. They are stored as float32 or, if the file would be larger than MAX_BYTES, their parameters
    as float16. The file that is written is evaluated on the test images.

    semantics: needed only if the run was trained under several.
    Raises AfmpError for a run that is unknown, unfinished or was validated on the test set, if weights or dataset are
    not those that the results recorded, if the file does not reproduce the recorded test accuracy, if it is larger than
    MAX_BYTES, and if another release has this name.
    """
    if not NAME.fullmatch(name):
        raise AfmpError(
            f"NAME: found {name!r}; allowed are letters, digits, _ . + -, starting with a letter or digit, at most 80, "
            "and not README."
        )
    weights, card = folder / f"{name}.safetensors", folder / f"{name}.md"
    seeds = _read_seeds(results, run, _semantics(results, run, semantics))
    # Of equal accuracies max takes the first, and the seeds are sorted.
    chosen = max(seeds, key=lambda result: result["best_val_accuracy"])
    best = results / weights_file(chosen["semantics"], run, chosen["seed"], "best")
    if sha256_of(best) != chosen.get("files", {}).get("best"):
        raise AfmpError(f"{best}: not the weights that its result was written with: their sha256 differs; {ADVICE}.")
    data = _load_dataset(results, chosen)
    check_can_write(card)
    with scratch_folder() as scratch:
        stored = scratch / weights.name
        sha256, stored_type = _store(best, stored, name=name)
        if is_there(weights) and sha256_of(weights) != sha256:
            raise AfmpError(f"{weights}: another release has this name; choose another, or remove it and its card.")
        release = Release(
            name=name,
            sha256=sha256,
            stored_type=stored_type,
            num_bytes=stored.stat().st_size,
            num_correct=_count_correct(stored, chosen, data),
            in_package=folder.resolve() == RELEASES,
            about=read_about(stored),
            chosen=chosen,
            seeds=seeds,
        )
        _refuse_another_accuracy(release)
        # The weights are the last, so that they never exist without their card.
        write_text(card, model_card(release, citation=read_citation(RELEASES.parent.parent)))
        with atomic_path(weights) as temporary:
            temporary.write_bytes(read_plain(stored, max_bytes=MAX_BYTES))
    return release


def _semantics(results: Path, run: str, wanted: str | None) -> str:
    """Return the semantics under which a run was trained, and which is the wanted one if that is given."""
    trained = sorted(path.relative_to(results / "train").parts for path in (results / "train").glob("*/*/"))
    under = [semantics for semantics, name in trained if name == run]
    if not under:
        runs = ", ".join(dict.fromkeys(name for _, name in trained)) or "none"
        raise AfmpError(f"RUN: {run!r} is no run in {results}; found there: {runs}.")
    if wanted not in under and (wanted or len(under) > 1):
        found = f"found {wanted!r}" if wanted else "missing"
        raise AfmpError(
            f"--semantics: {found}, but run {run!r} was trained as {' and '.join(under)}; give one of them."
        )
    return wanted or under[0]


def _read_seeds(results: Path, run: str, semantics: str) -> list[dict]:
    """Return the results of all random seeds of a run, by seed. They were validated on training images, and agree."""
    folder = results / train_folder(semantics, run)
    names = [path.name.removeprefix("seed_") for path in folder.glob("seed_*/")]
    read: dict[int, dict] = {}
    for seed in sorted(int(name) for name in names if name.isdecimal()):
        path = results / result_file(semantics, run, seed)
        try:
            read[seed] = result = read_result(path)
        except MissingFileError:
            raise AfmpError(f"{path}: missing: the run is unfinished; train it to its end first.") from None
        if result["validation_set"] == VALIDATION_SETS[True]:
            raise AfmpError(
                f"{path}: validation_set is {result['validation_set']!r}: the best epoch was chosen on the test set, "
                "and accuracies are optimistic; release a run that was validated on images of the training set."
            )
        about = {"run": run, "semantics": semantics, "seed": seed}
        expected = about | _of_run(next(iter(read.values())))
        for fault in differences(result | _of_run(result), expected, "but by its path and the first seed it is"):
            raise AfmpError(f"{path}: not of the same training as the other seeds: {fault}; train the run again.")
    if not read:
        raise AfmpError(f"{folder}: has no folder of a random seed, as seed_0; train the run first.")
    if missing := {seed for result in read.values() for seed in result["trained_together"]} - read.keys():
        raise AfmpError(
            f"{results / result_file(semantics, run, min(missing))}: missing, although it trained together with other "
            "seeds of the run; train the run to its end, or restore the file."
        )
    return list(read.values())


def _of_run(result: dict) -> dict:
    """Return what the results of all random seeds of a run have in common."""
    return {
        "config": without_places(result["config"]),
        "dataset/hash": result["dataset"]["hash"],
        "code": result.get("code"),
        "num_parameters": result["num_parameters"],
    }


def _load_dataset(results: Path, result: dict) -> PreparedDataset:
    path = results / dataset_file(result["config"]["dataset"]["source"])
    data = load_dataset(path, device=resolve_device("auto"))
    if data.hash != result["dataset"]["hash"]:
        raise AfmpError(
            f"{path}: its hash is {data.hash[:12]}, but the run was trained on {result['dataset']['hash'][:12]}; "
            "prepare that dataset again."
        )
    return data


def _store(best: Path, stored: Path, *, name: str) -> tuple[str, str]:
    """Write the weights in `best` to `stored`, of at most MAX_BYTES, and return their sha256 and the stored type."""
    tensors, about = read_tensors(best, advice=ADVICE), read_about(best)
    # Buffers stay as they are: the graph is exact in float32, and statistics of BatchNorm may be too large for float16.
    parameters = dict(build_from_weights(best).named_parameters())
    for stored_type in ("float32", "float16"):
        dtype = getattr(torch, stored_type)  # to(float16) rounds to nearest
        typed = {key: tensor.to(dtype) if key in parameters else tensor for key, tensor in tensors.items()}
        metadata = {"about": json.dumps(about | {"release": name, "stored_type": stored_type})}
        sha256 = save_weights(stored, typed, metadata=metadata)
        if stored.stat().st_size <= MAX_BYTES:
            return sha256, stored_type
    raise AfmpError(
        f"{best}: {stored.stat().st_size:,} bytes as float16; a release has at most {MAX_BYTES:,}; release a smaller "
        "model."
    )


def _count_correct(stored: Path, result: dict, data: PreparedDataset) -> int:
    """Return how many test images the stored weights answer right, in the precision of the training."""
    training, device = RunConfig.from_dict(result["config"]).training, data.test_images.device
    log.info("%s: is evaluated on %s test images (%s)", stored.name, f"{len(data.test_labels):,}", device)
    stack = stack_models([build_from_weights(stored).to(device)])
    with computing_as(result, training):
        return count_correct(stack, data.test_images, data.test_labels, data=data, training=training).item()


def _refuse_another_accuracy(release: Release) -> None:
    number = release.num_test
    expected = round(release.chosen["test_accuracy"] * number / 100)
    if abs(release.num_correct - expected) > math.ceil(IMAGES * number):
        raise AfmpError(
            f"{release.name}: as {release.stored_type} it answers {release.num_correct:,} of {number:,} test images "
            f"right, but its result says {expected:,}, and {100 * IMAGES:g} % of the images may differ; nothing is "
            "written, and `snakemake verify --config deep=true` shows what does not agree."
        )
