"""Figure accuracy_and_cost: the test accuracy of every run over its parameters, its training time and its memory.

There is no panel that would compare nothing: of a cost that was not measured, or of times of a CPU, which jobs may
have shared.
"""

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from afmp.analysis import wording
from afmp.analysis.metrics import memory_per_image, metric_interval, milliseconds_per_image
from afmp.analysis.statistics import Interval, mean_and_interval
from afmp.figures.parts import palette, study_text, style
from afmp.figures.parts.study_runs import StudyRun, resolution_note, study_runs

TIME, MEMORY = "Training time", "Memory"  # titles of panels that may be left out


class Cost(NamedTuple):
    """One panel: its title, the label of its axis, and the cost of a run over its seeds; None if not measured."""

    title: str
    axis: str
    of: Callable[[StudyRun], Interval | None]

    def why_not(self, runs: list[StudyRun]) -> str:
        """Return why this cost of the runs has no panel, or nothing."""
        if not any(self.of(run) for run in runs):
            return "it was not measured"
        return "jobs may have shared the CPU" if self.title == TIME and study_text.on_cpu(runs) else ""


def _parameters(run: StudyRun) -> Interval:
    return mean_and_interval([result["num_parameters"] / 1e6 for result in run.results[:1]])


def _measured(values: Callable[[list[dict]], list[float]]) -> Callable[[StudyRun], Interval | None]:
    def of(run: StudyRun) -> Interval | None:
        measured = values(run.results)
        return mean_and_interval(measured) if measured else None

    return of


COSTS = (
    Cost("Parameters", "Parameters, millions, log scale", _parameters),
    Cost(TIME, "Training time per image, ms, log scale", _measured(milliseconds_per_image)),
    Cost(MEMORY, "Peak memory of a training step per image, MB, log scale", _measured(memory_per_image)),
)


@style.styled
def draw(study: dict, results: list[dict]) -> Figure:
    """Draw a panel per cost, with a mark per run that `measure_step` was true for. Memory is measured on CUDA only."""
    runs, semantics = study_runs(study, results)
    entries, heading = study_text.legend_texts(runs, semantics)
    legend_height = 0.35 + 0.24 * sum(entry.count("\n") + 1 for entry in entries)
    figure = style.new_figure(14, 5.6 + legend_height)
    style.add_title(figure, study_text.title(study), subtitle=wording.in_words(semantics))
    costs = [cost for cost in COSTS if not cost.why_not(runs)]
    grid = figure.add_gridspec(2, len(costs), height_ratios=[legend_height, 4])
    legend = figure.add_subplot(grid[0, :])
    legend.set_axis_off()
    handles = [Line2D([], [], **palette.run_style(index) | {"linestyle": "none"}) for index in range(len(runs))]
    legend.legend(handles, entries, title=heading, title_fontsize=9.5, loc="center")
    cut, shared = False, None
    for column, cost in enumerate(costs):
        shared = axis = figure.add_subplot(grid[1, column], sharey=shared)
        cut = _draw_cost(axis, runs, cost) or cut
        axis.set(title=cost.title, xlabel=cost.axis)
    figure.axes[1].set_ylabel("Test accuracy at the best epoch, %")
    style.add_footer(figure, _footer(runs, semantics, cut=cut))
    return figure


def caption(study: dict, results: list[dict]) -> str:
    """Return the caption in reStructuredText, from the results themselves."""
    return study_text.study_caption(study, results, question=f"{study['title']}.")


def _draw_cost(axis, runs: list[StudyRun], cost: Cost) -> bool:
    """Draw the accuracy of each run over one cost. Returns whether an interval is cut."""
    costs = [cost.of(run) for run in runs]
    accuracies = [metric_interval(run.results, "test_accuracy") for run in runs]
    axis.set_xscale("log")
    for index, (run, of_run, accuracy) in enumerate(zip(runs, costs, accuracies, strict=True)):
        if of_run is None:
            continue
        look = palette.run_style(index) | {"linestyle": "none", "markersize": 8, "gid": f"{cost.title}: {run.label}"}
        bars = {"color": look["color"], "capsize": 3, "linewidth": 1.2, "fmt": "none"}
        if accuracy.n >= wording.FEWEST_SEEDS:
            axis.errorbar(of_run.mean, accuracy.mean, yerr=accuracy.half, **bars)
        elif accuracy.n == 2:
            ticks = {"linestyle": "none", "marker": "_", "markersize": 9, "color": look["color"]}
            axis.plot([of_run.mean] * 2, run.values("test_accuracy"), **ticks)
        if of_run.n >= wording.FEWEST_SEEDS and not of_run.all_equal:
            axis.errorbar(of_run.mean, accuracy.mean, xerr=of_run.half, **bars)
        axis.plot(of_run.mean, accuracy.mean, zorder=4, **look)
    means = [float(one.mean) for one in costs if one is not None]
    left, right = min(means) / 1.6, max(means) * 1.6
    axis.set_xlim(left, right)
    measured = [one for one in costs if one is not None and one.n >= wording.FEWEST_SEEDS]
    cut_cost = any(one.low < left or one.high > right for one in measured)
    drawn = [interval for interval in accuracies if interval.n >= wording.FEWEST_SEEDS]
    values, low, high = [run.values("test_accuracy") for run in runs], [i.low for i in drawn], [i.high for i in drawn]
    bottom, top, cut = style.readable_limits(values, low=low, high=high)
    axis.set_ylim(max(bottom, 0), min(top, 100))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    return cut or cut_cost


def _footer(runs: list[StudyRun], semantics: str, *, cut: bool) -> list[str]:
    results = [result for run in runs for result in run.results]
    counts = [len(run.results) for run in runs]
    batch = wording.span([result["config"]["training"]["batch_size"] for result in results])
    left_out = {cost.title: why for cost in COSTS if (why := cost.why_not(runs))}
    steps = [result["step"]["milliseconds"]["n"] for result in results if "step" in result]
    return [
        study_text.facts_sentence(runs, also=f", batches of {batch} images"),
        wording.seeds_note(counts, mean="Marks", spread="bars", single="Horizontal ticks")
        + " Intervals are cut at the edge of the panel." * cut,
        study_text.rivals_note(runs, semantics),
        "" if TIME in left_out else f"Time is the median of {wording.span(steps)} training steps of one model alone.",
        ""
        if MEMORY in left_out
        else f"Memory is the peak of a training step of one model alone, without the dataset. {wording.MEGABYTE}",
        " ".join(f"{title} is not shown: {why}." for title, why in left_out.items()),
        *(_unmeasured_note(runs, cost) for cost in COSTS[1:]),
        resolution_note(runs, "test_accuracy"),
    ]


def _unmeasured_note(runs: list[StudyRun], cost: Cost) -> str:
    """Return which runs have no mark in the panel of a cost, if others have."""
    missing = [run.label for run in runs if cost.of(run) is None]
    return f"{cost.title} was not measured of: {', '.join(missing)}." if 0 < len(missing) < len(runs) else ""
