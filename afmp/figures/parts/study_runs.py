"""The runs of a study with their results, and what figures and captions say of them: facts, runs that are equal."""

from typing import NamedTuple

import numpy as np

from afmp.analysis import wording
from afmp.analysis.metrics import by_seed, metric_interval, metric_values, select
from afmp.analysis.statistics import Interval
from afmp.analysis.wording import distinct
from afmp.errors import AfmpError

# What an accuracy is a count of: the images that a result was computed on.
IMAGES = {"test_accuracy": "num_test", "best_val_accuracy": "num_val"}


class Run(NamedTuple):
    """One member of the study with its results, in order of seed."""

    name: str
    label: str
    results: list[dict]

    def curve(self, key: str) -> np.ndarray:
        """(seeds, epochs) values of one list of the history."""
        curves = [result["training_history"][key] for result in self.results]
        if len({len(curve) for curve in curves}) > 1:
            lengths = ", ".join(f"seed {r['seed']}: {len(c)}" for r, c in zip(self.results, curves, strict=True))
            raise AfmpError(f"run {self.name!r}: its seeds differ in number of epochs ({lengths}); train them alike.")
        return np.asarray(curves, dtype=np.float64)

    def values(self, name: str) -> list[float]:
        """One summary metric of every seed; of a time, of every stack of seeds."""
        return metric_values(self.results, name)

    def interval(self, name: str) -> Interval:
        """Mean of one summary metric over the seeds, with its interval."""
        return metric_interval(self.results, name)


def study_runs(study: dict, results) -> tuple[list[Run], str]:
    """The study's runs with their results, and the one semantics they share."""
    members = [Run(m["run"], m["label"], select(results, study, run=m["run"])) for m in study["members"]]
    meanings = {result["semantics"] for run in members for result in run.results}
    if len(meanings) > 1:
        raise AfmpError(
            f"study {study['name']}: results of {sorted(meanings)} given to one figure; give one semantics."
        )
    return members, meanings.pop()


def equal_runs(runs: list[Run]) -> list[list[Run]]:
    """Groups of runs that have the same numbers in every seed and epoch: one model under several names."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        numbers = [
            (result["seed"], result["test_accuracy"], result["training_history"] | {"time": None})
            for result in run.results
        ]
        groups.setdefault(repr(numbers), []).append(run)
    return [group for group in groups.values() if len(group) > 1]


def leaders(runs: list[Run]) -> list[list[Run]]:
    """The runs with the highest mean test accuracy, those with the same accuracy in every seed in one group."""
    # Rounded far below what an accuracy can resolve: the mean of equal counts may vary in its last bits.
    means = [round(float(run.interval("test_accuracy").mean), 9) for run in runs]
    groups: dict[str, list[Run]] = {}
    for run, mean in zip(runs, means, strict=True):
        if mean == max(means):
            groups.setdefault(repr(by_seed(run.results, "test_accuracy")), []).append(run)
    return list(groups.values())


def listed(group: list[Run], runs: list[Run]) -> str:
    """Labels of some of `runs`: `Dense, Sparse 0.3`, or `Sparse 0.2 to Sparse 0.6` where many stand in a row."""
    labels, inside = [run.label for run in group], {run.name for run in group}
    places = [place for place, run in enumerate(runs) if run.name in inside]
    if len(group) > 2 and places == list(range(places[0], places[-1] + 1)):
        return f"{labels[0]} to {labels[-1]}"
    return ", ".join(labels)


def tied(group: list[Run], runs: list[Run]) -> str:
    """The label of a run, or the labels of several with the same accuracies: `Sparse 0.2 to Sparse 0.6, all equal`."""
    return listed(group, runs) + ", all equal" * (len(group) > 1)


def alike_note(runs: list[Run], *names: str) -> str:
    """How coarse the accuracies `names` are, where one is the same in every seed of a run; else nothing."""
    images = {
        result["dataset"][IMAGES[name]]
        for name in names
        for run in runs
        if run.interval(name).alike
        for result in run.results
    }
    if not images:
        return ""
    share = f"one image of {min(images):,} is {100 / min(images):.2g} points"
    return f"Seeds that are alike are no certainty: they are counts, in which {share}."


def facts_of(runs: list[Run]) -> dict:
    """What the runs were computed on, in words."""
    results = [result for run in runs for result in run.results]
    return {
        "dataset": distinct(result["dataset"]["name"] for result in results),
        "classes": distinct(str(result["dataset"]["num_classes"]) for result in results),
        "epochs": wording.counted([len(result["training_history"]["time"]) for result in results], "epoch"),
        "seeds": wording.counted([len(run.results) for run in runs], "seed"),
        "device": distinct(result["device"]["name"] for result in results),
        "torch": distinct(result["versions"]["torch"] for result in results),
        "selection": distinct(wording.SELECTION[result["semantics"]] for result in results),
    }
