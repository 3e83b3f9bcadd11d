"""Figure scalability_fits: coefficients, slopes and crossings in its text and caption."""

import numpy as np
from drawn_figures import all_text, wide_sweep

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
