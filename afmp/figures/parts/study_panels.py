"""The panels of a study over random seeds: accuracy, training loss, sparsity loss and time per epoch.

They are the four panels of the original notebook, without the times if runs shared a device, as jobs on a CPU may:
such times compare nothing. The sparsity loss has no panel if it is 0 in all runs, as in a study of dense models. A
study without a figure file of its own is drawn by this module.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import ScalarFormatter

from afmp.analysis import wording
from afmp.figures.parts import palette, study_text, style
from afmp.figures.parts.curves import draw_curve
from afmp.figures.parts.study_runs import StudyRun, study_runs


def draw(study: dict, results: list[dict]) -> Figure:
    """Draw the panels of one study under one semantics."""
    return draw_study(study, results)


def caption(study: dict, results: list[dict]) -> str:
    """Return the caption of one study in reStructuredText."""
    return study_text.study_caption(study, results, question=f"{study['title']}.")


@style.styled
def draw_study(study: dict, results: list[dict], *, sparsity_scale: str = "linear") -> Figure:
    """Draw the panels under the title of the study. `sparsity_scale` of the sparsity loss is linear or log.

    Without the panel of times or of the sparsity loss, accuracy has the whole width.
    """
    runs, semantics = study_runs(study, results)
    entries, heading = study_text.legend_texts(runs, semantics)
    columns = 2 if len(runs) > 1 and max(map(wording.columns_of, entries)) <= 64 else 1
    lines = sum(entry.count("\n") + 1 for entry in entries)
    legend_height = 0.35 + 0.24 * -(-lines // columns)
    panel_height = max(3.6, 0.22 * len(runs))
    figure = style.new_figure(12, 1.2 + legend_height + 2 * panel_height)
    style.add_title(figure, study_text.title(study), subtitle=wording.in_words(semantics))
    grid = figure.add_gridspec(3, 2, height_ratios=[legend_height, panel_height, panel_height])
    timed, sparse = study_text.times_compare(runs), any((run.curve("sparsity_loss") > 0).any() for run in runs)
    places = {
        4: (grid[1, 0], grid[1, 1], grid[2, 0], grid[2, 1]),
        3: (grid[1, :], grid[2, 0], grid[2, 1]),
        2: (grid[1, :], grid[2, :]),
    }[2 + timed + sparse]
    legend, accuracy, loss, *others = (figure.add_subplot(place) for place in (grid[0, :], *places))
    cut = [
        _draw_curves(accuracy, runs, "val_acc", floor=0, ceiling=100),
        _draw_curves(loss, runs, "train_loss", floor=0),
    ]
    words = wording.validation_words(semantics)
    accuracy.set(title=words.title, ylabel=words.axis)
    loss.set(title="Training loss", ylabel=f"Cross entropy{' + sparsity loss' * sparse}, nats")
    if sparse:
        sparsity, *others = others
        cut.append(_draw_curves(sparsity, runs, "sparsity_loss", scale=sparsity_scale))
        sparsity.set(title="Sparsity loss", ylabel=f"λ × mean |gate|{', log scale' * (sparsity.get_yscale() == 'log')}")
        _note_zero_runs(sparsity, runs)
    cut += [_draw_times(times, runs) for times in others]
    legend.set_axis_off()
    # Not those that Matplotlib finds in a panel: it leaves labels out that start with _.
    handles = [Line2D([], [], **palette.run_style(index)) for index in range(len(runs))]
    layout = {"loc": "center", "ncols": columns, "handlelength": 3.2, "columnspacing": 2.5}
    legend.legend(handles, entries, title=heading, title_fontsize=9.5, **layout)
    no_loss = [] if sparse else ["The sparsity loss is 0 in all runs at every epoch."]
    style.add_footer(figure, [*study_text.footer(runs, semantics, cut=any(cut)), *no_loss])
    return figure


def _draw_curves(
    axis, runs: list[StudyRun], key: str, *, scale: str = "linear", floor: float = -np.inf, ceiling: float = np.inf
) -> bool:
    """Draw one curve per run of a list of the training history. Returns whether an interval is cut."""
    curves = [run.curve(key) for run in runs]
    axis.set_yscale(scale)
    bands = [
        draw_curve(axis, curve, label=run.label, look=palette.run_style(index), index=index)
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


def _note_zero_runs(axis, runs: list[StudyRun]) -> None:
    zero = [run.label for run in runs if not run.curve("sparsity_loss").any()]
    if not zero:
        return
    on_log_axis = axis.get_yscale() == "log"
    where = "not shown on the log axis" if on_log_axis else "the line at 0"
    axis.annotate(
        wording.fill(f"0 at every epoch ({where}): {', '.join(zero)}", 60, max_lines=2, placeholder=" …"),
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


def _draw_times(axis, runs: list[StudyRun]) -> bool:
    """Draw one bar per run with its mean time. Returns whether an interval is cut."""
    intervals = [run.interval("epoch_time_s") for run in runs]
    rows = np.arange(len(runs))
    longest = max(interval.mean for interval in intervals)
    tips = [
        float(interval.high) if interval.n >= wording.FEWEST_SEEDS else max(run.values("epoch_time_s"))
        for run, interval in zip(runs, intervals, strict=True)
    ]
    ends = [min(tip, 1.6 * longest) for tip in tips]
    for row, run, interval, end in zip(rows, runs, intervals, ends, strict=True):
        colour = palette.run_style(int(row))["color"]
        # Pale, so that marks on the bar are visible on every colour, even black.
        axis.barh(row, interval.mean, height=0.62, color=colour, alpha=0.5, gid=f"time: {run.label}")
        if interval.n >= wording.FEWEST_SEEDS:
            axis.errorbar(interval.mean, row, xerr=interval.half, color=palette.DARK, capsize=4, linewidth=1.2)
        elif interval.n == 2:
            dots = {"linestyle": "none", "marker": "o", "markersize": 4, "gid": f"times: {run.label}"}
            axis.plot(run.values("epoch_time_s"), [row, row], color=palette.DARK, **dots)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
        text = wording.quantity(interval, unit="s")
        axis.annotate(text, (end, row), (6, 0), textcoords="offset points", va="center", fontsize=9, bbox=box)
    axis.set_yticks(rows, [wording.shortened(run.label, lines=2 if len(runs) <= 8 else 1) for run in runs])
    axis.set_ylim(len(runs) - 0.4, -0.6)
    axis.set_xlim(0, max(ends) * 1.35)
    axis.grid(visible=False, axis="y")
    one_epoch = all(len(r["training_history"]["time"]) == 1 for run in runs for r in run.results)
    axis.set(
        title="Time per training epoch",
        xlabel=f"Mean time per epoch{'' if one_epoch else ', without the first'}, s",
    )
    return any(tip > end for tip, end in zip(tips, ends, strict=True))
