"""Figure scalability_results: time and memory of a pass of AFMP-Small and DeiT-Tiny by number of patches."""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from afmp.figures import style, wording
from afmp.statistics import distinct

MODEL_NAMES = {"afmp_small": "AFMP-Small", "deit_tiny": "DeiT-Tiny"}
PASSES = {"train": "forward + backward"}
MEMORY_AXIS = {
    "cuda_allocator": "Peak memory allocated on the GPU, MB",
    "resident_set_growth": "Resident-set growth, CPU, MB",
    "mps_driver": "Memory held by the MPS driver, MB",
}
FAILED = {"oom": "out of memory", "error": "error"}
# What tells apart several lines of one model, and what the footer states of a setting.
SETTINGS = {
    "precision": "{}",
    "attention": "{} attention",
    "compile": "compile mode {}",
}
# Where the largest number of patches is more than this times the smallest, the axes are logarithmic.
LOG_FROM = 20


class Line(NamedTuple):
    """The points of one model at one setting, by number of patches, and how they are drawn."""

    label: str
    points: list[dict]
    look: dict


def lines_of(scalability: dict) -> list[Line]:
    """One line per model and setting, in the order of the file."""
    groups: dict[tuple, list[dict]] = {}
    for point in scalability["points"]:
        groups.setdefault((point["model"], *(point[key] for key in SETTINGS)), []).append(point)
    models = list(dict.fromkeys(model for model, *_ in groups))
    lines = []
    for (model, *settings), points in groups.items():
        name = MODEL_NAMES.get(model, model)
        if model.startswith("afmp"):
            name += f" ({scalability['semantics']} semantics)"
        of_model = [group for group in groups if group[0] == model]
        differing = [i for i in range(len(SETTINGS)) if len({group[i + 1] for group in of_model}) > 1]
        templates = list(SETTINGS.values())
        name += "".join(f", {templates[i].format(settings[i])}" for i in differing if settings[i] is not None)
        look = {
            "color": (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE)[models.index(model) % 4],
            "marker": style.MARKERS[models.index(model) % len(style.MARKERS)],
            "linestyle": style.LINES[(models.index(model) + of_model.index((model, *settings))) % len(style.LINES)],
        }
        lines.append(Line(name, sorted(points, key=lambda point: point["num_patches"]), look))
    return lines


