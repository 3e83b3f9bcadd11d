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
    """Return mean seconds per epoch without the first epoch, which includes start-up, unless it is the only one."""
    times = result["training_history"]["time"]
    return float(np.mean(times[1:] or times))


def metric(result: dict, name: str) -> float:
    """Return one of SUMMARY_METRICS of one result."""
    return epoch_time(result) if name == "epoch_time_s" else float(result[name])


def metric_values(results: list[dict], name: str) -> list[float]:
    """Return one of SUMMARY_METRICS of a run: one value per result, or for times one value per stack."""
    values = [metric(result, name) for result in results]
    if name not in TIME_METRICS:
        return values
    stacks: dict[tuple, list[float]] = {}
    for result, value in zip(results, values, strict=True):
        stacks.setdefault(tuple(result["trained_together"]), []).append(value)
    return [float(np.mean(stack)) for stack in stacks.values()]


def step_milliseconds(result: dict) -> float | None:
    """Return the time of a training step of one model alone, in ms, the median of its steps; None if not measured."""
    return result["step"]["milliseconds"]["median"] if "step" in result else None


def step_memory(result: dict) -> float | None:
    """Return peak memory of a training step of one model alone, in MB of 2^20 bytes; None if not measured.

    Memory is measured on CUDA only.
    """
    return result["step"]["memory_mb"] if "step" in result else None


def milliseconds_per_image(results: list[dict]) -> list[float]:
    """Return `step_milliseconds` per image of a step; nothing of what was not measured."""
    return [time / images_per_step(result) for result in results if (time := step_milliseconds(result)) is not None]


def memory_per_image(results: list[dict]) -> list[float]:
    """Return `step_memory` per image of a step; nothing of what was not measured."""
    return [memory / images_per_step(result) for result in results if (memory := step_memory(result)) is not None]


def images_per_step(result: dict) -> int:
    """Return the images of a training step of a full batch."""
    return min(result["config"]["training"]["batch_size"], result["dataset"]["num_train"])


def metric_interval(results: list[dict], name: str) -> Interval:
    """Return mean and interval of one of SUMMARY_METRICS over the results of a run; for times over its stacks."""
    return mean_and_interval(metric_values(results, name))


def by_seed(results: list[dict], name: str) -> dict[int, float]:
    """Return {random seed: metric `name`} of the results of one run."""
    return {result["seed"]: metric(result, name) for result in results}


def select(results: list[dict], study: dict, *, run: str, semantics: str | None = None) -> list[dict]:
    """Return the results of one run, sorted by random seed. Raises AfmpError if there are none."""
    selected = [r for r in results if r["run"] == run and semantics in (None, r["semantics"])]
    if not selected:
        under = f" under {semantics} semantics" if semantics else ""
        raise AfmpError(
            f"study {study['name']}: run {run!r} has no results{under}; train it, or remove it from the study's runs."
        )
    return sorted(selected, key=lambda result: result["seed"])
