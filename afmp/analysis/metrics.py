"""Metrics: the numbers of a result file that tables and figures summarise over random seeds.

Seeds that trained together as one stack share its seconds. Their times are one measurement and have no interval.
"""

import numpy as np

from afmp.analysis.statistics import Interval, mean_and_interval
from afmp.errors import AfmpError

SUMMARY_METRICS = ("test_accuracy", "best_val_accuracy", "best_epoch", "epoch_time_s", "wall_time_s")
TIME_METRICS = ("epoch_time_s", "wall_time_s")
DIFFERENCE_METRICS = ("test_accuracy", "best_val_accuracy")


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
