"""The seed's four panels for any study: accuracy, training loss, sparsity loss, time per epoch, over seeds.

A study of a user's own is drawn here as it stands; the seed's three set titles and scales and come here.
"""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from afmp.analysis import wording
from afmp.analysis.metrics import by_seed
from afmp.analysis.statistics import mean_and_interval, paired_difference
from afmp.figures.parts import style
from afmp.figures.parts.study_runs import Run, alike_note, equal_runs, facts_of, leaders, listed, study_runs, tied


def draw(study: dict, results: list[dict]) -> Figure:
    """The four panels of one study under one semantics."""
    return draw_study(study, results, title=study["title"])


@style.house
def draw_study(study: dict, results: list[dict], *, title: str, sparsity_scale: str = "linear") -> Figure:
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
        _draw_curves(accuracy, runs, "val_acc", floor=0, ceiling=100),
        _draw_curves(loss, runs, "train_loss", floor=0),
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
    style.foot(figure, _footer(runs, semantics, cut=any(cut)))
    return figure


def draw_curve(axis, values: np.ndarray, *, label: str, look: dict, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A run's mean over its seeds, from (seeds, epochs), with a band, or with a thin line a seed where there are two.

    Returns the lower and the upper end of the band, NaN where none is drawn.
    """
    interval = mean_and_interval(values)
    epochs = np.arange(1, values.shape[1] + 1)
    markevery = style.mark_every(values.shape[1], index)
    axis.plot(epochs, interval.mean, label=label, markevery=markevery, zorder=3, **look)
    if interval.n == 2:
        thin = look | {"linewidth": 0.8, "alpha": 0.6, "marker": "." if values.shape[1] == 1 else None}
        for seed in values:
            axis.plot(epochs, seed, gid=f"seed: {label}", **thin)
    if interval.n >= wording.FEWEST_SEEDS:
        band = (epochs, interval.low, interval.high)
        axis.fill_between(*band, color=look["color"], alpha=0.16, linewidth=0, gid=f"band: {label}")
        if values.shape[1] == 1:
            # A band over one epoch has no width to be seen.
            axis.errorbar(epochs, interval.mean, yerr=interval.half, color=look["color"], capsize=4, linewidth=1.2)
        return interval.low, interval.high
    return np.full(len(epochs), np.nan), np.full(len(epochs), np.nan)


def _draw_curves(
    axis, runs, key: str, *, scale: str = "linear", floor: float = -np.inf, ceiling: float = np.inf
) -> bool:
    curves = [run.curve(key) for run in runs]
    if scale == "log" and not any((curve > 0).any() for curve in curves):
        scale = "linear"  # every run is at 0, which a log axis cannot show
    axis.set_yscale(scale)
    bands = [
        draw_curve(axis, curve, label=run.label, look=style.run_style(index), index=index)
        for index, (run, curve) in enumerate(zip(runs, curves, strict=True))
    ]
    style.epoch_axis(axis, max(curve.shape[1] for curve in curves))
    low, high = zip(*bands, strict=True)
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
    tips = [
        float(interval.high) if interval.n >= wording.FEWEST_SEEDS else max(run.values("epoch_time_s"))
        for run, interval in zip(runs, intervals, strict=True)
    ]
    ends = [min(tip, 1.6 * longest) for tip in tips]
    for row, run, interval, end in zip(rows, runs, intervals, ends, strict=True):
        colour = style.run_style(int(row))["color"]
        # Pale enough for what is drawn on it to be seen on each colour, black among them.
        axis.barh(row, interval.mean, height=0.62, color=colour, alpha=0.5, gid=f"time: {run.label}")
        if interval.n >= wording.FEWEST_SEEDS:
            axis.errorbar(interval.mean, row, xerr=interval.half, color=style.DARK, capsize=4, linewidth=1.2)
        elif interval.n == 2:
            dots = {"linestyle": "none", "marker": "o", "markersize": 4, "gid": f"times: {run.label}"}
            axis.plot(run.values("epoch_time_s"), [row, row], color=style.DARK, **dots)
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
    return any(tip > end for tip, end in zip(tips, ends, strict=True))


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


def _times_note(runs) -> str:
    """What a time was shared with: the other seeds of its run, the other runs on its device."""
    results = [result for run in runs for result in run.results]
    sentences = []
    if any(len(result["trained_together"]) > 1 for result in results):
        sentences.append("Times: a run's seeds trained as one stack and share its seconds, measured once.")
    if any(run.interval("epoch_time_s").n == 2 for run in runs):
        sentences.append("Dots: the two times behind a bar.")
    if beside := max(len(result["trained_beside"]) for result in results):
        others = wording.counted([beside], "other run")
        sentences.append(f"Up to {others} trained on the device meanwhile, so times do not compare runs.")
    elif any(result["device"]["type"] == "cpu" for result in results):
        sentences.append("Times: of jobs that may have shared the CPU's caches, so they compare runs roughly.")
    return " ".join(sentences)


def _footer(runs, semantics: str, *, cut: bool) -> list[str]:
    facts = facts_of(runs)
    bars = any(run.interval("epoch_time_s").n >= wording.FEWEST_SEEDS for run in runs)
    interval = wording.over_seeds(
        [len(run.results) for run in runs],
        middle="Line",
        spread=f"band{' and error bar' * bars}",
        seeds="Thin lines",
    )
    shown = ["best_val_accuracy"] + ["test_accuracy"] * (semantics == "paper")
    return [
        f"Dataset {facts['dataset']}, {facts['classes']} classes; {facts['seeds']}, {facts['epochs']} a run; "
        f"{facts['device']}, torch {facts['torch']}. {facts['selection']}",
        interval + " Intervals are cut where they would leave the panel." * cut,
        _times_note(runs),
        *[
            f"Lines that coincide, as their runs are equal in every seed and epoch: {listed(group, runs)}."
            for group in equal_runs(runs)
        ],
        alike_note(runs, *shown),
    ]


def caption(study: dict, results: list[dict], *, question: str = "") -> str:
    """The figure in a few sentences of reStructuredText, from the results; `question` is the study's."""
    runs, semantics = study_runs(study, results)
    facts = facts_of(runs)
    reference = next(run for run in runs if run.name == study["reference"])
    others = [run for run in runs if run.name != reference.name]
    sentences = [
        f"{question or study['title'] + '.'} "
        f"{semantics.capitalize()} semantics ({wording.MEANING[semantics]}), "
        f"dataset {facts['dataset']}, {facts['seeds']}, {facts['epochs']}, on {facts['device']}.",
        f"Highest mean test accuracy: {'; '.join(_highest(group, runs) for group in leaders(runs))}.",
    ]
    for group in equal_runs(runs):
        sentences.append(f"Equal to the last digit in every seed and epoch: {listed(group, runs)}.")
    if others:
        sentences.append(_against_reference(reference, others))
    sentences += [alike_note(runs, "test_accuracy"), wording.SELECTION[semantics]]
    return wording.restructured(" ".join(filter(None, sentences)))


def _highest(group: list[Run], runs: list[Run]) -> str:
    score = group[0].interval("test_accuracy")
    alone = ", no interval" * (score.n == 1)
    return f"{tied(group, runs)}, {wording.with_interval(score)} (n = {score.n}{alone})"


def _against_reference(reference: Run, others: list[Run]) -> str:
    """The best of the other runs against the reference, and how many of them differ beyond their interval."""
    pairs = {
        run.name: paired_difference(by_seed(run.results, "test_accuracy"), by_seed(reference.results, "test_accuracy"))
        for run in others
    }
    found = "; ".join(
        f"{tied(group, others)}, differ{'s' * (len(group) == 1)} by {wording.difference(pairs[group[0].name])}"
        for group in leaders(others)
    )
    text = f"Against the reference {reference.label}, the best of the other runs, {found}"
    known = [pair.excludes_zero for pair in pairs.values() if pair.excludes_zero is not None]
    if len(known) > 1:
        text += f"; the interval excludes 0 for {sum(known)} of the {len(known)} other runs, {wording.UNCORRECTED}"
    return f"{text}."
