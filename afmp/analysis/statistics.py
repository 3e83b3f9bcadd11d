"""Tables of a study: every epoch, means with 95 % intervals over seeds, and differences paired by seed.

Intervals are Student t over seeds. One seed has no interval and no standard deviation: those stay NaN in
the tables, empty in the files, and are never written as 0. Nor have the times of seeds that trained as one stack: they
share its seconds, which were measured once.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from afmp.errors import AfmpError

SEMANTICS = ("paper", "notebook")
HISTORY_COLUMNS = {
    "train_loss": "train_loss",
    "train_acc": "train_acc",
    "val_acc": "val_acc",
    "sparsity_loss": "sparsity_loss",
    "time": "time_s",
}
SUMMARY_METRICS = ("test_accuracy", "best_val_accuracy", "best_epoch", "epoch_time_s", "wall_time_s")
TIME_METRICS = ("epoch_time_s", "wall_time_s")
DIFFERENCE_METRICS = ("test_accuracy", "best_val_accuracy")


class Interval(NamedTuple):
    """A mean over n seeds, its standard deviation (ddof 1) and 95 % Student t interval; NaN where n < 2."""

    mean: float | np.ndarray
    std: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray
    n: int

    @property
    def half(self) -> float | np.ndarray:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def alike(self) -> bool:
        """Whether all of two or more values are the same, so that an interval of their mean has no width."""
        return self.n > 1 and bool(self.std < 1e-9)  # the deviation of equal floats need not be 0 to the last bit


class PairedDifference(NamedTuple):
    """Mean of (value - reference) over the n seeds that both have, the interval, the paired t test's p."""

    mean: float
    std: float
    low: float
    high: float
    n: int
    p_value: float

    @property
    def excludes_zero(self) -> bool | None:
        """Whether the 95 % interval leaves out 0; None when there is no interval (fewer than two pairs)."""
        return None if np.isnan(self.low) else not self.low <= 0 <= self.high


def mean_and_interval(values, axis: int = 0) -> Interval:
    """Mean, standard deviation and 95 % Student t interval of `values` along `axis` (the seeds).

    Raises AfmpError if there is nothing to average.
    """
    values = np.asarray(values, dtype=np.float64)
    n = values.shape[axis]
    if n == 0:
        raise AfmpError("A mean over 0 seeds was asked for; at least one result is needed.")
    mean = values.mean(axis=axis)
    if n == 1:
        nothing = np.full_like(mean, np.nan)
        return Interval(mean, nothing, nothing, nothing, n)
    std = values.std(axis=axis, ddof=1)
    half = stats.t.ppf(0.975, n - 1) * std / np.sqrt(n)
    return Interval(mean, std, mean - half, mean + half, n)


def paired_difference(values: Mapping, reference: Mapping) -> PairedDifference:
    """Difference of two runs, {seed: value} each, over the seeds that both have."""
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return PairedDifference(*[float("nan")] * 4, 0, float("nan"))
    # Rounded far below what an accuracy can resolve, or equal differences would vary in their last bits.
    differences = [round(values[seed] - reference[seed], 9) for seed in seeds]
    mean, std, low, high, n = mean_and_interval(differences)
    # Differences that are alike in every seed divide by 0: no p-value, which NaN says, rather than certainty.
    p_value = 2 * stats.t.sf(np.abs(mean / (std / np.sqrt(n))), n - 1) if n > 1 and std > 0 else float("nan")
    return PairedDifference(float(mean), float(std), float(low), float(high), n, float(p_value))


def epoch_time(result: dict) -> float:
    """Mean seconds per epoch without the first, which pays for start-up; with it if there is no other."""
    times = result["training_history"]["time"]
    return float(np.mean(times[1:] or times))


def metric(result: dict, name: str) -> float:
    """One number of SUMMARY_METRICS from one result."""
    return epoch_time(result) if name == "epoch_time_s" else float(result[name])


def metric_values(results, name: str) -> list[float]:
    """One of SUMMARY_METRICS of every result of a run, or of a time, of every stack.

    Seeds that trained together share the seconds of their stack in equal parts: that is one measurement.
    """
    values = [metric(result, name) for result in results]
    if name not in TIME_METRICS:
        return values
    stacks: dict[tuple, list[float]] = {}
    for result, value in zip(results, values, strict=True):
        stacks.setdefault(tuple(result["trained_together"]), []).append(value)
    return [float(np.mean(stack)) for stack in stacks.values()]


def metric_interval(results, name: str) -> Interval:
    """Mean of one of SUMMARY_METRICS over the results of a run, with its interval.

    Of times n is the number of stacks: one stack has no interval however many seeds it held.
    """
    return mean_and_interval(metric_values(results, name))


