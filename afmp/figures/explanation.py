"""Figure of one answer: the edges that each layer kept, its prediction errors, and the classes without messages."""

import math
from collections.abc import Iterator

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure

from afmp.analysis import wording
from afmp.errors import printable
from afmp.figures.parts import palette, style
from afmp.figures.parts.strokes import strokes
from afmp.model.explanation import ExplainedLayer, Explanation, column_name
from afmp.study.semantics import SEMANTICS

NUM_CLASSES = 5  # that are shown
NUM_NAMED = 2  # edges per layer
WIDEST = 0.22  # stroke, in distances of patches
MAX_COLUMNS = 5  # of panels
ERROR_IN_WORDS = {
    "paper": "Euclidean norm over channels",
    "notebook": "Euclidean norm over channels",
    "refined": "root mean square over the channels of the router",
}
# From pale to dark, so that a stronger edge is also darker without colour.
GATES = LinearSegmentedColormap.from_list("gates", ["#85ADD6", palette.BLUE, "#08306B"])
ERRORS = LinearSegmentedColormap.from_list("errors", ["#FFF7EC", palette.ORANGE, "#5A2A00"])


@style.styled
def draw(explanation: Explanation, *, name: str) -> Figure:
    """Draw the image and its classes in a first row, then for each layer a panel of edges and one of errors below it.

    name: of the image, for the title.
    """
    about, layers = explanation.about, explanation.layers
    edge_scale = _scale([layer.gates[layer.gates > 0] for layer in layers])
    error_scale = _scale([explanation.patch_errors(layer) for layer in layers if layer.errors is not None])
    has_errors = error_scale is not None
    rows = math.ceil(len(layers) / MAX_COLUMNS)
    columns = max(3, math.ceil(len(layers) / rows))
    side = float(np.clip(0.24 * max(explanation.grid_shape), 2.8, 4.0))  # inches
    heights = [3.4, 0.65, rows * (1 + has_errors) * (side + 0.4)]
    figure = style.new_figure(columns * side + 0.3, sum(heights))
    best = int(explanation.probabilities.argmax())
    run = None if about.run is None else wording.fill(printable(about.run), 60, max_lines=1, placeholder=" …")
    # Weights of `afmp.save` are of no study, so they have none of these.
    training = {"Run": run, "seed": about.seed, "epoch": about.epoch}
    known = ", ".join(f"{key} {value}" for key, value in training.items() if value is not None)
    style.add_title(
        figure,
        f"{printable(name)}: {_class(explanation, best)}, {_percent(explanation.probabilities[best])}",
        subtitle="\n".join(filter(None, (known, wording.in_words(about.semantics)))),
    )
    style.add_footer(figure, _footer(explanation, has_errors=has_errors), columns=15.4)
    lines = [text.count("\n") + 1 for text in (figure.get_suptitle(), figure.get_supxlabel())]
    figure.set_figheight(sum(heights) + 0.5 + 0.26 * lines[0] + 0.17 * lines[1])
    head, scales, body = figure.subfigures(3, 1, height_ratios=heights)
    image, classes = head.subplots(1, 2, width_ratios=[1, 1.7])
    _show_image(image, explanation)
    # Beside the bars are names of up to 2.3 inches. An inch has 9.5 bold characters.
    _draw_classes(classes, explanation, columns=int((figure.get_figwidth() * 1.7 / 2.7 - 2.3) * 9.5))
    _draw_scales(scales, edge_scale, error_scale)
    panels = body.subplots(rows * (1 + has_errors), columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for number in range(len(layers)):
        row, column = divmod(number, columns)
        row *= 1 + has_errors
        _draw_edges(panels[row, column], explanation, number, edge_scale)
        if has_errors:
            _draw_errors(panels[row + 1, column], explanation, number, error_scale)
    return figure


def in_words(explanation: Explanation) -> Iterator[str]:
    """Yield what the picture shows, in lines of plain text."""
    rows = [(_class(explanation, index), index) for index in shown_classes(explanation)]
    width = max(len("class"), *(len(name) for name, _ in rows))
    yield f"{'class':{width}}  probability  without messages"
    for name, index in rows:
        with_, without = explanation.probabilities[index], explanation.without_messages[index]
        yield f"{name:{width}}  {_percent(with_):>11}  {_percent(without):>16}"
    for number, layer in enumerate(explanation.layers):
        parts = [f"layer {number}: {_kept(layer)}"]
        if named := _named(explanation, layer):
            parts.append(f"strongest {', '.join(named)}")
        if layer.errors is not None and len(layer.errors):
            parts.append(f"errors {_error_range(explanation, layer)}")
        yield "; ".join(parts)


def shown_classes(explanation: Explanation) -> list[int]:
    """Return the most probable classes, the first first, and last the best without messages if it is none of them."""
    falling = [int(index) for index in np.argsort(-explanation.probabilities, kind="stable")[:NUM_CLASSES]]
    other = int(explanation.without_messages.argmax())
    return falling if other in falling else [*falling, other]


def _class(explanation: Explanation, index: int) -> str:
    return printable(explanation.about.class_names[index])


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %"


def _kept(layer: ExplainedLayer) -> str:
    return f"{int((layer.gates > 0).sum()):,} of {len(layer.gates):,} edges"


def _named(explanation: Explanation, layer: ExplainedLayer) -> list[str]:
    edges = explanation.strongest_edges(layer, NUM_NAMED)
    return [f"{explanation.edge_name(edge)} {layer.gates[edge]:.2f}" for edge in edges]


def _error_range(explanation: Explanation, layer: ExplainedLayer) -> str:
    errors = explanation.patch_errors(layer)
    largest = int(np.nanargmax(errors))
    return f"{np.nanmin(errors):.2f} to {errors[largest]:.2f}, largest at {explanation.patch_name(largest)}"


def _scale(values: list[np.ndarray]) -> Normalize | None:
    """Return the scale of colours that all layers share; None if there is nothing to colour."""
    found = np.concatenate([np.empty(0), *values])
    found = found[np.isfinite(found)]
    return Normalize(found.min(), found.max()) if found.size else None


def _draw_scales(figure, edge_scale: Normalize | None, error_scale: Normalize | None) -> None:
    drawn = [
        (edge_scale, GATES, "Edges: gate, mean over channels"),
        (error_scale, ERRORS, "Errors: prediction error of a patch"),
    ]
    for axis, (scale, colours, label) in zip(figure.subplots(1, 2), drawn, strict=True):
        if scale is None:
            axis.set_axis_off()
        else:
            figure.colorbar(ScalarMappable(scale, colours), cax=axis, orientation="horizontal", label=label)


def _spacing(explanation: Explanation) -> float:
    return explanation.image.shape[1] / explanation.grid_shape[0]


def _lay_out(panel, explanation: Explanation) -> None:
    """Give a panel the axes of the image, with names of columns and rows of patches."""
    panel.set_axis_on()
    height, width = explanation.image.shape[1:]
    rows, columns = explanation.grid_shape
    spacing = _spacing(explanation)
    every = math.ceil(max(rows, columns) / 8)
    shown = range(0, columns, every)
    panel.set_xticks([spacing * (index + 0.5) for index in shown], [column_name(index) for index in shown])
    shown = range(0, rows, every)
    panel.set_yticks([spacing * (index + 0.5) for index in shown], [str(index + 1) for index in shown])
    panel.tick_params(length=0, labelsize=8, pad=1.5)
    panel.grid(visible=False)
    panel.spines[["top", "right"]].set_visible(True)
    panel.set(xlim=(0, width), ylim=(height, 0), aspect="equal")


def _show_image(panel, explanation: Explanation) -> None:
    _lay_out(panel, explanation)
    height, width = explanation.image.shape[1:]
    panel.imshow(explanation.image.transpose(1, 2, 0), extent=(0, width, height, 0), interpolation="nearest")
    spacing = _spacing(explanation)
    lines = [[(spacing * i, 0), (spacing * i, height)] for i in range(1, explanation.grid_shape[1])]
    lines += [[(0, spacing * i), (width, spacing * i)] for i in range(1, explanation.grid_shape[0])]
    panel.add_collection(LineCollection(lines, colors="white", linewidths=0.5, alpha=0.6))
    panel.set_title("Image as the model reads it")
    panel.set_xlabel(f"{len(explanation.positions):,} patches, named by column and row", fontsize=9)


def _draw_classes(panel, explanation: Explanation, *, columns: int) -> None:
    """Draw the bars of the classes under a title in one line, or in two if it has more than `columns` characters."""
    shown = shown_classes(explanation)
    at = np.arange(len(shown))
    for shift, values, colour, label in (
        (-0.2, explanation.probabilities, palette.BLUE, "with messages"),
        (0.2, explanation.without_messages, palette.ORANGE, "without messages"),
    ):
        percent = 100 * values[shown]
        bars = panel.barh(at + shift, percent, height=0.38, color=colour, label=label)
        panel.bar_label(bars, [f"{value:.1f}" for value in percent], padding=3, fontsize=9)
    names = [wording.shortened(_class(explanation, index), lines=1) for index in shown]
    panel.set_yticks(at, names)
    panel.set_ylim(len(shown) - 0.5, -0.5)
    panel.set_xlim(0, 112)
    panel.set_xticks(range(0, 101, 20))
    panel.grid(visible=False, axis="y")
    panel.set_xlabel("Probability, %")
    best = int(explanation.without_messages.argmax())
    stays = best == int(explanation.probabilities.argmax())
    answer = f"{names[shown.index(best)]}, {_percent(explanation.without_messages[best])}"
    parts = "Without messages the answer", f"{'stays' if stays else 'becomes'} {answer}"
    one_line = " ".join(parts)
    panel.set_title(one_line if wording.columns_of(one_line) <= columns else "\n".join(parts))
    panel.legend(loc="lower right")


def _draw_edges(panel, explanation: Explanation, number: int, scale: Normalize | None) -> None:
    layer = explanation.layers[number]
    _lay_out(panel, explanation)
    height, width = explanation.image.shape[1:]
    pale = 255 - 0.25 * (255 - explanation.image.transpose(1, 2, 0).astype(float))
    panel.imshow(pale / 255, extent=(0, width, height, 0), interpolation="nearest")
    kept = np.flatnonzero(layer.gates > 0)
    kept = kept[np.argsort(layer.gates[kept], kind="stable")]  # the strongest on top
    if scale is not None and len(kept):
        spacing, strength = _spacing(explanation), layer.gates[kept]
        polygons = strokes(
            explanation.positions,
            explanation.edge_index[:, kept],
            WIDEST * spacing * strength / scale.vmax,
            spacing=spacing,
        )
        colours = GATES(scale(strength))
        colours[-len(explanation.strongest_edges(layer, NUM_NAMED)) :] = to_rgba(palette.VERMILION)
        panel.add_collection(PolyCollection(polygons, facecolors=colours, edgecolors="none", gid="edges"))
    size = min(14.0, 700 / len(explanation.positions))
    panel.scatter(*explanation.positions.T[::-1], s=size, c="white", edgecolors=palette.DARK, linewidths=0.5, zorder=3)
    panel.set_title(f"Layer {number}: {_kept(layer)}")
    named = ", ".join(_named(explanation, layer))
    panel.set_xlabel(f"strongest: {named}" if named else "no edge carries a message", fontsize=8.5)


def _draw_errors(panel, explanation: Explanation, number: int, scale: Normalize) -> None:
    layer = explanation.layers[number]
    if layer.errors is None:
        panel.text(
            0.5, 0.5, f"Layer {number} has no\nprediction errors", ha="center", va="center", transform=panel.transAxes
        )
        return
    _lay_out(panel, explanation)
    panel.set_facecolor("#CCCCCC")
    errors = explanation.patch_errors(layer)
    height, width = explanation.image.shape[1:]
    panel.imshow(
        errors.reshape(explanation.grid_shape),
        extent=(0, width, height, 0),
        cmap=ERRORS,
        norm=scale,
        interpolation="nearest",
    )
    panel.set_title(f"Layer {number}: errors")
    if len(layer.errors):
        panel.set_xlabel(_error_range(explanation, layer), fontsize=8.5)


def _footer(explanation: Explanation, *, has_errors: bool) -> list[str]:
    semantics = explanation.about.semantics
    pruned = "Pruned edges are not drawn." if SEMANTICS[semantics].prunes else "Under notebook semantics no gate is 0."
    errors = (
        "Error of a patch: how far its state is from what its receivers predict of it, averaged over all edges on "
        f"which it sends, also pruned ones ({ERROR_IN_WORDS[semantics]})."
    )
    if len(set(explanation.edge_index[1])) < len(explanation.positions):
        errors += " A grey patch sends on no edge."
    alone = "The image is alone in its batch, since only the first image of a batch exchanges messages."
    return [
        "Each edge narrows from its sender to its receiver and bends to the left of its way. Width and darkness grow "
        f"with its gate. {pruned} The strongest of each layer are orange-red, and named below it.",
        errors if has_errors else "There are no prediction errors.",
        "Without messages: the same weights on a graph without edges, which is the same as gates of 0 on all edges. "
        "The weights were trained with messages, so this shows what the answer takes from them, and not how well a "
        "model trained without messages would answer.",
        alone if SEMANTICS[semantics].depends_on_batch else "",
    ]
