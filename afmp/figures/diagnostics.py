"""Figure of a run's diagnostics at one epoch: communication graph, pruned edges per layer, gates of one layer."""

from typing import NamedTuple

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from afmp.analysis import wording
from afmp.errors import AfmpError
from afmp.figures.parts import palette, style
from afmp.figures.parts.strokes import strokes
from afmp.study.semantics import SEMANTICS

EDGE_COLOUR = (0.0, 0.9, 0.9)
CLOSED_AT = -0.13  # position of the bar of gates that are exactly 0, left of the axis from 0 to 1


class PruningWords(NamedTuple):
    """Words for pruned edges: title and axis of their panel, a note below the figure, and a part of the caption."""

    title: str
    axis: str
    note: str
    caption: str


# By whether a semantics prunes edges.
PRUNING_WORDS = {
    True: PruningWords(
        "Edges pruned per layer", "Edges pruned (not among the k kept), %", "", "pruned (gate exactly 0)"
    ),
    False: PruningWords(
        "Edges counted as pruned, per layer",
        "Edges with a mean gate below 0.5, %",
        "The original notebook counts an edge as pruned if its mean gate is below 0.5.",
        "counted as pruned (mean gate below 0.5)",
    ),
}


@style.styled
def draw(diagnostics: dict, *, epoch: int, image: np.ndarray) -> Figure:
    """Draw the panels at `epoch`. `image`, uint8 (3, H, W), is the test image on which the gates were recorded.

    A fixed budget prunes as many edges in every layer. Then a line of text says how many, in place of a panel.
    """
    gates, layer, pruned = _at(diagnostics, epoch)
    semantics, num_layers = diagnostics["semantics"], len(pruned)
    fixed = _fixed_budget(pruned, gates, semantics)
    figure = style.new_figure(10.4 if fixed else 15, 5.9)
    style.add_title(
        figure,
        f"Run {diagnostics['run']}, seed {diagnostics['seed']}, epoch {epoch}",
        subtitle=wording.in_words(semantics),
    )
    graph, *between, histogram = figure.subplots(1, 2 if fixed else 3, width_ratios=[1.05, *[1] * (1 if fixed else 2)])
    _draw_graph(graph, diagnostics, gates, image)
    graph.set_title(f"Communication graph, layer {layer}")
    words = PRUNING_WORDS[SEMANTICS[semantics].prunes]
    for layers in between:
        _draw_pruned(layers, pruned)
        layers.set(title=words.title, ylabel=words.axis)
    _draw_histogram(histogram, gates)
    histogram.set_title(f"Mean gates of layer {layer}")
    style.add_footer(
        figure,
        [
            f"Test image {diagnostics['image_index']}. {_shown(layer, num_layers)} {words.note}",
            fixed,
            "Each edge narrows from its sender to its receiver and bends to the left of its way. Width and opacity "
            "grow with its gate, averaged over channels (0 to 1). Edges with gate 0 are not drawn.",
        ],
    )
    return figure


def _at(diagnostics: dict, epoch: int) -> tuple[np.ndarray, int, list[float]]:
    """Return mean gates of one layer at `epoch`, (E,), its index, and the percentages pruned of all layers."""
    epochs = diagnostics["epochs"]
    if str(epoch) not in epochs:
        raise AfmpError(
            f"diagnostics of run {diagnostics['run']!r}, seed {diagnostics['seed']}: found no epoch {epoch}; "
            f"recorded are {', '.join(sorted(epochs, key=int))}."
        )
    content = epochs[str(epoch)]
    layer = len(content["mean_gate"]) // 2  # one at half the depth, as an example
    return np.asarray(content["mean_gate"][layer], dtype=np.float64), layer, content["pruned_percent"]


def _shown(layer: int, num_layers: int) -> str:
    """Return which layer is drawn, and why."""
    if num_layers == 1:
        return "The model has one layer, layer 0."
    rounded = ", rounded down" * (num_layers % 2)
    return (
        f"Layers are counted from 0. One of the {num_layers} layers is drawn, as an example: layer {layer}, which is "
        f"half of {num_layers}{rounded}. diagnostics.json has the gates of all layers."
    )


def _fixed_budget(pruned: list[float], gates: np.ndarray, semantics: str) -> str:
    """Return a sentence on the edges that every layer keeps, or "" if layers differ or the semantics prunes none."""
    if not SEMANTICS[semantics].prunes or len(set(pruned)) != 1 or not gates.size:
        return ""
    kept = round(gates.size * (1 - pruned[0] / 100))
    return f"Every layer keeps {kept:,} of {gates.size:,} edges and prunes {pruned[0]:.1f} %."


