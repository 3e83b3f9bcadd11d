"""Style of all figures: axes, title, footer, and files whose bytes depend on the data alone."""

import functools
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from afmp.analysis import wording
from afmp.records import atomic_path
from afmp.study.font import FONT, drawable

# At 200 the figure of a full sweep exceeds 1 MB, the limit of an archive. The PDF scales without loss.
DPI = 150

_SETTINGS = {
    "font.family": FONT,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "figure.titlesize": 13,
    "pdf.fonttype": 42,  # embeds fonts, so that text can be searched and edited
}


def styled(function):
    """Decorate a function that draws: it uses this style and not the user's matplotlibrc."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with matplotlib.style.context(["default", _SETTINGS]):
            return function(*args, **kwargs)

    return wrapped


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, on an Agg canvas, without the global state of pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)  # inches, so that the longest label does not touch the edge
    FigureCanvasAgg(figure)
    return figure


def draw_as_written(figure: Figure) -> None:
    """Let a figure draw every text as it is written.

    Text between two $ is not mathematics, except in the numbers of an axis. The name of a dataset is that of a folder,
    so it may contain characters that the font lacks. They are drawn as escape sequences.
    """
    numbers = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if not isinstance(axis.get_major_formatter(), FuncFormatter):  # it draws labels, or numbers without mathematics
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            numbers |= {axis.offsetText, *(label for tick in ticks for label in (tick.label1, tick.label2))}
    for text in set(figure.findobj(Text)) - numbers:
        text.set_parse_math(False)
        text.set_text(drawable(text.get_text()))


@styled
def save_figure(figure: Figure, *, png: Path, pdf: Path | None = None) -> None:
    """Write the files atomically, without dates and versions, so that equal data give equal bytes."""
    draw_as_written(figure)
    with atomic_path(png) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    if pdf is None:
        return
    figure.set_layout_engine("none")  # keeps the panels where the PNG has them
    with atomic_path(pdf) as temporary:
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})


def add_title(figure: Figure, title: str, *, subtitle: str) -> None:
    """Add a title with a second line that names the semantics."""
    width = int(figure.get_figwidth() * 8)
    figure.suptitle(f"{wording.fill(title, width)}\n{subtitle}", linespacing=1.4)


def add_footer(figure: Figure, sentences: list[str], *, columns: float = 16.2) -> None:
    """Add small lines below the panels, one paragraph per sentence. Empty sentences are left out.

    columns: characters of a line per inch of the figure.
    """
    width = int(figure.get_figwidth() * columns)
    unbroken = [sentence.replace(" %", "\u00a0%") for sentence in sentences if sentence]  # no line starts with %
    lines = [wording.fill(sentence, width) for sentence in unbroken]
    figure.supxlabel("\n".join(lines), x=0.012, ha="left", fontsize=8.5, color="#333333", linespacing=1.35)


def epoch_axis(axis, num_epochs: int) -> None:
    """Set ticks at whole epochs, counted from 1, with a margin that makes a single epoch visible."""
    step = next(s for s in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, num_epochs) if num_epochs / s <= 10)
    axis.set_xticks([1, *range(step, num_epochs + 1, step)] if step > 1 else range(1, num_epochs + 1))
    margin = max(0.25, 0.02 * num_epochs)
    axis.set_xlim(1 - margin, num_epochs + margin)
    axis.set_xlabel("Epoch")


def mark_every(num_epochs: int, index: int) -> tuple[int, int]:
    """Return `markevery`: all epochs of a short run, else about eight, at different epochs for different runs."""
    every = max(1, round(num_epochs / 8))
    return (index * max(1, every // 4)) % every, every


def readable_limits(values, *, low, high) -> tuple[float, float, bool]:
    """Return axis limits that contain all values, and the intervals `low` to `high` up to 0.3 times their range.

    A wide interval would flatten the curves. The third value returned says whether one is cut.
    """
    values = np.concatenate([np.ravel(v) for v in values])
    ends = np.concatenate([values, *(np.ravel(v) for v in (*low, *high))])
    ends = ends[np.isfinite(ends)]
    bottom, top = values.min(), values.max()
    room = (top - bottom) or abs(top) * 0.2 or 1.0
    shown = (
        max(ends.min(), bottom - 0.3 * room) - 0.06 * room,
        min(ends.max(), top + 0.3 * room) + 0.06 * room,
    )
    return *shown, bool(ends.min() < shown[0] or ends.max() > shown[1])


def value_limits(axis, values, *, low, high, floor: float = -np.inf, ceiling: float = np.inf) -> bool:
    """Set readable limits of the y axis within floor and ceiling. Returns whether a band is cut."""
    if axis.get_yscale() == "log":
        # A log axis cannot show 0 or below, so a band that reaches 0 is cut.
        logarithms = [[np.log10(v[v > 0]) for v in map(np.ravel, group)] for group in (values, low, high)]
        bottom, top, cut = readable_limits(logarithms[0], low=logarithms[1], high=logarithms[2])
        axis.set_ylim(10**bottom, 10**top)
        return cut or any((np.ravel(v) <= 0).any() for v in low)
    bottom, top, cut = readable_limits(values, low=low, high=high)
    axis.set_ylim(max(bottom, floor), min(top, ceiling))
    return cut