@style.house
def draw(scalability: dict) -> Figure:
    """Two panels, time per pass (ms) and peak memory (MB) by number of patches; failures are crosses."""
    lines = lines_of(scalability)
    legend_height = 0.15 + 0.24 * ((len(lines) + 1) // 2)
    figure = style.new_figure(13, 5.8 + legend_height)
    style.head(
        figure,
        "Scalability: AFMP-Small and DeiT-Tiny against the number of patches",
        subtitle=f"{scalability['semantics']} semantics: {wording.MEANING[scalability['semantics']]}",
    )
    grid = figure.add_gridspec(2, 2, height_ratios=[legend_height, 4.4])
    legend, time, memory = (figure.add_subplot(place) for place in (grid[0, :], grid[1, 0], grid[1, 1]))
    _draw_panel(time, lines, _time)
    _draw_panel(memory, lines, _memory)
    mode = scalability["protocol"]["mode"]
    time.set(title="Time per pass", ylabel=f"Time per pass ({PASSES.get(mode, mode)}), ms")
    memory.set(title="Peak memory", ylabel=_memory_label(lines))
    _draw_legend(legend, time, lines)
    style.foot(figure, _footer(scalability))
    return figure


def _time(point: dict) -> tuple[float, float, float]:
    time = point["time_ms"]
    return time["median"], time["q25"], time["q75"]


def _memory(point: dict) -> tuple[float, float, float]:
    peak = point["memory"]["peak_mb"]
    return peak, peak, peak


def _draw_panel(axis, lines, value) -> None:
    points = [point for line in lines for point in line.points]
    sizes = np.array(sorted({point["num_patches"] for point in points}))
    logarithmic = sizes[-1] / sizes[0] > LOG_FROM
    if logarithmic:
        axis.set_xscale("log")
        axis.set_yscale("log")
    drawn = []
    for line in lines:
        good = [point for point in line.points if point["status"] == "ok"]
        if not good:
            continue
        x = np.array([point["num_patches"] for point in good])
        middle, low, high = np.array([value(point) for point in good]).T
        axis.plot(x, middle, label=line.label, zorder=3, **line.look)
        drawn.append(high)
        if value is _time:
            axis.errorbar(
                x, middle, yerr=[middle - low, high - middle], fmt="none", color=line.look["color"], capsize=3
            )
        reserved = [point["memory"]["reserved_mb"] for point in good]
        if value is _memory and None not in reserved:
            look = {**line.look, "alpha": 0.45, "linewidth": 1, "markersize": 3}
            axis.plot(x, reserved, label=f"{line.label}: reserved", gid="reserved", **look)
            drawn.append(np.array(reserved))
    _draw_patch_axis(axis, points, sizes, logarithmic=logarithmic)
    _draw_failed(axis, lines, drawn)


def _draw_patch_axis(axis, points, sizes, *, logarithmic: bool) -> None:
    pixels = {point["num_patches"]: point["resolution"] for point in points}
    # A pass over fewer images is shorter: where the batch varies, every size says its own.
    batch = {n: "" for n in pixels}
    if len({point["batch_size"] for point in points}) > 1:
        for n in pixels:
            batch[n] = f"\nB {wording.span([p['batch_size'] for p in points if p['num_patches'] == n])}"
    at = np.log(sizes) if logarithmic else sizes.astype(float)
    margin = 0.06 * (at[-1] - at[0]) or 0.5 * (at[0] or 1.0)
    ends = np.array([at[0] - margin, at[-1] + margin])
    axis.set_xlim(*(np.exp(ends) if logarithmic else ends))
    # Labels that would touch are left out, the largest sizes first to stay; every size keeps its tick.
    labelled: list[int] = []
    for index in reversed(range(len(sizes))):
        if not labelled or (at[labelled[-1]] - at[index]) / (ends[1] - ends[0]) > 0.085:
            labelled.append(index)
    labels = [f"{n:,}\n{pixels[n]:,} px{batch[n]}" if i in labelled else "" for i, n in enumerate(sizes)]
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(sizes, labels)
    axis.set_xlabel(f"Number of patches N (below: image side{', batch B' if any(batch.values()) else ''})")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _draw_failed(axis, lines, drawn) -> None:
    failed = [(line, point) for line in lines for point in line.points if point["status"] != "ok"]
    if drawn:
        top, bottom = (function(np.concatenate(drawn)) for function in (np.max, np.min))
        # Failed points stand in a strip above all measured ones: they have a size but no value.
        if axis.get_yscale() == "log":
            axis.set_ylim(bottom / 1.5, top * (4 * (top / bottom) ** 0.45 if failed else 1.5))
        else:
            axis.set_ylim(0, top * (1.6 if failed else 1.08))
    else:
        axis.set_ylim(0, 1)
        axis.set_yticks([])
        axis.text(0.5, 0.4, "no point could be measured", transform=axis.transAxes, ha="center", color=style.GREY)
    for line, point in failed:
        same_size = [other.label for other, at in failed if at["num_patches"] == point["num_patches"]]
        shift = 15 * (same_size.index(line.label) - (len(same_size) - 1) / 2)
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
        at, look = (point["num_patches"], 0.94), {"color": line.look["color"], **place}
        cross = axis.annotate("\u2715", at, (shift, 0), va="center", weight="bold", fontsize=13, **look)
        cross.set_gid(f"{point['status']}: {line.label}")
        axis.annotate(FAILED[point["status"]], at, (shift, -9), va="top", rotation=90, fontsize=9, **look)


def _draw_legend(place, axis, lines) -> None:
    place.set_axis_off()
    handles = [axis.plot([], [], **line.look)[0] for line in lines]
    labels = []
    for line in lines:
        failed = [point["status"] for point in line.points if point["status"] != "ok"]
        counts = [f"{failed.count(status)} × {word}" for status, word in FAILED.items() if status in failed]
        labels.append(f"{line.label}{': ' if counts else ''}{', '.join(counts)}")
    place.legend(handles, labels, loc="center", ncols=2, handlelength=3.2, columnspacing=2.5)


def _memory_label(lines) -> str:
    kinds = [point["memory"]["kind"] for line in lines for point in line.points if point["memory"]]
    return distinct(MEMORY_AXIS[kind] for kind in kinds) or "Peak memory, MB"


def _settings(points) -> str:
    def values(key: str) -> str:
        return distinct(str(point[key]) for point in points if point[key] is not None) or "none"

    return (
        f"batch {wording.span([point['batch_size'] for point in points])}, precision {values('precision')}, "
        f"attention of DeiT-Tiny {values('attention')}, compile mode {values('compile')}"
    )


def _footer(scalability: dict) -> list[str]:
    points, protocol, versions = scalability["points"], scalability["protocol"], scalability["versions"]
    software = [f"{name} {versions[name]}" for name in ("torch", "cuda", "timm") if versions.get(name)]
    reserved = any(point["memory"] and point["memory"]["reserved_mb"] is not None for point in points)
    return [
        f"Patches of 16 px, {_settings(points)}; {scalability['device']['name']}; {', '.join(software)}.",
        f"Time: median of {protocol['repeats']} passes after {protocol['warmup']} to warm up, "
        "bars from first to third quartile."
        + (" Memory: strong line allocated, faint line reserved." if reserved else ""),
    ]


def caption(scalability: dict) -> str:
    """What the figure shows, in reStructuredText, from the sweep's own numbers."""
    lines, points = lines_of(scalability), scalability["points"]
    mode = scalability["protocol"]["mode"]
    sentences = [
        f"Time and peak memory of one pass ({PASSES.get(mode, mode)}), {scalability['semantics']} semantics "
        f"({wording.MEANING[scalability['semantics']]}), "
        f"at {wording.span([p['num_patches'] for p in points])} patches, "
        f"{_settings(points)}, on {scalability['device']['name']}."
    ]
    afmp = next((line for line in lines if line.points[0]["model"] == "afmp_small"), None)
    deit = next((line for line in lines if line.points[0]["model"] == "deit_tiny"), None)
    if afmp and deit:
        sentences.append(_compared(afmp, deit))
    failed = [_failures(line, status) for line in lines for status in FAILED]
    failed = [text for text in failed if text]
    sentences.append(f"Not measured: {'; '.join(failed)}." if failed else "Every point was measured.")
    if any(point["memory"] and point["memory"]["kind"] == "resident_set_growth" for point in points):
        sentences.append("Memory is the growth of the process's resident set on a CPU, not an allocator's count.")
    return wording.restructured(" ".join(sentences))


def _failures(line: Line, status: str) -> str:
    points = [point for point in line.points if point["status"] == status]
    sizes = ", ".join(f"{point['resolution']}" for point in points)
    # The first error stands for the rest: they are usually one and the same.
    reason = f": {points[0]['error']}" if points and status == "error" and points[0]["error"] else ""
    return f"{line.label} at {sizes} px ({FAILED[status]}{reason})" if points else ""


def _compared(afmp: Line, deit: Line) -> str:
    # Only equal batches compare: a pass over fewer images is no faster model.
    measured = [
        {(p["num_patches"], p["batch_size"]): p for p in line.points if p["status"] == "ok"} for line in (afmp, deit)
    ]
    shared = sorted(measured[0].keys() & measured[1].keys())
    if not shared:
        return "No size was measured for both models."
    ours, theirs = (points[shared[-1]] for points in measured)
    times, memory = ([value(p)[0] for p in (ours, theirs)] for value in (_time, _memory))
    # Resident-set growth can be 0 where the process already held enough memory.
    saved = f"{memory[1] / memory[0]:.2f}" if memory[0] > 0 else "undefined"
    return (
        f"At {ours['num_patches']:,} patches ({ours['resolution']:,} px), the largest measured for both, "
        f"{afmp.label} takes {times[0]:.4g} ms and {memory[0]:,.0f} MB, "
        f"{deit.label} {times[1]:.4g} ms and {memory[1]:,.0f} MB: "
        f"DeiT-Tiny / AFMP-Small = {times[1] / times[0]:.2f} in time and {saved} in memory."
    )
