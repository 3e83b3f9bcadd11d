"""Figure scalability_results: time and memory per image of AFMP and DeiT-Tiny by number of patches."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from afmp.analysis import wording
from afmp.analysis.series import MADE_BY_HAND, Series, modes_of, peak_per_image, series_of, time_per_image
from afmp.analysis.sweep_wording import (
    PASSES,
    device_and_software,
    largest_ratios,
    names,
    settings,
    work_of_executions,
)
from afmp.figures.parts import palette, style
from afmp.figures.parts.sweep_lines import Line, draw_patch_axis, look_of, main_lines

MEMORY_AXIS = {
    "cuda_allocator": "Peak memory allocated on the GPU, MB per image",
    "resident_set_growth": "Resident-set growth, CPU, MB per image",
    "mps_driver": "Memory allocated by the MPS driver, MB per image",
}
FAILED = {"oom": "out of memory", "error": "error"}
# The axes are logarithmic if the largest number of patches is more than this times the smallest.
LOGARITHMIC_ABOVE = 20
BAR_SPACING = 0.06  # inches between the bars of two lines at one size
FAINT = {"alpha": 0.28, "linewidth": 0.9, "marker": None, "zorder": 1}


@style.styled
def draw(sweep: dict, other_sweeps: Sequence[dict] = ()) -> Figure:
    """Draw one row of panels per mode: time and peak memory per image by number of patches. Failures are crosses.

    The best configuration of each model is a main line, and its other configurations are faint. Each sweep of another
    semantics adds the main line of its AFMP-Small.
    """
    modes = modes_of(sweep)
    figure = style.new_figure(13, 1.8 + 5.0 * len(modes))
    semantics = sweep["semantics"]
    style.add_title(
        figure,
        f"Scalability: {names(sweep)} against the number of patches",
        subtitle=wording.in_words(semantics),
    )
    grid = figure.add_gridspec(2 * len(modes), 2, height_ratios=[0.75, 4.4] * len(modes))
    for row, mode in enumerate(modes):
        lines = main_lines(sweep, other_sweeps, mode)
        faint = _faint(sweep, lines, mode)
        legend = figure.add_subplot(grid[2 * row, :])
        panels = [figure.add_subplot(grid[2 * row + 1, column]) for column in (0, 1)]
        for axis, title in zip(panels, ("Time per image", "Peak memory per image"), strict=True):
            _draw_panel(axis, lines, faint, time_per_image if title == "Time per image" else _memory)
            axis.set_title(f"{title}, {PASSES[mode]}")
        panels[0].set_ylabel(f"Time ({PASSES[mode]}), ms per image")
        panels[1].set_ylabel(_memory_label(sweep))
        _draw_legend(legend, panels[0], lines, faint)
    style.add_footer(figure, _footer(sweep, other_sweeps))
    return figure


def _faint(sweep: dict, lines: list[Line], mode: str) -> list[Series]:
    """Return the measured series of a mode that are not main lines."""
    main = [line.series[:-1] for line in lines]
    return [one for one in series_of(sweep) if one.mode == mode and one.measured and one[:-1] not in main]


def _faint_look(series: Series) -> dict:
    """Return the look of a faint line: dotted if a CUDA graph is made by hand, else solid."""
    return FAINT | {"linestyle": ":" if series.made_by_hand else "-"}


def _memory(point: dict) -> tuple[float, float, float]:
    return (peak_per_image(point),) * 3


def _draw_panel(axis, lines: list[Line], faint: list[Series], value) -> None:
    """Draw main lines, and faint ones below them. `value` returns the middle, low and high value of a point."""
    points = [point for line in lines for point in line.series.points]
    sizes = np.array(sorted({point["num_patches"] for point in points}))
    logarithmic = sizes[-1] / sizes[0] > LOGARITHMIC_ABOVE
    if logarithmic:
        axis.set_xscale("log")
        axis.set_yscale("log")
    drawn, seen = [], set()
    for series in faint:
        middle = np.array([value(point)[0] for point in series.measured])
        drawn.append(middle)
        # Faint lines on top of each other are not faint, and executions with and without a graph have equal memory.
        if (key := (series.model, *series.sizes, *(f"{number:.2g}" for number in middle))) not in seen:
            axis.plot(series.sizes, middle, gid=f"faint: {series.setting}", **look_of(series) | _faint_look(series))
        seen.add(key)
    for place, line in enumerate(lines):
        if not line.series.measured:
            continue
        middle, low, high = np.array([value(point) for point in line.series.measured]).T
        axis.plot(line.series.sizes, middle, label=line.label, zorder=3, **line.look)
        drawn.append(high)
        if (low == high).all():
            continue
        # Bars of one size are side by side, because they would cover each other.
        shift = ScaledTranslation(BAR_SPACING * (place - (len(lines) - 1) / 2), 0, axis.figure.dpi_scale_trans)
        look = {"fmt": "none", "color": line.look["color"], "capsize": 2, "linewidth": 1}
        bars = [middle - low, high - middle]
        axis.errorbar(line.series.sizes, middle, yerr=bars, transform=axis.transData + shift, **look)
    draw_patch_axis(axis, points, sizes, logarithmic=logarithmic)
    _draw_failed(axis, lines, drawn)


def _draw_failed(axis, lines, drawn) -> None:
    failed = [(line, point) for line in lines for point in line.series.points if point["status"] != "ok"]
    if drawn:
        top, bottom = (function(np.concatenate(drawn)) for function in (np.max, np.min))
        # Failed points have a size but no value. They are marked in a strip above all measured points.
        if axis.get_yscale() == "log":
            axis.set_ylim(bottom / 1.5, top * (4 * (top / bottom) ** 0.45 if failed else 1.5))
        else:
            axis.set_ylim(0, top * (1.6 if failed else 1.08) or 1)
    else:
        axis.set_ylim(0, 1)
        axis.set_yticks([])
        axis.text(0.5, 0.4, "no point could be measured", transform=axis.transAxes, ha="center", color=palette.GREY)
    for line, point in failed:
        same_size = [other.label for other, at in failed if at["num_patches"] == point["num_patches"]]
        shift = 15 * (same_size.index(line.label) - (len(same_size) - 1) / 2)
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
        at, look = (point["num_patches"], 0.94), {"color": line.look["color"], **place}
        cross = axis.annotate("\u2715", at, (shift, 0), va="center", weight="bold", fontsize=13, **look)
        cross.set_gid(f"{point['status']}: {line.series.name}")
        axis.annotate(FAILED[point["status"]], at, (shift, -9), va="top", rotation=90, fontsize=9, **look)


def _draw_legend(place, axis, lines, faint) -> None:
    place.set_axis_off()
    handles = [axis.plot([], [], **line.look)[0] for line in lines]
    labels = []
    for line in lines:
        failed = [point["status"] for point in line.series.points if point["status"] != "ok"]
        counts = [f"{failed.count(status)} × {word}" for status, word in FAILED.items() if status in failed]
        labels.append(f"{line.label}{': ' if counts else ''}{', '.join(counts)}")
    if faint:
        handles += axis.plot([], [], color=palette.GREY, **FAINT)
        # Only these have faint lines: a sweep of another semantics has only its main line.
        faint_names = {series.name for series in faint}
        *others, last = [line.series.name for line in lines if line.series.name in faint_names]
        whose = f"{', '.join(others)} and {last}" if others else last
        dotted = "; dotted: CUDA graphs made by hand" * any(series.made_by_hand for series in faint)
        labels.append(wording.fill(f"faint lines: other configurations of {whose}, in the same colours{dotted}", 64))
    place.legend(handles, labels, loc="center", ncols=2, handlelength=3.2, columnspacing=2.5)


def _memory_label(sweep: dict) -> str:
    kinds = [point["memory"]["kind"] for point in sweep["points"] if point["memory"]]
    return wording.distinct(MEMORY_AXIS[kind] for kind in kinds) or "Peak memory, MB per image"


def _footer(sweep: dict, other_sweeps: Sequence[dict]) -> list[str]:
    warmup = sweep["protocol"]["warmup"]
    passes = [point["time_ms"]["n"] for one in (sweep, *other_sweeps) for point in one["points"] if point["time_ms"]]
    graphs = any(point["execution"] in MADE_BY_HAND for point in sweep["points"])
    faint = any(_faint(sweep, main_lines(sweep, other_sweeps, mode), mode) for mode in modes_of(sweep))
    strong = "each model's configuration with the most sizes and, among those, the lowest times"
    return [
        f"Patches of 16 px, {settings(sweep)}; {device_and_software(sweep)}. {work_of_executions(sweep)}",
        f"Time: median of {wording.counted(passes or [0], 'pass', 'passes')} after at most {warmup} warm-up passes; "
        "bars: first to third quartile, side by side. The passes of the models were timed in turn."
        + " Memory is never read under a CUDA graph made by hand." * graphs
        + f" {wording.MEGABYTE}"
        + f" Strong lines: {strong}. Faint lines: all others." * faint,
    ]


def caption(sweep: dict, other_sweeps: Sequence[dict] = ()) -> str:
    """Return the caption in reStructuredText, from the sweep itself."""
    points = sweep["points"]
    passes = " and ".join(PASSES[mode] for mode in modes_of(sweep))
    sentences = [
        f"Time and peak memory per image ({passes}), {sweep['semantics']} semantics "
        f"({wording.SEMANTICS_IN_WORDS[sweep['semantics']]}), "
        f"at {wording.span([p['num_patches'] for p in points])} patches, "
        f"{settings(sweep)}, on {sweep['device']['name']}."
    ]
    sentences += [largest_ratios(sweep), work_of_executions(sweep)]
    failed = _failures(series_of(sweep))
    sentences.append(f"Not measured: {'; '.join(failed)}." if failed else f"All {len(points)} points were measured.")
    if any(point["memory"] and point["memory"]["kind"] == "resident_set_growth" for point in points):
        sentences.append("On this CPU, memory is the growth of the process's resident set.")
    return wording.escape_rst(" ".join(sentences))


def _failures(all_series: list[Series]) -> list[str]:
    """Return one clause per model, attention, mode, status and set of sizes. Most configurations fail alike."""
    failures: dict[tuple, list[tuple[str, str]]] = {}
    for series in all_series:
        for status in FAILED:
            points = [point for point in series.points if point["status"] == status]
            if points:
                attention = f", {series.attention} attention," if series.attention else ""
                sizes = " and ".join(f"{point['resolution']:,}" for point in points)
                # Only the first error: the others are usually the same.
                reason = f": {points[0]['error']}" if status == "error" else ""
                place = f"{series.name}{attention} at {sizes} px, {PASSES[series.mode]}"
                setting = f"{series.precision} {series.execution}"
                failures.setdefault((place, status), []).append((setting, reason))
    clauses = []
    for (place, status), settings_and_reasons in failures.items():
        setting, reason = settings_and_reasons[0]
        count = len(settings_and_reasons)
        clauses.append(f"{place} ({FAILED[status]}{reason}), in {setting if count == 1 else f'{count} configurations'}")
    return clauses
