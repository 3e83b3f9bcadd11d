"""Figure scalability_fits: coefficients, slopes and crossings in its text and caption."""

import numpy as np
from drawn_figures import all_text, wide_sweep
from matplotlib.text import Text

from afmp.analysis.models import MODELS
from afmp.figures import scalability_fits


def test_text_has_coefficients_slopes_and_crossing():
    content = wide_sweep()
    text = all_text(scalability_fits.draw(content))
    assert "c2 5.96e-06 [" in text and "local slope 1.00 [" in text and "local slope 1.99 [" in text
    assert (
        "c2 N² is 100 % at N = 50,176" in text and "DeiT-Tiny's fit is above AFMP-Small's at every N measured" in text
    )
    # Activations of the synthetic points.
    assert "c1 0.141 MB  c2 0 MB" in text
    assert "DeiT-Tiny's fit is above AFMP-Small's from N = 150 to the largest N measured (50,176)." in text
    caption = scalability_fits.caption(content)
    assert "Local slope of time between the two largest sizes" in caption and "[" in caption
    for point in content["points"]:
        if point["model"] == "deit_tiny":
            point["time_ms"] = {key: np.asarray(found) * 1e-6 for key, found in point["time_ms"].items()} | {"n": 10}
    assert "DeiT-Tiny's fit is below AFMP-Small's at every N measured" in scalability_fits.caption(content)


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
    assert f"N{text[1:]}" in all_text(scalability_fits.draw(content))


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
    words = [text for text in figure.findobj(Text) if "c0" in text.get_text() or text.get_text().startswith("Time per")]
    boxes = [text.get_window_extent() for text in words if text.get_visible()]
    assert len(boxes) >= 7  # below four panels, two titles, the footer
    assert not [one for number, one in enumerate(boxes) for other in boxes[:number] if one.overlaps(other)]
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
