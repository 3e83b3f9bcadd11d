"""Figure messages: the test accuracy of every run of a study, and its differences from the runs it is compared with."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from afmp.analysis import wording
from afmp.analysis.metrics import by_seed
from afmp.analysis.statistics import PairedDifference, paired_difference
from afmp.figures.parts import palette, study_text, style
from afmp.figures.parts.study_runs import StudyRun, other_references, resolution_note, study_runs


class Row(NamedTuple):
    """One row of a panel: its mean, half of its interval (NaN without one), the value of each seed, and its texts."""

    mean: float
    half: float
    values: list[float]
    text: str
    note: str = ""


@style.styled
def draw(study: dict, results: list[dict]) -> Figure:
    """Draw one row per run: test accuracy on the left, run minus reference, paired by random seed, beside it.

    A third panel has the differences of the runs that say `compare_with` from the runs that they name.
    """
    runs, semantics = study_runs(study, results)
    reference = next(run for run in runs if run.name == study["reference"])
    others = other_references(study, runs)
    title = wording.fill(f"Difference from {reference.label}", 50, max_lines=1, placeholder=" …")
    rows = [None if run is reference else _difference(run, reference) for run in runs]
    panels = [(title, "Run minus reference, percentage points", rows)]
    if any(others):
        pairs = zip(runs, others, strict=True)
        rows = [_difference(run, other, named=True) if other else None for run, other in pairs]
        panels.append(("Other differences", "Run minus the named one, percentage points", rows))
    figure = style.new_figure(8 + 4 * len(panels), 2.6 + 0.36 * len(runs))
    style.add_title(figure, study_text.title(study), subtitle=wording.in_words(semantics))
    accuracy, *axes = figure.subplots(1, 1 + len(panels), sharey=True, width_ratios=[1.15, *[1] * len(panels)])
    cut = [_draw_rows(accuracy, [_accuracy(run) for run in runs], floor=0, ceiling=100)]
    accuracy.set(title="Test accuracy", xlabel="Test accuracy at the best epoch, %")
    accuracy.set_yticks(range(len(runs)), [wording.shortened(run.label, lines=2) for run in runs], fontsize=9)
    accuracy.set_ylim(len(runs) - 0.45, -0.55)
    for axis, (title, label, rows) in zip(axes, panels, strict=True):
        cut.append(_draw_rows(axis, rows, shown=[0]))
        axis.axvline(0, color=palette.GREY, linewidth=1)
        axis.set(title=title, xlabel=label)
    style.add_footer(figure, _footer(runs, semantics, cut=any(cut)))
    return figure


def caption(study: dict, results: list[dict]) -> str:
    """Return the caption in reStructuredText, from the results themselves."""
    return study_text.study_caption(study, results, question=f"{study['title']}.")


def _accuracy(run: StudyRun) -> Row:
    interval = run.interval("test_accuracy")
    text = wording.with_interval(interval, unit="")
    return Row(float(interval.mean), float(interval.half), run.values("test_accuracy"), text)


def _difference(run: StudyRun, reference: StudyRun, *, named: bool = False) -> Row:
    of_run, of_reference = by_seed(run.results, "test_accuracy"), by_seed(reference.results, "test_accuracy")
    paired: PairedDifference = paired_difference(of_run, of_reference)
    values = [of_run[seed] - of_reference[seed] for seed in sorted(of_run.keys() & of_reference.keys())]
    half = (paired.high - paired.low) / 2
    text = f"{paired.mean:+.2f}" + ("" if np.isnan(half) else f" ± {half:.2f}")
    if paired.n == 2:
        text = wording.both(paired.mean, paired.std, form="+.2f")
    note = f"from {wording.shortened(reference.label, lines=1)}" if named else ""
    return Row(paired.mean, half, values, text if values else "no seed in common", note)


def _draw_rows(
    axis, rows: list[Row | None], *, floor: float = -np.inf, ceiling: float = np.inf, shown: Sequence[float] = ()
) -> bool:
    """Draw a mark per row with its interval, or the values of two seeds. Returns whether an interval is cut.

    The axis reaches from `floor` to `ceiling` at most, and contains the values `shown`.
    """
    drawn = {index: row for index, row in enumerate(rows) if row is not None and row.values}
    axis.grid(visible=False, axis="y")
    if not drawn:
        axis.set_xticks([])
        return False
    lows, highs = zip(*[(row.mean - row.half, row.mean + row.half) for row in drawn.values()], strict=True)
    values = [*(row.values for row in drawn.values()), shown]
    left, right, cut = style.readable_limits(values, low=lows, high=highs)
    left, right = max(left, floor), min(right, ceiling)
    axis.set_xlim(left, right + 0.38 * (right - left))  # room for the numbers
    for index, row in drawn.items():
        colour = palette.BLUE
        if not np.isnan(row.half):
            bar = axis.errorbar(row.mean, index, xerr=row.half, color=colour, capsize=3, linewidth=1.4, zorder=3)
            bar.lines[0].set_gid(f"interval: {index}")
        elif len(row.values) == 2:
            ticks = {"linestyle": "none", "marker": "|", "markersize": 9, "color": colour}
            axis.plot(row.values, [index, index], gid=f"seeds: {index}", zorder=3, **ticks)
        axis.plot(row.mean, index, "o", color=colour, markersize=6, zorder=4, gid=f"row: {index}")
        axis.annotate(row.text, (right, index), (4, 0), textcoords="offset points", va="center", fontsize=9)
        if row.note:
            axis.annotate(row.note, (right, index), (4, -10), textcoords="offset points", va="center", fontsize=7)
    return cut


def _footer(runs: list[StudyRun], semantics: str, *, cut: bool) -> list[str]:
    counts = [len(run.results) for run in runs]
    seeds = wording.seeds_note(counts, mean="Dots", spread="bars", single="Ticks")
    parameters = [result["num_parameters"] for run in runs for result in run.results]
    return [
        study_text.facts_sentence(runs, also=f"; {wording.span(parameters)} parameters"),
        seeds + " Intervals are cut at the edge of the panel." * cut,
        study_text.rivals_note(runs, semantics),
        "Differences are paired by random seed, without correction for multiple comparisons.",
        resolution_note(runs, "test_accuracy"),
    ]
