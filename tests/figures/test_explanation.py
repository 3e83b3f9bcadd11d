"""Figure of one answer: panels of edges and errors, both directions of an edge apart, and nothing that overlaps."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from drawn_figures import all_text, by_gid, panel
from matplotlib.colors import to_rgba

from afmp.figures import explanation as figure_module
from afmp.figures.explanation import draw, in_words
from afmp.figures.parts import palette, style
from afmp.figures.parts.strokes import strokes
from afmp.model.explanation import ExplainedLayer, Explanation
from afmp.model.scaffold import both_directions, build_edges, grid_positions
from afmp.model.trained import About

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


def explained(*, side=8, layers=9, kept=1.0, semantics="refined", first_errors=True) -> Explanation:
    """An explanation of random numbers, on the scaffold of a grid."""
    random = np.random.default_rng(0)
    positions = grid_positions(4 * side, 4)
    edge_index = both_directions(build_edges(positions)).numpy()
    number = edge_index.shape[1]
    about = About("tiny", semantics, 3, 2, "abc", NAMES, 4 * side, (0.5,) * 3, (0.5,) * 3)
    of_layers = []
    for layer in range(layers):
        gates = random.uniform(0.1, 0.9, number) * (random.permutation(number) < kept * number)
        errors = random.uniform(0.5, 3.0, number) if first_errors or layer else None
        of_layers.append(ExplainedLayer(gates, errors))
    image = random.integers(0, 256, (3, 4 * side, 4 * side), dtype=np.uint8)
    answer = np.array([0.4, 0.2, 0.1, 0.1, 0.1, 0.06, 0.04])
    return Explanation(about, image, (side, side), positions.numpy(), edge_index, of_layers, answer, answer[::-1])


def test_each_layer_has_a_panel_of_the_edges_that_it_kept_and_one_of_its_errors():
    content = explained(side=4, layers=3, kept=0.3, first_errors=False)
    figure = draw(content, name="photo.png")
    for number, layer in enumerate(content.layers):
        kept = np.sort(layer.gates[layer.gates > 0])
        axis = panel(figure, f"Layer {number}: {len(kept)} of {len(layer.gates)} edges")
        edges = by_gid(axis, "edges")
        sizes = [np.ptp(path.vertices, axis=0) for path in edges.get_paths()]
        assert len(sizes) == len(kept)
        colours = edges.get_facecolor()
        darkness = -colours[:-2, :3].sum(axis=1)
        assert (np.diff(darkness) >= 0).all() and np.ptp(darkness) > 0.5  # drawn from the weakest to the strongest
        assert (colours[-2:] == to_rgba(palette.VERMILION)).all()
        strongest = [f"{content.edge_name(edge)} {layer.gates[edge]:.2f}" for edge in np.argsort(-layer.gates)[:2]]
        assert axis.get_xlabel() == f"strongest: {', '.join(strongest)}"
        if layer.errors is None:
            assert f"Layer {number} has no\nprediction errors" in all_text(figure)
            continue
        below = panel(figure, f"Layer {number}: errors")
        errors = content.patch_errors(layer)
        np.testing.assert_array_equal(below.images[0].get_array(), errors.reshape(4, 4))
        assert below.get_xlabel().endswith(f"largest at {content.patch_name(errors.argmax())}")


def test_width_grows_with_the_gate_and_both_directions_of_an_edge_are_apart():
    positions, pair = np.array([[4.0, 4.0], [4.0, 12.0]]), np.array([[1, 0], [0, 1]])
    there, back = strokes(positions, pair, np.array([1.0, 2.0]), spacing=8)
    # A1 sends to B1, to the right: its left is above the line, where y is smaller. The way back is below.
    assert there[:, 1].max() < 4 < back[:, 1].min()

    def width(stroke, step):
        return np.linalg.norm(stroke[step] - stroke[len(stroke) - 1 - step])

    for stroke, wide, sender, receiver in ((there, 1, 4, 12), (back, 2, 12, 4)):
        assert width(stroke, 0) == pytest.approx(wide) and width(stroke, 8) == pytest.approx(0)
        assert abs(stroke[0, 0] - sender) < abs(stroke[0, 0] - receiver)
    # In a window, edges along one line of patches bend the more the longer they are.
    row = np.array([[4.0, 4.0], [4.0, 12.0], [4.0, 20.0]])
    short, long = strokes(row, np.array([[1, 2], [0, 0]]), np.array([1.0, 1.0]), spacing=8)
    assert long[:, 1].min() < short[:, 1].min() - 0.5


def test_the_classes_are_shown_with_and_without_messages():
    content = explained(side=2, layers=1)
    figure = draw(content, name="photo.png")
    assert figure.get_suptitle().startswith("photo.png: ant, 40.0 %\nRun tiny, seed 3, epoch 2\nrefined semantics")
    axis = panel(figure, "Without messages the answer\nbecomes gnu, 40.0 %")
    # The five most probable, and the best without messages.
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ant", "bee", "cat", "dog", "eel", "gnu"]
    widths = np.array([bar.get_width() for bar in axis.patches]).reshape(2, 6)
    np.testing.assert_allclose(widths, [[40, 20, 10, 10, 10, 4], [4, 6, 10, 10, 10, 40]])
    lines = list(in_words(content))
    assert lines[1].split() == ["ant", "40.0", "%", "4.0", "%"] and lines[6].split() == ["gnu", "4.0", "%", "40.0", "%"]
    (strongest,) = content.strongest_edges(content.layers[0], 1)
    assert f"layer 0: 10 of 10 edges; strongest {content.edge_name(strongest)} " in lines[7]


def test_weights_of_no_study_name_no_training():
    content = explained(side=2, layers=1)
    content = replace(content, about=replace(content.about, run=None, seed=None, epoch=None))
    title = draw(content, name="photo.png").get_suptitle()
    assert title.startswith("photo.png: ant, 40.0 %\nrefined semantics: ")


def seen_labels(axis) -> list:
    """The labels of ticks within the axis: the others are not drawn."""
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


LONG = [{"side": 14, "layers": 6}, {"side": 4, "layers": 4}]
SHORT = [{"side": 8, "layers": 9}, {"side": 3, "layers": 1}]
CASES = [*SHORT, *(pytest.param(changes, marks=pytest.mark.long) for changes in LONG)]


@pytest.mark.parametrize("changes", CASES)
def test_no_text_overlaps_another_or_leaves_the_picture(changes):
    content = explained(**changes)
    names = tuple(f"{name}_of_the_woods" for name in NAMES)
    content = replace(content, about=replace(content.about, class_names=names))
    figure = draw(content, name="a long name of a photograph " * 9 + ".png")
    figure.canvas.draw()
    texts = [figure._suptitle, figure._supxlabel]
    for axis in figure.axes:
        texts += [axis.title, axis.xaxis.label, *axis.texts, *seen_labels(axis.xaxis), *seen_labels(axis.yaxis)]
    boxes = {text: text.get_window_extent() for text in texts if text.get_visible() and text.get_text()}
    assert len(boxes) > 20
    for text, box in boxes.items():
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
    for one, other in itertools.combinations(boxes, 2):
        assert not boxes[one].overlaps(boxes[other]), (one, other)


@pytest.mark.filterwarnings("error")
def test_one_patch_has_no_edges(tmp_path):
    content = explained(side=1, layers=2, semantics="notebook")
    figure = draw(content, name="photo.png")
    assert panel(figure, "Layer 1: 0 of 0 edges").get_xlabel() == "no edge carries a message"
    assert "There are no prediction errors." in all_text(figure)
    assert "alone in its batch" in all_text(figure)
    assert list(in_words(content))[-1] == "layer 1: 0 of 0 edges"
    style.save_figure(figure, png=tmp_path / "figure.png")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_every_semantics_says_what_its_errors_are():
    assert {"paper", "notebook", "refined"} == set(figure_module.ERROR_IN_WORDS)
