"""Deep checks of weights: those of each seed are evaluated again on the prepared dataset."""

import math
from collections.abc import Iterator
from functools import cache
from itertools import chain

import torch

from afmp.data.dataset import PreparedDataset, load_dataset
from afmp.data.split import split_dataset
from afmp.finished.check import Check, NotCheckedError
from afmp.finished.conditions import computing_as, same_conditions, training_device
from afmp.finished.finished_study import FinishedStudy
from afmp.model.sizes import build_model
from afmp.model.stack import Model, stack_models
from afmp.model.weights import load_weights
from afmp.study.paths import WEIGHTS, diagnostics_file, result_file, seed_folder, weights_file
from afmp.study.semantics import SEMANTICS
from afmp.training.evaluation import count_correct
from afmp.training.gates import describe_gates

# On another device or with other versions, so much may differ.
IMAGES = 0.005  # share of the images that are answered otherwise
GATE = 1e-3
TOLERATED = (
    f"on another device or with other versions, {100 * IMAGES:g} % of the images and {GATE} of a gate may differ"
)


def deep_checks(finished: FinishedStudy) -> Iterator[Check]:
    """Yield one check per run, with all its seeds. Nothing is trained."""

    @cache  # once for all runs
    def loaded(device: torch.device) -> PreparedDataset:
        return finished.data if device.type == "cpu" else load_dataset(finished.dataset_path, device=device)

    for semantics, run in finished.study.trainings:
        yield Check(
            f"weights of {run} [{semantics}], evaluated again",
            lambda one=semantics, run=run: _evaluated(finished, one, run, loaded),
            finished.results / seed_folder(semantics, run, finished.study.seeds[0]),
        )


def _evaluated(finished: FinishedStudy, semantics: str, run: str, loaded) -> Iterator[str]:
    if finished.data is None:
        raise NotCheckedError("there is no prepared dataset to evaluate them on")
    config = finished.study.runs[run]
    device = training_device(config.training)
    groups: dict[tuple, list[int]] = {}
    unchecked = []
    for seed in finished.study.seeds:
        result = finished.contents.get(result_file(semantics, run, seed))
        if result is None:
            unchecked.append(seed)
        else:  # as one stack, as they were trained: another stack may round otherwise
            groups.setdefault(tuple(result["trained_together"]), []).append(seed)
    for seeds in groups.values():
        yield from _evaluated_group(finished, semantics, run, seeds, loaded(device))
    if unchecked:
        raise NotCheckedError(f"no valid result of seed {', '.join(map(str, unchecked))}")


def _evaluated_group(
    finished: FinishedStudy, semantics: str, run: str, seeds: list[int], data: PreparedDataset
) -> Iterator[str]:
    config, device = finished.study.runs[run], data.train_images.device
    results = {seed: finished.contents[result_file(semantics, run, seed)] for seed in seeds}
    first = results[seeds[0]]
    split = split_dataset(
        data,
        validate_on_test=SEMANTICS[semantics].validates_on_test,
        fraction=config.training.validation_fraction,
        padding=0,
    )
    sets = {"test": (data.test_images, data.test_labels), "validation": (split.val_images, split.val_labels)}
    with computing_as(first, config.training):
        for which in WEIGHTS:
            models = []
            for seed in seeds:
                model = build_model(config, semantics=semantics, num_classes=data.num_classes)
                load_weights(model, finished.results / weights_file(semantics, run, seed, which))
                models.append(model.to(device))
            for seed, model in zip(seeds, models, strict=True):
                yield from _gates(finished, model, data, which=which, seed=seed, result=results[seed])
            recorded = {"test": "test_accuracy", "validation": "best_val_accuracy"}
            if which == "final":
                recorded = {"validation": "val_acc of the last epoch"}
            stack = stack_models(models)
            for name, key in recorded.items():
                images, labels = sets[name]
                counts = count_correct(stack, images, labels, data=data, training=config.training).tolist()
                for seed, count in zip(seeds, counts, strict=True):
                    result = results[seed]
                    value = result["training_history"]["val_acc"][-1] if which == "final" else result[key]
                    expected, number = round(value * len(labels) / 100), len(labels)
                    allowed = 0 if same_conditions(result, device) else math.ceil(IMAGES * number)
                    if abs(count - expected) > allowed:
                        path = finished.results / weights_file(semantics, run, seed, which)
                        yield f"{path}: answers {count} of {number} {name} images right, {key} says {expected}"


def _gates(
    finished: FinishedStudy, model: Model, data: PreparedDataset, *, which: str, seed: int, result: dict
) -> Iterator[str]:
    """Yield the fault of recorded gates that weights do not give, if their epoch has gates."""
    path = diagnostics_file(model.semantics, result["run"], seed)
    epoch = result["best_epoch"] if which == "best" else len(result["training_history"]["val_acc"])
    recorded = finished.contents.get(path, {"epochs": {}})["epochs"].get(str(epoch))
    if recorded is None:
        return
    found = describe_gates(model, data, image_index=0)
    if same_conditions(result, data.train_images.device):
        same = found == recorded
    else:
        pairs = zip(chain(*found["mean_gate"]), chain(*recorded["mean_gate"]), strict=True)
        same = all(abs(one - other) <= GATE for one, other in pairs)
    if not same:
        yield f"{finished.results / path}: epoch {epoch} has not the gates that {which}.safetensors gives"
