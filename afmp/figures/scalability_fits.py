"""Figure scalability_fits: time and activations fitted as c0 + B (c1 N + c2 N^2), and where the models cross."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from afmp.analysis import wording
from afmp.analysis.fits import FEWEST_SIZES, Estimate, Fit, crossing, crossing_is_sure, fit_activations, fit_time
from afmp.analysis.models import AFMP_MODELS, MODEL_NAMES
from afmp.analysis.series import activations_per_image, modes_of, time_per_image
from afmp.analysis.sweep_wording import PASSES, device_and_software
from afmp.figures.parts import palette, style
from afmp.figures.parts.sweep_lines import Line, draw_patch_axis, main_lines

QUANTITIES = {
    "Time per image": (fit_time, lambda point: time_per_image(point)[0], "ms"),
    "Activations per image": (fit_activations, activations_per_image, "MB"),
}
PANEL_COLUMNS = 84  # characters below a panel
ROUGH = 0.1  # a fit that is off a measured value by this share is drawn as a rough one
DOTS = {"linestyle": (0, (1, 3)), "linewidth": 1.4}


@style.styled
def draw(sweep: dict, other_sweeps: Sequence[dict] = ()) -> Figure:
    """Draw one row of panels per mode: measured points of time and activations, fits, 95 % bands and crossings.

    The lines are the main lines of scalability_results. A rough fit is dotted, and the legend says how far it is off.
    """
    modes = modes_of(sweep)
    lines = {mode: main_lines(sweep, other_sweeps, mode) for mode in modes}
    fits = {
        (mode, title): {line.label: fit_of(line.series) for line in lines[mode]}
        for mode, (title, (fit_of, _, _)) in product(modes, QUANTITIES.items())
    }
    words = {
        (mode, title): "\n".join(_sentences(lines[mode], fits[mode, title]))
        for mode, title in product(modes, QUANTITIES)
    }
    words_height = 0.45 + 0.15 * max((text.count("\n") + 1 for text in words.values()), default=0)
    figure = style.new_figure(13, 1.8 + (4.5 + words_height) * len(modes))
    style.add_title(
        figure,
        "Scalability: fits of time and activations over the number of patches N",
        subtitle=wording.in_words(sweep["semantics"]),
    )
    grid = figure.add_gridspec(2 * len(modes), 2, height_ratios=[4.4, words_height] * len(modes))
    for (row, mode), (column, (title, (_, value, unit))) in product(enumerate(modes), enumerate(QUANTITIES.items())):
        axis, below = (figure.add_subplot(grid[2 * row + place, column]) for place in (0, 1))
        axis.set(title=f"{title}, {PASSES[mode]}", ylabel=f"{title} ({PASSES[mode]}), {unit}")
        _draw_panel(axis, lines[mode], fits[mode, title], value)
        below.set_axis_off()
        # Not part of the layout, because its widest line would narrow the panels.
        text = below.text(0, 1, words[mode, title], va="top", fontsize=8.5, transform=below.transAxes)
        text.set_in_layout(False)
    style.add_footer(figure, _footer(sweep, other_sweeps))
    return figure


def _draw_panel(axis, lines: list[Line], fits: dict[str, Fit | None], value) -> None:
    points = [point for line in lines for point in line.series.points]
    sizes = np.array(sorted({point["num_patches"] for point in points}))
    axis.set_xscale("log")
    axis.set_yscale("log")
    for line in lines:
        values = np.array([value(point) for point in line.series.measured])
        shown = values > 0  # a resident set need not grow, and a log axis cannot show 0
        axis.plot(line.series.sizes[shown], values[shown], **line.look | {"linestyle": "none"})
        fit = fits[line.label]
        if fit is None:
            continue
        along = np.geomspace(fit.sizes[0], fit.sizes[-1], 200)
        look = line.look | {"marker": None} | (DOTS if fit.largest_miss >= ROUGH else {})
        axis.plot(along, fit.at(along), label=_label(line, fit), **look)
        if (band := fit.band(along)) is not None:
            axis.fill_between(along, *band, color=look["color"], alpha=0.2, linewidth=0)
    draw_patch_axis(axis, points, sizes, logarithmic=True)
    bottom, top = axis.get_ylim()
    if top / bottom < 30:  # powers of ten alone would be too few ticks
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if axis.get_legend_handles_labels()[0]:
        axis.set_ylim(bottom, top * (top / bottom) ** 0.3)  # room for the legend
        axis.legend(loc="upper left", fontsize=8.5)
    else:
        text = f"fewer than {FEWEST_SIZES} sizes with a value: no fit"
        axis.text(0.5, 0.4, text, transform=axis.transAxes, ha="center", color=palette.GREY)


def _label(line: Line, fit: Fit) -> str:
    """Return the label of a fit; that of a rough one says how far it is off a measured value."""
    if fit.largest_miss < ROUGH:
        return line.label
    return f"{line.label} (off by up to {100 * fit.largest_miss:.0f} %)"


def _sentences(lines: list[Line], fits: dict[str, Fit | None]) -> list[str]:
    sentences = [sentence[0].upper() + sentence[1:] for sentence in _crossings(lines, fits)]
    return [wording.fill(sentence, PANEL_COLUMNS, subsequent_indent="    ") for sentence in sentences]


def _crossings(lines: list[Line], fits: dict[str, Fit | None]) -> list[str]:
    """Return a sentence for each AFMP of the sweep on where DeiT-Tiny's fit crosses its own."""
    of_model = {line.series.model: fits[line.label] for line in reversed(lines)}  # the first line is of this sweep
    theirs = of_model.get("deit_tiny")
    pairs = [(model, ours) for model in AFMP_MODELS if (ours := of_model.get(model)) is not None]
    return [_crossing(ours, theirs, MODEL_NAMES[model]) for model, ours in pairs] if theirs is not None else []


