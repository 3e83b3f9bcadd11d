"""Figure scalability_fits: time and activations as c0 + B (c1 N + c2 N^2), and where the models' lines cross."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from afmp.analysis import wording
from afmp.analysis.fits import FEWEST_SIZES, Estimate, Fit, crossing, crossing_is_sure, fit_activations, fit_time
from afmp.analysis.series import activations_per_image, modes_of, time_per_image
from afmp.analysis.sweep_wording import PASSES, machine
from afmp.figures.parts import style
from afmp.figures.parts.sweep_lines import Line, draw_patch_axis, main_lines

QUANTITIES = {
    "Time per image": (fit_time, lambda point: time_per_image(point)[0], "ms"),
    "Activations per image": (fit_activations, activations_per_image, "MB"),
}


@style.house
def draw(sweep: dict, other_sweeps: Sequence[dict] = ()) -> Figure:
    """A row of panels a mode, time and activations: points measured, fits, 95 % bands, and the coefficients in words.

    The lines are those that scalability_results draws strong.
    """
    modes = modes_of(sweep)
    figure = style.new_figure(13, 1.8 + 6.6 * len(modes))
    semantics = sweep["semantics"]
    style.head(
        figure,
        "Scalability: fits of time and activations against the number of patches N",
        subtitle=f"{semantics} semantics: {wording.MEANING[semantics]}",
    )
    grid = figure.add_gridspec(2 * len(modes), 2, height_ratios=[4.4, 2.1] * len(modes))
    for row, mode in enumerate(modes):
        lines = main_lines(sweep, other_sweeps, mode)
        for column, (title, (fit_of, value, unit)) in enumerate(QUANTITIES.items()):
            axis, words = (figure.add_subplot(grid[2 * row + below, column]) for below in (0, 1))
            fits = {line.label: fit_of(line.series) for line in lines}
            axis.set(title=f"{title}, {PASSES[mode]}", ylabel=f"{title} ({PASSES[mode]}), {unit}")
            _draw_panel(axis, lines, fits, value)
            words.set_axis_off()
            text = "\n".join(_sentences(lines, fits, unit))
            # Out of the layout, or the widest line would take the panels' width.
            words.text(0, 1, text, va="top", fontsize=8.5, transform=words.transAxes).set_in_layout(False)
    style.foot(figure, _footer(sweep, other_sweeps))
    return figure


def _draw_panel(axis, lines: list[Line], fits: dict[str, Fit | None], value) -> None:
    points = [point for line in lines for point in line.series.points]
    sizes = np.array(sorted({point["num_patches"] for point in points}))
    axis.set_xscale("log")
    axis.set_yscale("log")
    for line in lines:
        values = np.array([value(point) for point in line.series.measured])
        shown = values > 0  # a resident set need not grow at all, and 0 has no place on a log axis
        axis.plot(line.series.sizes[shown], values[shown], **line.look | {"linestyle": "none"})
        fit = fits[line.label]
        if fit is None:
            continue
        along = np.geomspace(fit.sizes[0], fit.sizes[-1], 200)
        look = line.look | {"marker": None}
        axis.plot(along, fit.at(along), label=line.label, **look)
        if (band := fit.band(along)) is not None:
            axis.fill_between(along, *band, color=look["color"], alpha=0.2, linewidth=0)
    draw_patch_axis(axis, points, sizes, logarithmic=True)
    bottom, top = axis.get_ylim()
    if top / bottom < 30:  # powers of ten alone would leave the axis nearly without numbers
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if axis.get_legend_handles_labels()[0]:
        axis.set_ylim(bottom, top * (top / bottom) ** 0.3)  # room for the legend
        axis.legend(loc="upper left", fontsize=8.5)
    else:
        text = f"fewer than {FEWEST_SIZES} sizes with a value: no fit"
        axis.text(0.5, 0.4, text, transform=axis.transAxes, ha="center", color=style.GREY)


def _sentences(lines: list[Line], fits: dict[str, Fit | None], unit: str) -> list[str]:
    found = []
    for line in lines:
        if (fit := fits[line.label]) is not None:
            share = f"c2 N² is {fit.quadratic_share:.0%} at N = {fit.sizes[-1]:,}".replace("%", " %")
            off = f"off by up to {100 * fit.largest_miss:.1f} %"
            if len(fit.sizes) == FEWEST_SIZES:
                off += f" ({FEWEST_SIZES} sizes for 3 coefficients)"
            coefficients = (f"c{power} {_words(fit.coefficient(power), '.3g')} {unit}" for power in range(3))
            found += [
                f"{line.series.name}:  {next(coefficients)}",
                f"    {'  '.join(coefficients)}",
                f"    local slope {_words(fit.slope, '.2f')},  {share},  {off}",
            ]
    ours, theirs = (
        next((fits[line.label] for line in lines if line.series.model == model), None)
        for model in ("afmp_small", "deit_tiny")
    )
    if ours is not None and theirs is not None:
        sentence = _crossing(ours, theirs)
        found.append(sentence[0].upper() + sentence[1:])
    return found


def _crossing(ours: Fit, theirs: Fit) -> str:
    at = crossing(ours, theirs)
    if not crossing_is_sure(ours, theirs):
        return "no crossing established: the bootstrap samples, or the points and the fits, do not agree on it."
    largest = min(ours.sizes[-1], theirs.sizes[-1])
    every = f"at every N measured ({max(ours.sizes[0], theirs.sizes[0]):,} to {largest:,})"
    if np.isnan(at.value):
        where = every if crossing(theirs, ours).value == 0 else "at the largest N of both"
        return f"DeiT-Tiny's fit lies below AFMP-Small's {where}."
    if at.value == 0 and not at.high > 0:
        return f"DeiT-Tiny's fit lies above AFMP-Small's {every}."
    return f"DeiT-Tiny's fit lies above AFMP-Small's from N = {_patches(at)} on, as far as measured ({largest:,})."


def _words(estimate: Estimate, number: str) -> str:
    """Value and interval by a format such as `.3g`."""
    interval = "" if np.isnan(estimate.low) else f" [{estimate.low:{number}}, {estimate.high:{number}}]"
    return f"{estimate.value:{number}}{interval}"


def _patches(estimate: Estimate) -> str:
    """Patches are whole: `31`, or `31 [28, 40]`."""
    interval = "" if np.isnan(estimate.low) else f" [{estimate.low:,.0f}, {estimate.high:,.0f}]"
    return f"{estimate.value:,.0f}{interval}"


def _footer(sweep: dict, other_sweeps: Sequence[dict]) -> list[str]:
    lines = [line for mode in modes_of(sweep) for line in main_lines(sweep, other_sweeps, mode)]
    points = [point for line in lines for point in line.series.measured]
    passes = [point["time_ms"]["n"] for point in points]
    return [
        f"Patches of 16 px, batch B {wording.span([point['batch_size'] for point in points] or [0])}; "
        f"{machine(sweep)}; {wording.counted(passes or [0], 'pass', 'passes')} a point. "
        "Fits to a pass: c0 + B (c1 N + c2 N²), so c0 a pass, c1 a patch, c2 a patch²; no coefficient negative, "
        "relative errors weighted alike; drawn per image, kinks are where the batch changes. In brackets, and as bands "
        "(often narrower than a line), 95 % bootstrap intervals over blocks of the repeated passes of this run, which "
        "say nothing of another run or another curve (activations are read once a size). Local slope: d log / d log N "
        "between the two largest sizes; 1 is linear, 2 quadratic."
    ]


def caption(sweep: dict, other_sweeps: Sequence[dict] = ()) -> str:
    """What the fits say, in reStructuredText, from the sweep's own numbers."""
    sentences = [
        "Time and activations of a pass of B images fitted as c0 + B (c1 N + c2 N²) over the number of patches N, "
        f"{sweep['semantics']} semantics ({wording.MEANING[sweep['semantics']]}), "
        f"on {sweep['device']['name']}."
    ]
    mode = modes_of(sweep)[0]
    lines = main_lines(sweep, other_sweeps, mode)
    fits = {line.label: fit_time(line.series) for line in lines}
    slopes = [
        f"{line.series.name} ({line.series.setting}) {_words(fit.slope, '.2f')}"
        for line in lines
        if (fit := fits[line.label]) is not None
    ]
    if slopes:
        sentences.append(f"Local slope of time between the two largest sizes, {PASSES[mode]}: {'; '.join(slopes)}.")
    else:
        sentences.append(f"No model has {FEWEST_SIZES} sizes, so there is no fit.")
    ours, theirs = (
        next((fits[line.label] for line in lines if line.series.model == model), None)
        for model in ("afmp_small", "deit_tiny")
    )
    if ours is not None and theirs is not None:
        sentences.append(f"In time, {_crossing(ours, theirs)}")
    return wording.restructured(" ".join(sentences))
