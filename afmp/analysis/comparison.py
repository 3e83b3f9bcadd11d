"""The comparison of a study's runs in plain text: test accuracy, difference from a reference run, cost of a step."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from afmp.analysis import wording
from afmp.analysis.metrics import (
    by_seed,
    images_per_step,
    memory_per_image,
    metric_interval,
    milliseconds_per_image,
    select,
    step_memory,
    step_milliseconds,
)
from afmp.analysis.statistics import Interval, PairedDifference, paired_difference
from afmp.errors import printable
from afmp.study.font import as_seen
from afmp.study.semantics import trained_under

NUM_WORDS = 2  # columns of words, which are flush left; numbers are flush right


class Row(NamedTuple):
    """One member of a study under one semantics: its results and those of the reference, sorted by random seed."""

    member: dict
    results: list[dict]
    reference: list[dict]

    @property
    def difference(self) -> PairedDifference | None:
        """The difference from the reference in test accuracy, in points; None for the reference itself."""
        if self.results is self.reference:
            return None
        return paired_difference(by_seed(self.results, "test_accuracy"), by_seed(self.reference, "test_accuracy"))


class Cost(NamedTuple):
    """One cost of a training step: the title of its column, its value of a result, its value per image of several."""

    title: str
    digits: int
    of: Callable[[dict], float | None]
    per_image: Callable[[list[dict]], list[float]]


COSTS = (
    Cost("ms/step", 2, step_milliseconds, milliseconds_per_image),
    Cost("peak MB", 1, step_memory, memory_per_image),
)


def comparison_text(study: dict, results: list[dict], *, reference: str, semantics: Sequence[str]) -> str:
    """Return the title of a study, a table with a line per semantics and run, and lines that say what the numbers are.

    study: one of `Study.studies`. results: those of all its runs, with the same seeds, under each of `semantics`.
    reference: the run that the others are compared with, under the same semantics. A cost that no run was measured for
    has no column. Raises AfmpError for a run without results.
    """
    rows = [row for one in semantics for row in _rows(study, results, reference=reference, semantics=one)]
    columns = [
        ["run", *map(_name, rows)],
        ["semantics", *(row.results[0]["semantics"] for row in rows)],
        ["parameters", *(wording.span([result["num_parameters"] for result in row.results]) for row in rows)],
        ["n", *(str(len(row.results)) for row in rows)],
        ["test accuracy, %", *map(_accuracy, rows)],
        ["difference, points", *map(_difference, rows)],
    ]
    if any(map(_p_value, rows)):
        columns.append(["p", *map(_p_value, rows)])
    for cost in COSTS:
        if any(_median(row.results, cost) is not None for row in rows):
            columns.append([cost.title, *(_cost(row, cost) for row in rows)])
            columns.append(["ratio", *(_ratio(row, cost) for row in rows)])
    head, *lines = aligned(columns, num_words=NUM_WORDS)
    size = len(study["members"])
    blocks = ["\n".join(lines[first : first + size]) for first in range(0, len(lines), size)]
    notes = map(printable, _notes(rows, reference, semantics))
    return "\n".join([f"{study['section']} {study['title']}".strip(), "", head, "\n\n".join(blocks), "", *notes])


def _rows(study: dict, results: list[dict], *, reference: str, semantics: str) -> list[Row]:
    found = {
        member["run"]: select(results, study, run=member["run"], semantics=trained_under(member, semantics))
        for member in study["members"]
    }
    return [Row(member, found[member["run"]], found[reference]) for member in study["members"]]


def _name(row: Row) -> str:
    label, run = row.member["label"], row.member["run"]
    return run if label == run else f"{as_seen(label)} ({run})"


def _accuracy(row: Row) -> str:
    values = by_seed(row.results, "test_accuracy").values()
    return _mean(metric_interval(row.results, "test_accuracy"), values, form="5.2f")


def _difference(row: Row) -> str:
    if row.difference is None:
        return "reference"
    of_run, of_reference = by_seed(row.results, "test_accuracy"), by_seed(row.reference, "test_accuracy")
    values = [of_run[seed] - of_reference[seed] for seed in of_run if seed in of_reference]
    return _mean(row.difference, values, form="+6.2f")


def _mean(found: Interval | PairedDifference, values: Sequence[float], *, form: str) -> str:
    """Return a mean with its interval, or with the values of the seeds if they are too few for one."""
    mean = format(found.mean, form)
    if found.n >= wording.FEWEST_SEEDS:
        return f"{mean} [{found.low:{form}}, {found.high:{form}}]"
    return mean if found.n == 1 else f"{mean} ({', '.join(format(value, form) for value in values)})"


def _p_value(row: Row) -> str:
    paired = row.difference
    if paired is None or paired.n < wording.FEWEST_SEEDS:
        return ""
    return wording.NO_P if np.isnan(paired.p_value) else f"{paired.p_value:#.2g}"


def _median(results: list[dict], cost: Cost) -> float | None:
    """Return the median of a cost over the seeds of a run; None unless it was measured for each."""
    values = [cost.of(result) for result in results]
    return None if None in values else float(np.median(values))


def _cost(row: Row, cost: Cost) -> str:
    median = _median(row.results, cost)
    return "not measured" if median is None else f"{median:,.{cost.digits}f}"


def _ratio(row: Row, cost: Cost) -> str:
    """Return reference / run, per image; nothing if one of both was not measured, or on another device."""
    both = [row.reference, row.results]
    if any(_median(results, cost) is None for results in both) or len(_devices(row.reference + row.results)) > 1:
        return ""
    # Per image, because runs may have batches of different sizes.
    of_reference, of_run = (np.median(cost.per_image(results)) for results in both)
    return f"{of_reference / of_run:.2f}"


def _devices(results: list[dict]) -> set[str]:
    """Return the devices on which steps were measured: before training, so those that began it."""
    return {result["trained_by"][0]["device"]["name"] for result in results if "step" in result}


def aligned(columns: list[list[str]], *, num_words: int) -> Iterator[str]:
    """Yield the lines of a table, given its columns. The first `num_words` are flush left."""
    widths = [max(map(len, column)) for column in columns]
    for cells in zip(*columns, strict=True):
        padded = [
            cell.ljust(width) if number < num_words else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        yield "  ".join(padded).rstrip()


def _notes(rows: list[Row], reference: str, semantics: Sequence[str]) -> Iterator[str]:
    """Yield what the numbers are, what they were computed on, how the best epoch is chosen, and what a cost is."""
    results = [result for row in rows for result in row.results]
    yield f"Test accuracy at the best epoch: {_numbers(max(len(row.results) for row in rows))}"
    p_values = [_p_value(row) for row in rows]
    yield (
        f"Difference: run minus {reference}, paired by random seed, {wording.UNCORRECTED}."
        + " p: paired t test." * any(p_values)
        + f" p is {wording.NO_P} where the difference is equal for all seeds." * (wording.NO_P in p_values)
    )
    parts = [part for result in results for part in result["trained_by"]]
    yield (
        f"Test set: {wording.counted([result['dataset']['num_test'] for result in results], 'image')} of "
        f"{wording.distinct(result['dataset']['name'] for result in results)}. "
        f"Device: {wording.distinct(part['device']['name'] for part in parts)}. "
        f"Commit: {wording.distinct(wording.commit(part['versions']) for part in parts)}."
    )
    for name in semantics:
        yield f"{name} semantics: {wording.validation_words(name).selection}"
    measured = [result for result in results if "step" in result]
    if measured:
        yield from _cost_notes(measured)


def _numbers(count: int) -> str:
    if count >= wording.FEWEST_SEEDS:
        return "mean [95 % Student t interval] over n random seeds."
    return "mean (value of each random seed), no interval." if count > 1 else "one random seed, no interval."


def _cost_notes(measured: list[dict]) -> Iterator[str]:
    steps = wording.span([result["step"]["milliseconds"]["n"] for result in measured])
    images = wording.span([images_per_step(result) for result in measured])
    yield (
        f"ms/step: one model alone trains on {images} images; the median over seeds of each seed's median of {steps} "
        "steps."
    )
    if any(step_memory(result) is not None for result in measured):
        yield f"peak MB: peak memory of such a step without the dataset, the median over seeds. {wording.MEGABYTE}"
    yield (
        "ratio: reference / run, per image; above 1, the run takes less."
        + " Costs on different devices have no ratio." * (len(_devices(measured)) > 1)
        + " Jobs may have shared the CPU, so compare times only roughly."
        * any(result["trained_by"][0]["device"]["type"] == "cpu" for result in measured)
    )