def _crossing(ours: Fit, theirs: Fit, name: str) -> str:
    at = crossing(ours, theirs)
    if not crossing_is_sure(ours, theirs):
        reason = "the bootstrap samples, or the points and the fits, disagree"
        return f"no crossing is established: {reason} on DeiT-Tiny and {name}."
    largest = min(ours.sizes[-1], theirs.sizes[-1])
    every = f"at every N measured ({max(ours.sizes[0], theirs.sizes[0]):,} to {largest:,})"
    if np.isnan(at.value):
        where = every if crossing(theirs, ours).value == 0 else "at the largest N measured for both"
        return f"DeiT-Tiny's fit is below {name}'s {where}."
    if at.value == 0 and not at.high > 0:
        return f"DeiT-Tiny's fit is above {name}'s {every}."
    return f"DeiT-Tiny's fit is above {name}'s from N = {_patches(at)} to the largest N measured ({largest:,})."


def _words(estimate: Estimate, number: str) -> str:
    """Return value and interval in a format such as `.3g`."""
    interval = "" if np.isnan(estimate.low) else f" [{estimate.low:{number}}, {estimate.high:{number}}]"
    return f"{estimate.value:{number}}{interval}"


def _patches(estimate: Estimate) -> str:
    """Return a number of patches: `31`, or `31 [28, 40]`."""
    interval = "" if np.isnan(estimate.low) else f" [{estimate.low:,.0f}, {estimate.high:,.0f}]"
    return f"{estimate.value:,.0f}{interval}"


def _footer(sweep: dict, other_sweeps: Sequence[dict]) -> list[str]:
    lines = [line for mode in modes_of(sweep) for line in main_lines(sweep, other_sweeps, mode)]
    points = [point for line in lines for point in line.series.measured]
    passes = [point["time_ms"]["n"] for point in points]
    return [
        f"Patches of 16 px, batch size B {wording.span([point['batch_size'] for point in points] or [0])}; "
        f"{device_and_software(sweep)}; {wording.counted(passes or [0], 'pass', 'passes')} per point. "
        "Fit of one pass: c0 + B (c1 N + c2 N²), with c0 per pass, c1 per patch and c2 per patch². No coefficient is "
        "negative, and relative errors have equal weights. Curves are per image, with kinks where B changes. A dotted "
        f"fit is off a measured value by {100 * ROUGH:.0f} % or more: read its points, not its curve. Brackets and "
        "bands (often narrower than a line): 95 % bootstrap intervals over blocks of the repeated passes of this run. "
        "They do not cover other runs or other curves. Activations are read once per size and have no interval. "
        "Coefficients, local slopes and deviations of every fit: table scalability_fits."
    ]


def caption(sweep: dict, other_sweeps: Sequence[dict] = ()) -> str:
    """Return the caption in reStructuredText, from the sweep itself."""
    sentences = [
        "Time and activations of a pass of B images fitted as c0 + B (c1 N + c2 N²) over the number of patches N, "
        f"{sweep['semantics']} semantics ({wording.SEMANTICS_IN_WORDS[sweep['semantics']]}), "
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
    sentences += [f"In time, {sentence}" for sentence in _crossings(lines, fits)]
    return wording.escape_rst(" ".join(sentences))
