"""Tables of the sweep: ratios and fits, and their captions."""

import pytest
from synthetic_results import synthetic_sweep_of_times

from afmp.analysis import sweep_tables


def test_tables_of_ratios_and_fits():
    content = synthetic_sweep_of_times(lambda n: 4e-3 * n)
    content["points"] += synthetic_sweep_of_times(lambda n: 1e-3 * n + 1e-5 * n * n, model="deit_tiny")["points"]
    ratios = sweep_tables.ratios_table(content)
    assert ratios["num_patches"].tolist() == [16, 64, 196, 784, 3136, 12544, 50176]
    assert ratios["time_ratio"].iloc[-1] == pytest.approx(125.7, rel=0.1)
    fits = sweep_tables.fits_table(content)
    assert fits[["model", "quantity"]].values.tolist() == [
        ["afmp_small", "time_ms"],
        ["deit_tiny", "time_ms"],
        ["afmp_small", "activations_mb"],
        ["deit_tiny", "activations_mb"],
    ]
    assert fits["crossing"].isna().tolist()[:2] == [True, False]
    assert "local slope" in sweep_tables.fits_caption(fits)
    assert "AFMP-Small needs less time in" in sweep_tables.ratios_caption([content])


def test_ratios_fits_and_crossings_of_each_afmp():
    content = synthetic_sweep_of_times(lambda n: 4e-3 * n)
    content["points"] += synthetic_sweep_of_times(lambda n: 1e-3 * n + 1e-5 * n * n, model="deit_tiny")["points"]
    content["points"] += synthetic_sweep_of_times(lambda n: 2e-3 * n, model="afmp_refined_small")["points"]
    ratios = sweep_tables.ratios_table(content)
    assert ratios["model"].tolist() == ["afmp_small"] * 7 + ["afmp_refined_small"] * 7
    assert ratios["time_ratio"].iloc[[6, 13]].tolist() == pytest.approx([125.7, 251.4], rel=0.1)
    assert "7 pairs of points; AFMP-refined-Small needs less time in 5" in sweep_tables.ratios_caption([content])
    said = sweep_tables.scalability_caption([content])
    assert "DeiT-Tiny / AFMP-Small = 12" in said and "DeiT-Tiny / AFMP-refined-Small = 2" in said

    fits = sweep_tables.fits_table(content).set_index(["model", "quantity"])
    deit, refined = fits.loc["deit_tiny", "time_ms"], fits.loc["afmp_refined_small", "time_ms"]
    assert deit["crossing"] == pytest.approx(300, rel=0.1) and deit["crossing_refined"] == pytest.approx(100, rel=0.2)
    assert refined[["crossing", "crossing_refined"]].isna().all()
    assert deit["quadratic_share_ci95_low"] <= deit["quadratic_share"] <= deit["quadratic_share_ci95_high"]
    assert deit["quadratic_share"] == pytest.approx(1, abs=0.01)
    assert refined["quadratic_share"] < 0.05 and not refined["quadratic_share_ci95_low"] > 0
    assert "of the fitted time at the largest N; 0 is within its interval in 1 of 1 fit" in sweep_tables.fits_caption(
        fits.reset_index()
    )
