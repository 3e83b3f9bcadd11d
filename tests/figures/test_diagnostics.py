"""Figure of a run's diagnostics: edges, pruned shares, and the histogram of gates."""

import numpy as np
import pytest
from drawn_figures import all_text, by_gid, panel
from matplotlib.colors import to_rgba
from synthetic_results import synthetic_diagnostics

from afmp.errors import AfmpError
from afmp.figures import diagnostics
from afmp.figures.parts import palette, style


def test_panels_show_the_recorded_gates():
    content = synthetic_diagnostics()
    image = np.full((3, 32, 32), 200, dtype=np.uint8)
    figure = diagnostics.draw(content, epoch=100, image=image)
    assert (
        figure.get_suptitle()
        == "Run sparse_0.3, seed 0, epoch 100\npaper semantics: what the text of the original notebook describes"
    )
    gates = np.array(content["epochs"]["100"]["mean_gate"][2])
    axis = panel(figure, "Communication graph, layer 2")
    edges = by_gid(axis, "edges")
    assert len(edges.get_paths()) == (gates > 0).sum() < len(gates)
    opacity = edges.get_facecolor()[:, 3]
    np.testing.assert_array_equal(np.argsort(opacity), np.argsort(gates[gates > 0]))
    bars = panel(figure, "Edges pruned per layer").patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], content["epochs"]["100"]["pruned_percent"])
    assert "not among the k kept" in panel(figure, "Edges pruned per layer").get_ylabel()
    histogram = panel(figure, "Mean gates of layer 2")
    assert histogram.get_yscale() == "log"
    drawn = sum(p.get_height() for p in histogram.patches if to_rgba(palette.GREEN)[:3] == p.get_facecolor()[:3])
    assert drawn == (gates > 0).sum()
    assert f"gate exactly 0: {(gates == 0).sum()} edges" in all_text(figure)
    # The bar of gates that are exactly 0 has its own label, left of the axis from 0 to 1.
    closed = next(p for p in histogram.patches if to_rgba(palette.GREY) == p.get_facecolor())
    assert closed.get_x() + closed.get_width() < 0
    labels = dict(zip(histogram.get_xticks(), [t.get_text() for t in histogram.get_xticklabels()], strict=True))
    assert labels[closed.get_x() + closed.get_width() / 2] == "exactly\n0"
    assert all(text == f"{at:.1f}" for at, text in labels.items() if at >= 0)


def test_a_fixed_budget_is_a_line_of_text_in_place_of_a_panel():
    content, image = synthetic_diagnostics(), np.zeros((3, 32, 32), dtype=np.uint8)
    varied = diagnostics.draw(content, epoch=100, image=image)
    edges = len(content["edge_index"][0])
    content["epochs"]["100"]["pruned_percent"] = [100 * (1 - 4 / edges)] * 4
    fixed = diagnostics.draw(content, epoch=100, image=image)
    sentence = f"Every layer keeps 4 of {edges} edges and prunes {100 * (1 - 4 / edges):.1f} %."
    assert sentence in all_text(fixed).replace("\u00a0", " ") and "Every layer keeps" not in all_text(varied)
    titles = [{axis.get_title() for axis in figure.axes} for figure in (varied, fixed)]
    assert titles[0] - titles[1] == {"Edges pruned per layer"} and titles[1] < titles[0]


def test_the_footer_says_which_layer_is_drawn():
    content, image = synthetic_diagnostics(), np.zeros((3, 32, 32), dtype=np.uint8)
    said = {}
    for num_layers in (1, 3, 4):
        for recorded in content["epochs"].values():
            recorded["mean_gate"] = [recorded["mean_gate"][0]] * num_layers
            recorded["pruned_percent"] = [50.0 * layer for layer in range(num_layers)]
        said[num_layers] = " ".join(all_text(diagnostics.draw(content, epoch=100, image=image)).split())
    assert "The model has one layer, layer 0." in said[1]
    assert "One of the 3 layers is drawn, as an example: layer 1, which is half of 3, rounded down." in said[3]
    assert "One of the 4 layers is drawn, as an example: layer 2, which is half of 4." in said[4]


def test_notebook_counts_mean_gates_below_one_half():
    content = synthetic_diagnostics(semantics="notebook")
    figure = diagnostics.draw(content, epoch=10, image=np.zeros((3, 32, 32), dtype=np.uint8))
    assert "mean gate below 0.5" in all_text(figure) and "notebook semantics" in figure.get_suptitle()
    assert "mean gate below 0.5" in diagnostics.caption(content, epoch=10)
    with pytest.raises(AfmpError, match="epoch 11; recorded are 10, 100"):
        diagnostics.draw(content, epoch=11, image=np.zeros((3, 32, 32), dtype=np.uint8))


@pytest.mark.filterwarnings("error")
def test_one_patch_has_no_edges(tmp_path):
    content = synthetic_diagnostics(side=1)
    figure = diagnostics.draw(content, epoch=10, image=np.zeros((3, 8, 8), dtype=np.uint8))
    assert "no edges" in all_text(figure) and "no edges" in diagnostics.caption(content, epoch=10)
    style.save_figure(figure, png=tmp_path / "figure.png")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
