"""Spot checks: randomly drawn seeds are trained again from nothing, and must end as they did."""

import random
from collections.abc import Iterator

import numpy as np
from scipy import stats

from afmp.analysis.statistics import FEWEST_SEEDS
from afmp.analysis.wording import counted
from afmp.finished.check import Check, NotCheckedError
from afmp.finished.conditions import computing_as, same_conditions, training_device
from afmp.finished.depth import Depth
from afmp.finished.differences import differences
from afmp.finished.expected import COVERAGE
from afmp.finished.finished_study import FinishedStudy
from afmp.machine.scratch import scratch_folder
from afmp.records import read_result
from afmp.study.paths import result_file, result_name, seed_name
from afmp.training.run import Run
from afmp.training.run_training import train_run

# Where bits are not promised, the first epoch still gives nearly the same loss: rounding errors grow later.
FIRST_LOSS = 0.02
EQUAL = ("test_accuracy", "best_val_accuracy", "best_epoch", "num_parameters", "scaffold_hash", "dataset", "files")


def spot_checks(finished: FinishedStudy, depth: Depth) -> Iterator[Check]:
    """Yield one check per drawn seed."""
    study = finished.study
    every = [(*training, seed) for training in study.trainings for seed in study.seeds]
    for semantics, run, seed in random.Random(depth.draw).sample(every, min(depth.spot, len(every))):
        yield Check(
            f"seed {seed} of {run} [{semantics}], trained again (drawn by draw={depth.draw})",
            lambda one=semantics, run=run, seed=seed: _trained_again(finished, one, run, seed),
            finished.results / result_file(semantics, run, seed),
        )


def _trained_again(finished: FinishedStudy, semantics: str, run: str, seed: int) -> Iterator[str]:
    result, config = finished.contents.get(result_file(semantics, run, seed)), finished.study.runs[run]
    if result is None:
        raise NotCheckedError("it has no valid result")
    if finished.data is None:
        raise NotCheckedError("there is no prepared dataset to train on")
    device = training_device(config.training)
    same = same_conditions(result, device)
    with scratch_folder() as scratch, computing_as(result, config.training):
        # The whole stack, as it was trained: another stack may round otherwise.
        folders = {one: scratch / seed_name(one) for one in result["trained_together"]}
        again = Run(run, semantics, config, folders, scratch / "checkpoints")
        train_run(again, dataset_path=finished.dataset_path)
        found = read_result(folders[seed] / result_name(run))
    path = finished.results / result_file(semantics, run, seed)
    faults = _other_bits(result, found) if same else _out_of_range(finished, result, found)
    yield from (f"{path}: {fault}" for fault in faults)


def _other_bits(result: dict, found: dict) -> Iterator[str]:
    """Yield what a result says otherwise than the training that was done again: its files by their hashes."""
    yield from differences(result, {key: found[key] for key in EQUAL}, "trained again it is")
    for key, values in found["training_history"].items():
        if key != "time" and result["training_history"][key] != values:
            yield f"training_history/{key} is not that of the training done again"


def _out_of_range(finished: FinishedStudy, result: dict, found: dict) -> Iterator[str]:
    first, again = result["training_history"]["train_loss"][0], found["training_history"]["train_loss"][0]
    if abs(first - again) > FIRST_LOSS * abs(again):
        yield f"train_loss of the first epoch is {first}, trained again on other conditions {again}"
    files = [result_file(result["semantics"], result["run"], seed) for seed in finished.study.seeds]
    others = [finished.contents[file]["test_accuracy"] for file in files if file in finished.contents]
    number = len(others)
    if number < FEWEST_SEEDS:
        seeds = counted([number], "seed")
        raise NotCheckedError(f"with {seeds} the spread of its accuracy is not known; its first loss is right")
    half = stats.t.ppf((1 + COVERAGE) / 2, number - 1) * np.std(others, ddof=1) * np.sqrt(1 + 1 / number)
    if abs(found["test_accuracy"] - np.mean(others)) > half:
        yield (
            f"trained again on other conditions, test_accuracy is {found['test_accuracy']:.2f} %, outside of "
            f"{np.mean(others):.2f} ± {half:.2f} % of its seeds"
        )
