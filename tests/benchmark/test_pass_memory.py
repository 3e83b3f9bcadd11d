"""Peak memory of a pass on a CPU."""

import pytest
from small_sweeps import measured_sweep, replace_models, small_sweep


def test_memory_on_a_cpu_is_the_growth_of_the_resident_set():
    for point in measured_sweep()["points"]:
        memory = point["memory"]
        assert memory["kind"] == "resident_set_growth"
        assert memory["reserved_mb"] is None
        # At least weights and gradients: the growth is read over the whole life of the model.
        assert memory["peak_mb"] > 2 * point["num_parameters"] * 4 / 2**20
        assert memory["weights_mb"] >= point["num_parameters"] * 4 / 2**20
        assert memory["gradients_mb"] > 0.9 * point["num_parameters"] * 4 / 2**20
        assert memory["inputs_mb"] == pytest.approx(2 * (3 * point["resolution"] ** 2 * 4 + 8) / 2**20)
        parts = ("weights_mb", "gradients_mb", "inputs_mb", "activations_mb")
        assert sum(memory[part] for part in parts) == pytest.approx(memory["peak_mb"])


def test_memory_of_a_point_is_its_own_and_not_that_of_the_point_before(monkeypatch):
    replace_models(monkeypatch, afmp_small="build_heavy")
    heavy, deit = small_sweep(models=("afmp_small", "deit_tiny"), resolutions=(32,))["points"]
    assert 512 <= heavy["memory"]["peak_mb"] < 512 + 64
    assert deit["memory"]["peak_mb"] < 200
