"""The runs of a study with their results, and facts about them for figures and captions."""

from typing import NamedTuple

import numpy as np

from afmp.analysis import wording
from afmp.analysis.metrics import by_seed, metric_interval, metric_values, select
from afmp.analysis.statistics import Interval
from afmp.analysis.wording import distinct
from afmp.errors import AfmpError
from afmp.study.semantics import RIVAL

# The number of images that an accuracy is computed on, as a result's `dataset` records it.
NUM_IMAGES = {"test_accuracy": "num_test", "best_val_accuracy": "num_val"}


class StudyRun(NamedTuple):
    """One run of the study with its results, sorted by random seed."""

    name: str
    label: str
    results: list[dict]

    def curve(self, key: str) -> np.ndarray:
        """Return one list of the training history of every seed, (seeds, epochs)."""
        curves = [result["training_history"][key] for result in self.results]
        if len({len(curve) for curve in curves}) > 1:
            lengths = ", ".join(f"seed {r['seed']}: {len(c)}" for r, c in zip(self.results, curves, strict=True))
            raise AfmpError(
                f"run {self.name!r}: its seeds have different numbers of epochs ({lengths}); train all seeds alike."
            )
        return np.asarray(curves, dtype=np.float64)

    def values(self, name: str) -> list[float]:
        """Return one summary metric of every seed; a time of every stack of seeds."""
        return metric_values(self.results, name)

    def interval(self, name: str) -> Interval:
        """Return the mean of one summary metric over the seeds, with its interval."""
        return metric_interval(self.results, name)


def study_runs(study: dict, results: list[dict]) -> tuple[list[StudyRun], str]:
    """Return the study's runs with their results, and their semantics. Raises AfmpError for mixed semantics.

    The semantics of a study of rivals alone is that of rivals.
    """
    runs = [StudyRun(m["run"], m["label"], select(results, study, run=m["run"])) for m in study["members"]]
    semantics = {result["semantics"] for run in runs for result in run.results}
    if len(semantics) > 1:
        semantics.discard(RIVAL)
    if len(semantics) > 1:
        raise AfmpError(f"study {study['name']}: found results of {sorted(semantics)}; one figure has one semantics.")
    return runs, semantics.pop()


def other_references(study: dict, runs: list[StudyRun]) -> list[StudyRun | None]:
    """Return for each run of the study the run that it names in `compare_with`, or None."""
    by_name = {run.name: run for run in runs}
    return [by_name.get(member.get("compare_with")) for member in study["members"]]


def identical_runs(runs: list[StudyRun]) -> list[list[StudyRun]]:
    """Return groups of two or more runs that have the same numbers in every seed and epoch."""
    groups: dict[str, list[StudyRun]] = {}
    for run in runs:
        numbers = [
            (result["seed"], result["test_accuracy"], result["training_history"] | {"time": None})
            for result in run.results
        ]
        groups.setdefault(repr(numbers), []).append(run)
    return [group for group in groups.values() if len(group) > 1]


def best_runs(runs: list[StudyRun]) -> list[list[StudyRun]]:
    """Return the runs with the highest mean test accuracy; runs with equal accuracies in every seed form one group."""
    # Rounded far below the resolution of an accuracy: means of equal accuracies may differ in their last bits.
    means = [round(float(run.interval("test_accuracy").mean), 9) for run in runs]
    groups: dict[str, list[StudyRun]] = {}
    for run, mean in zip(runs, means, strict=True):
        if mean == max(means):
            groups.setdefault(repr(by_seed(run.results, "test_accuracy")), []).append(run)
    return list(groups.values())


def labels_of(group: list[StudyRun], runs: list[StudyRun]) -> str:
    """Return the labels of some of `runs`: `Dense, Sparse 0.3`, or `Sparse 0.2 to Sparse 0.6` for a sequence."""
    labels, names = [run.label for run in group], {run.name for run in group}
    places = [place for place, run in enumerate(runs) if run.name in names]
    if len(group) > 2 and places == list(range(places[0], places[-1] + 1)):
        return f"{labels[0]} to {labels[-1]}"
    return ", ".join(labels)


def tied_labels(group: list[StudyRun], runs: list[StudyRun]) -> str:
    """Return the label of a run, or of several with equal accuracies: `Sparse 0.2 to Sparse 0.6, all equal`."""
    return labels_of(group, runs) + ", all equal" * (len(group) > 1)


def resolution_note(runs: list[StudyRun], *metrics: str) -> str:
    """Return the resolution of the accuracies `metrics` if one is equal in all seeds of a run; else nothing."""
    num_images = {
        result["dataset"][NUM_IMAGES[name]]
        for name in metrics
        for run in runs
        if run.interval(name).all_equal
        for result in run.results
    }
    if not num_images:
        return ""
    share = f"one image of {min(num_images):,} is {100 / min(num_images):.2g} points"
    return f"Accuracies that are equal for all seeds are not exact: {share}."


def facts_of(runs: list[StudyRun]) -> dict[str, str]:
    """Return what the runs were computed on, in words."""
    results = [result for run in runs for result in run.results]
    return {
        "dataset": distinct(result["dataset"]["name"] for result in results),
        "classes": distinct(str(result["dataset"]["num_classes"]) for result in results),
        "epochs": wording.counted([len(result["training_history"]["time"]) for result in results], "epoch"),
        "seeds": wording.counted([len(run.results) for run in runs], "seed"),
        "device": distinct(result["device"]["name"] for result in results),
        "torch": distinct(result["versions"]["torch"] for result in results),
        "selection": distinct(wording.validation_words(result["semantics"]).selection for result in results),
    }
