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