def _draw_graph(axis, diagnostics: dict, gates: np.ndarray, image) -> None:
    image = np.asarray(image)
    height, width = image.shape[1:]
    # A pale image, so that edges are visible on it. It reaches from 0 to H, as the patch centres assume.
    pale = 0.55 * image.transpose(1, 2, 0) / 255 + 0.1
    axis.imshow(pale, extent=(0, width, height, 0), interpolation="nearest")
    positions = np.asarray(diagnostics["positions"], dtype=np.float64)
    open_edges = gates > 0
    edge_index = np.asarray(diagnostics["edge_index"], dtype=np.int64).reshape(2, -1)[:, open_edges]
    strength = gates[open_edges]
    spacing = diagnostics["patch_size"]
    polygons = strokes(positions, edge_index, 0.26 * spacing * strength, spacing=spacing)
    colours = [(*EDGE_COLOUR, float(np.clip(0.15 + 0.85 * s, 0, 1))) for s in strength]
    axis.add_collection(PolyCollection(polygons, facecolors=colours, edgecolors="none", gid="edges"))
    size = min(30.0, 3000 / max(1, len(positions)))
    axis.scatter(positions[:, 1], positions[:, 0], s=size, c="white", edgecolors="black", linewidths=0.5, zorder=3)
    axis.grid(visible=False)
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    axis.spines[["top", "right"]].set_visible(True)
    axis.set(xlabel="Column, px", ylabel="Row, px")
    if not gates.size:
        axis.text(width / 2, height * 0.75, "one patch, no edges", ha="center", color="white", weight="bold")


def _draw_pruned(axis, pruned) -> None:
    bars = axis.bar(range(len(pruned)), pruned, color=palette.BLUE, alpha=0.8, width=0.65)
    axis.bar_label(bars, [f"{value:.1f}" for value in pruned], padding=2, fontsize=9)
    axis.set_ylim(0, 108)
    axis.set_yticks(range(0, 101, 20))
    axis.set_xticks(range(len(pruned)))
    axis.set_xlim(-0.6, len(pruned) - 0.4)
    axis.set_xlabel("Layer")
    axis.grid(visible=False, axis="x")


def _draw_histogram(axis, gates: np.ndarray) -> None:
    closed = int((gates == 0).sum())
    ticks, left = {value: f"{value:.1f}" for value in np.linspace(0, 1, 6)}, -0.02
    counts, _, _ = axis.hist(
        gates[gates > 0], bins=np.linspace(0, 1, 51), color=palette.GREEN, alpha=0.85, label="gate above 0"
    )
    if closed:
        # The bar of gates that are exactly 0 is not a bin, so it is left of the axis from 0 to 1.
        axis.bar(CLOSED_AT, closed, width=0.06, color=palette.GREY, label=f"gate exactly 0: {closed:,} edges")
        axis.axvline(-0.07, color=palette.GREY, linewidth=0.8, linestyle=":")
        axis.legend(loc="upper right")
        ticks, left = {CLOSED_AT: "exactly\n0"} | ticks, 2 * CLOSED_AT + 0.05
    axis.set_ylim(0.7, 3 * max(1, closed, counts.max()))
    axis.set_yscale("log")
    whole = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
    axis.yaxis.set_major_formatter(whole)
    axis.yaxis.set_minor_formatter(whole if axis.get_ylim()[1] < 10 else NullFormatter())
    axis.set_xlim(left, 1.02)
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.set(xlabel="Gate, mean over channels", ylabel=f"Edges (of {gates.size:,}), log scale")


def caption(diagnostics: dict, *, epoch: int) -> str:
    """Return the caption in reStructuredText, from the diagnostics themselves."""
    gates, layer, pruned = _at(diagnostics, epoch)
    semantics = diagnostics["semantics"]
    sentences = [
        f"Communication graph of run {diagnostics['run']}, seed {diagnostics['seed']}, at epoch {epoch} on test "
        f"image {diagnostics['image_index']}, {semantics} semantics ({wording.SEMANTICS_IN_WORDS[semantics]})."
    ]
    if gates.size:
        sentences.append(
            f"Layer {layer} has {gates.size:,} directed edges with a mean gate of {gates.mean():.3f} "
            f"(lowest {gates.min():.3f}, highest {gates.max():.3f})."
        )
        shares = ", ".join(f"{value:.1f}" for value in pruned)
        words = PRUNING_WORDS[SEMANTICS[semantics].prunes]
        sentences.append(f"Edges {words.caption}, from the first layer to the last: {shares} %.")
    else:
        sentences.append("The image is one patch, so there are no edges.")
    return wording.escape_rst(" ".join(sentences))
