"""Figure scalability_fits: crossings and rough fits in its text, slopes in its caption, no coefficients."""

import numpy as np
import pytest
from drawn_figures import DEIT_LINE, TIME, all_text, panel, wide_sweep
from matplotlib.text import Text

from afmp.analysis.models import MODELS
from afmp.analysis.sweep_tables import fits_table
from afmp.figures import scalability_fits


def test_text_has_crossings_and_no_coefficients():
    content = wide_sweep()
    text = " ".join(all_text(scalability_fits.draw(content)).split())
    assert "DeiT-Tiny's fit is above AFMP-Small's at every N measured" in text
    # Activations of the synthetic points.
    assert "DeiT-Tiny's fit is above AFMP-Small's from N = 150 to the largest N measured (50,176)." in text
    assert "5.96e-06" not in text and "0.141" not in text and "table scalability_fits" in text
    caption = scalability_fits.caption(content)
    assert "Local slope of time between the two largest sizes" in caption and "[" in caption
    for point in content["points"]:
        if point["model"] == "deit_tiny":
            point["time_ms"] = {key: np.asarray(found) * 1e-6 for key, found in point["time_ms"].items()} | {"n": 10}
    assert "DeiT-Tiny's fit is below AFMP-Small's at every N measured" in scalability_fits.caption(content)


@pytest.mark.parametrize(("factor", "rough"), [(1, False), (1.05, False), (1.5, True)])
def test_a_fit_that_is_off_by_a_tenth_is_dotted_and_the_legend_says_by_how_much(factor, rough):
    content = wide_sweep()
    time = [point for point in content["points"] if point["model"] == "deit_tiny"][2]["time_ms"]
    time |= {key: (np.asarray(value) * factor).tolist() for key, value in time.items() if key != "n"}
    missed = fits_table(content).query("quantity == 'time_ms' and model == 'deit_tiny'")["largest_miss"].item()
    assert (missed >= 0.1) == rough
    axis = panel(scalability_fits.draw(content), TIME)
    (drawn,) = [line for line in axis.lines if line.get_label().startswith("DeiT")]
    assert drawn.get_label() == DEIT_LINE + f" (off by up to {100 * missed:.0f} %)" * rough
    assert (drawn.get_linestyle() == "-.") != rough
    assert drawn.get_label() in [text.get_text() for text in axis.get_legend().get_texts()]


def test_no_crossing_is_claimed_if_the_passes_disagree():
    content = wide_sweep()
    assert "no crossing" not in scalability_fits.caption(content)
    generator = np.random.default_rng(0)
    for point in content["points"]:
        # Both models take as long, and their passes vary by far more than they differ.
        speed = 1e-3 * point["num_patches"] * point["batch_size"]
        every = speed * generator.uniform(0.5, 1.5, 10)
        point["time_ms"] |= {"median": float(np.median(every)), "all": every.tolist()}
    text = "no crossing is established: the bootstrap samples, or the points and the fits, disagree"
    assert f"In time, {text}" in scalability_fits.caption(content)
    assert f"N{text[1:]}" in " ".join(all_text(scalability_fits.draw(content)).split())


def test_each_afmp_has_a_crossing_and_no_text_covers_another():
    content = wide_sweep(models=MODELS)
    content["points"] += wide_sweep(models=MODELS, mode="inference")["points"]
    figure = scalability_fits.draw(content, [{**content, "semantics": "notebook"}])
    text = " ".join(all_text(figure).split())
    for name, crossing in (("AFMP-Small", 150), ("AFMP-refined-Small", 400)):
        where = f"{name}'s from N = {crossing} to the largest N measured (50,176)."
        assert text.count(f"DeiT-Tiny's fit is above {where}") == 2
    assert "In time, DeiT-Tiny's fit is above AFMP-refined-Small's" in scalability_fits.caption(content)
    figure.canvas.draw()
    words = [
        text for text in figure.findobj(Text) if "fit" in text.get_text() or text.get_text().startswith("Time per")
    ]
    boxes = [text.get_window_extent() for text in words if text.get_visible()]
    assert len(boxes) >= 7  # below four panels, two titles, the footer
    assert not [one for number, one in enumerate(boxes) for other in boxes[:number] if one.overlaps(other)]
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