def by_seed(results, name: str) -> dict[int, float]:
    """{seed: metric `name`} of the results of one run."""
    return {result["seed"]: metric(result, name) for result in results}


def select(results, study: dict, *, run: str, semantics: str | None = None) -> list[dict]:
    """The results of one run, in order of seed; if there are none, an AfmpError that names study and run."""
    found = [r for r in results if r["run"] == run and semantics in (None, r["semantics"])]
    if not found:
        meaning = f" under {semantics} semantics" if semantics else ""
        raise AfmpError(
            f"study {study['name']}: run {run!r} has no results{meaning}; train it, or take it out of the study's runs."
        )
    return sorted(found, key=lambda result: result["seed"])


def epochs_table(results) -> pd.DataFrame:
    """Tidy table, a row per (semantics, run, seed, epoch): epochs from 1, accuracies in %, times in s."""
    keys = ["semantics", "run", "seed", "epoch"]
    frames = [
        pd.DataFrame(
            {
                "semantics": result["semantics"],
                "run": result["run"],
                "seed": result["seed"],
                "epoch": np.arange(1, len(result["training_history"]["time"]) + 1),
                **{column: result["training_history"][key] for key, column in HISTORY_COLUMNS.items()},
            }
        )
        for result in _in_order(results)
    ]
    columns = [*keys, *HISTORY_COLUMNS.values()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def summary_table(results, studies) -> pd.DataFrame:
    """One row per (semantics, study, run): n, each metric's mean, std and interval, what it ran on."""
    rows = []
    for semantics, study in _semantics_and_studies(results, studies):
        for member in study["members"]:
            found = select(results, study, run=member["run"], semantics=semantics)
            row = {
                "semantics": semantics,
                "study": study["name"],
                "run": member["run"],
                "label": member["label"],
                "n": len(found),
            }
            for name in SUMMARY_METRICS:
                interval = metric_interval(found, name)
                row[f"{name}_mean"], row[f"{name}_std"] = float(interval.mean), float(interval.std)
                row[f"{name}_ci95_low"], row[f"{name}_ci95_high"] = float(interval.low), float(interval.high)
            row["num_parameters"] = distinct(str(result["num_parameters"]) for result in found)
            row["dataset"] = distinct(result["dataset"]["name"] for result in found)
            row["device"] = distinct(result["device"]["name"] for result in found)
            rows.append(row)
    return pd.DataFrame(rows)


def differences_table(results, studies) -> pd.DataFrame:
    """One row per (semantics, study, run but the reference, metric): run minus reference, paired by seed.

    A seed that one side lacks is left out of the pairs; `n_pairs` says how many remain. The unit is the
    percentage point.
    """
    rows = []
    for semantics, study in _semantics_and_studies(results, studies):
        reference = select(results, study, run=study["reference"], semantics=semantics)
        for member in study["members"]:
            if member["run"] == study["reference"]:
                continue
            found = select(results, study, run=member["run"], semantics=semantics)
            for name in DIFFERENCE_METRICS:
                difference = paired_difference(by_seed(found, name), by_seed(reference, name))
                rows.append(
                    {
                        "semantics": semantics,
                        "study": study["name"],
                        "run": member["run"],
                        "label": member["label"],
                        "reference": study["reference"],
                        "metric": name,
                        "n_pairs": difference.n,
                        "mean_difference": difference.mean,
                        "std": difference.std,
                        "ci95_low": difference.low,
                        "ci95_high": difference.high,
                        "p_value": difference.p_value,
                    }
                )
    columns = ["semantics", "study", "run", "label", "reference", "metric", "n_pairs", "mean_difference"]
    return pd.DataFrame(rows, columns=[*columns, "std", "ci95_low", "ci95_high", "p_value"])


def distinct(values) -> str:
    """The different values in order of first appearance, joined for a cell or a footer."""
    return "; ".join(dict.fromkeys(values))


def _in_order(results) -> list[dict]:
    # The order in which files were found must not show in a table.
    def key(result):
        return SEMANTICS.index(result["semantics"]), result["run"], result["seed"]

    ordered = sorted(results, key=key)
    for one, other in pairwise(ordered):
        if key(one) == key(other):
            raise AfmpError(
                f"run {one['run']!r}, seed {one['seed']}, {one['semantics']} semantics: given twice; "
                "give each result once."
            )
    return ordered


def _semantics_and_studies(results, studies):
    present = {result["semantics"] for result in _in_order(results)}
    return [(semantics, study) for semantics in SEMANTICS if semantics in present for study in studies]
