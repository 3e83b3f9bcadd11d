"""The seed's four panels for any study: accuracy, training loss, sparsity loss, time per epoch, over seeds.

A study of a user's own is drawn here as it stands; the seed's three set titles and scales and come here.
"""

import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from afmp.errors import AfmpError
from afmp.figures import style, wording
from afmp.statistics import (
    Interval,
    by_seed,
    distinct,
    mean_and_interval,
    metric_interval,
    paired_difference,
    select,
)


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

    def interval(self, name: str) -> Interval:
        """Mean of one summary metric over the seeds, with its interval."""
        return metric_interval(self.results, name)


def draw(study: dict, results) -> Figure:
    """The four panels of one study under one semantics."""
    return draw_study(study, results, title=study["title"])


@style.house
def draw_study(study: dict, results, *, title: str, sparsity_scale: str = "linear") -> Figure:
    """The four panels under `title`; `sparsity_scale`, linear or log, is that of the sparsity loss."""
    runs, semantics = study_runs(study, results)
    entries, read = _legend_texts(runs, semantics)
    columns = 2 if len(runs) > 1 and max(map(len, entries)) <= 64 else 1
    lines = sum(entry.count("\n") + 1 for entry in entries)
    legend_height = 0.35 + 0.24 * -(-lines // columns)
    panel_height = max(3.6, 0.22 * len(runs))
    figure = style.new_figure(12, 1.2 + legend_height + 2 * panel_height)
    style.head(
        figure,
        f"{study['section']} {title}".strip(),
        subtitle=f"{semantics} semantics: {wording.MEANING[semantics]}",
    )
    grid = figure.add_gridspec(3, 2, height_ratios=[legend_height, panel_height, panel_height])
    legend, accuracy, loss, sparsity, time = (
        figure.add_subplot(place) for place in (grid[0, :], grid[1, 0], grid[1, 1], grid[2, 0], grid[2, 1])
    )
    cut = [
        _draw_curves(accuracy, runs, "val_acc", floor=-1.5, ceiling=101.5),
        _draw_curves(loss, runs, "train_loss"),
        _draw_curves(sparsity, runs, "sparsity_loss", scale=sparsity_scale),
        _draw_times(time, runs),
    ]
    accuracy.set(title=wording.ACCURACY_TITLE[semantics], ylabel=wording.ACCURACY_AXIS[semantics])
    loss.set(title="Training loss", ylabel="Cross entropy + sparsity loss, nats")
    sparsity.set(title="Sparsity loss", ylabel=f"λ × mean |gate|{', log scale' * (sparsity.get_yscale() == 'log')}")
    _note_zero_runs(sparsity, runs)
    legend.set_axis_off()
    handles, _ = accuracy.get_legend_handles_labels()
    layout = {"loc": "center", "ncols": columns, "handlelength": 3.2, "columnspacing": 2.5}
    legend.legend(handles, entries, title=read, title_fontsize=9.5, **layout)
    style.foot(figure, _footer(runs, cut=any(cut)))
    return figure


def study_runs(study: dict, results) -> tuple[list[Run], str]:
    """The study's runs with their results, and the one semantics they share."""
    members = [Run(m["run"], m["label"], select(results, study, run=m["run"])) for m in study["members"]]
    meanings = {result["semantics"] for run in members for result in run.results}
    if len(meanings) > 1:
        raise AfmpError(
            f"study {study['name']}: results of {sorted(meanings)} given to one figure; give one semantics."
        )
    return members, meanings.pop()


def draw_curve(axis, values: np.ndarray, *, label: str, look: dict, index: int) -> Interval:
    """A run's mean over its seeds, from (seeds, epochs), with a band where there is an interval."""
    interval = mean_and_interval(values)
    epochs = np.arange(1, values.shape[1] + 1)
    markevery = style.mark_every(values.shape[1], index)
    axis.plot(epochs, interval.mean, label=label, markevery=markevery, zorder=3, **look)
    if interval.n > 1:
        band = (epochs, interval.low, interval.high)
        axis.fill_between(*band, color=look["color"], alpha=0.16, linewidth=0, gid=f"band: {label}")
        if values.shape[1] == 1:
            # A band over one epoch has no width to be seen.
            axis.errorbar(epochs, interval.mean, yerr=interval.half, color=look["color"], capsize=4, linewidth=1.2)
    return interval


def _draw_curves(
    axis, runs, key: str, *, scale: str = "linear", floor: float = -np.inf, ceiling: float = np.inf
) -> bool:
    curves = [run.curve(key) for run in runs]
    if scale == "log" and not any((curve > 0).any() for curve in curves):
        scale = "linear"  # every run is at 0, which a log axis cannot show
    axis.set_yscale(scale)
    intervals = [
        draw_curve(axis, curve, label=run.label, look=style.run_style(index), index=index)
        for index, (run, curve) in enumerate(zip(runs, curves, strict=True))
    ]
    style.epoch_axis(axis, max(curve.shape[1] for curve in curves))
    low, high = [i.low for i in intervals], [i.high for i in intervals]
    cut = style.value_limits(axis, curves, low=low, high=high, floor=floor, ceiling=ceiling)
    if axis.get_yscale() == "linear":
        formatter = ScalarFormatter(useMathText=True)
        formatter.set_powerlimits((-2, 4))
        axis.yaxis.set_major_formatter(formatter)
    return cut


def _note_zero_runs(axis, runs) -> None:
    zero = [run.label for run in runs if not run.curve("sparsity_loss").any()]
    if not zero:
        return
    on_log_axis = axis.get_yscale() == "log"
    where = "not on a log axis" if on_log_axis else "the line at 0"
    axis.annotate(
        textwrap.fill(f"0 at every epoch ({where}): {', '.join(zero)}", 60, max_lines=2, placeholder=" …"),
        (0.98, 0.02 if on_log_axis else 0),
        (0, 8),
        xycoords=("axes fraction", "axes fraction" if on_log_axis else "data"),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=9,
        color="#333333",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        zorder=4,
    )


def _draw_times(axis, runs) -> bool:
    intervals = [run.interval("epoch_time_s") for run in runs]
    rows = np.arange(len(runs))
    longest = max(interval.mean for interval in intervals)
    ends = [min(wording.bar_end(interval), 1.6 * longest) for interval in intervals]
    for row, run, interval, end in zip(rows, runs, intervals, ends, strict=True):
        colour = style.run_style(int(row))["color"]
        axis.barh(row, interval.mean, height=0.62, color=colour, alpha=0.75, gid=f"time: {run.label}")
        if interval.n > 1:
            axis.errorbar(interval.mean, row, xerr=interval.half, color="#222222", capsize=4, linewidth=1.2)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
        text = wording.quantity(interval, unit="s")
        axis.annotate(text, (end, row), (6, 0), textcoords="offset points", va="center", fontsize=9, bbox=box)
    axis.set_yticks(rows, [wording.short(run.label, lines=2 if len(runs) <= 8 else 1) for run in runs])
    axis.set_ylim(len(runs) - 0.4, -0.6)
    axis.set_xlim(0, max(ends) * 1.35)
    axis.grid(visible=False, axis="y")
    one_epoch = all(len(r["training_history"]["time"]) == 1 for run in runs for r in run.results)
    axis.set(
        title="Time per training epoch",
        xlabel=f"Mean time per epoch{'' if one_epoch else ', the first left out'}, s",
    )
    return any(
        interval.n > 1 and wording.bar_end(interval) > end for interval, end in zip(intervals, ends, strict=True)
    )


def _legend_texts(runs, semantics: str) -> tuple[list[str], str]:
    """An entry per run with its best accuracy, and the heading that says how to read them."""
    counts = [len(run.results) for run in runs]
    entries = []
    for run in runs:
        entry = f"{run.label}: {wording.with_interval(run.interval('best_val_accuracy'))}"
        if semantics == "paper":
            entry += f" (test {wording.with_interval(run.interval('test_accuracy'))})"
        if min(counts) != max(counts):
            entry += f", n\u00a0=\u00a0{len(run.results)}{', no interval' * (len(run.results) == 1)}"
        entries.append(textwrap.fill(entry, 120))
    read = "best test accuracy"
    if semantics == "paper":
        read = "best validation accuracy (and test accuracy at that epoch)"
    if max(counts) == 1:
        return entries, f"{read}; n = 1, no interval"
    over = f"; n = {counts[0]} seeds" if min(counts) == max(counts) else " over n seeds"
    return entries, f"{read}, mean ± half of the 95 % interval{over}"


def _equal_runs(runs) -> list[list[Run]]:
    """Groups of runs that have the same numbers in every seed and epoch: one model under several names."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        numbers = [
            (result["seed"], result["test_accuracy"], result["training_history"] | {"time": None})
            for result in run.results
        ]
        groups.setdefault(repr(numbers), []).append(run)
    return [group for group in groups.values() if len(group) > 1]


def _labels(runs) -> str:
    return ", ".join(run.label for run in runs)


def _times_note(runs) -> str:
    """What a time was shared with: the other seeds of its run, the other runs on its device."""
    results = [result for run in runs for result in run.results]
    sentences = []
    if any(len(result["trained_together"]) > 1 for result in results):
        sentences.append("Times: a run's seeds trained as one stack and share its seconds, measured once.")
    if beside := max(len(result["trained_beside"]) for result in results):
        others = wording.counted([beside], "other run")
        sentences.append(f"Up to {others} trained on the device meanwhile, so times do not compare runs.")
    return " ".join(sentences)


def _facts(runs) -> dict:
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


def _footer(runs, *, cut: bool) -> list[str]:
    facts = _facts(runs)
    counts = [len(run.results) for run in runs]
    if max(counts) == 1:
        interval = "n = 1, no interval: one seed a run."
    else:
        bars = any(run.interval("epoch_time_s").n > 1 for run in runs)
        interval = f"Line: mean over seeds; band{' and error bar' * bars}: 95 % Student t interval over seeds."
        if min(counts) == 1:
            interval += " A run with n = 1 has no interval."
        if cut:
            interval += " Intervals are cut where they would leave the panel."
    return [
        f"Dataset {facts['dataset']}, {facts['classes']} classes; {facts['seeds']}, {facts['epochs']} a run; "
        f"{facts['device']}, torch {facts['torch']}. {facts['selection']}",
        interval,
        _times_note(runs),
        *[
            f"Lines that coincide, as their runs are equal in every seed and epoch: {_labels(g)}."
            for g in _equal_runs(runs)
        ],
    ]


def caption(study: dict, results, *, question: str = "") -> str:
    """The figure in a few sentences of reStructuredText, from the results; `question` is the study's."""
    runs, semantics = study_runs(study, results)
    facts = _facts(runs)
    scores = {run.name: run.interval("test_accuracy") for run in runs}
    best = max(runs, key=lambda run: scores[run.name].mean)
    reference = next(run for run in runs if run.name == study["reference"])
    others = sorted((run for run in runs if run.name != reference.name), key=lambda run: -scores[run.name].mean)
    sentences = [
        f"{question or study['title'] + '.'} "
        f"{semantics.capitalize()} semantics ({wording.MEANING[semantics]}), "
        f"dataset {facts['dataset']}, {facts['seeds']}, {facts['epochs']}, on {facts['device']}.",
        f"Highest mean test accuracy: {best.label}, {wording.with_interval(scores[best.name])}"
        + (" (n = 1, no interval)." if scores[best.name].n == 1 else f" (n = {scores[best.name].n})."),
    ]
    for group in _equal_runs(runs):
        sentences.append(f"Equal to the last digit in every seed and epoch: {_labels(group)}.")
    if others:
        sentences.append(_against_reference(reference, others))
    sentences.append(wording.SELECTION[semantics])
    return wording.restructured(" ".join(sentences))


def _against_reference(reference: Run, others) -> str:
    """The best of the other runs against the reference, and how many of them differ beyond their interval."""
    name = "test_accuracy"
    pairs = [paired_difference(by_seed(run.results, name), by_seed(reference.results, name)) for run in others]
    text = (
        f"Against the reference {reference.label}, the best of the other runs, {others[0].label}, "
        f"differs by {wording.difference(pairs[0])}"
    )
    known = [pair.excludes_zero for pair in pairs if pair.excludes_zero is not None]
    if len(known) > 1:
        text += f"; the interval excludes 0 for {sum(known)} of the {len(known)} other runs"
    return f"{text}."
