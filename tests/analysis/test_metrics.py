"""Metrics of result files."""

import numpy as np
import pytest
from synthetic_results import synthetic_result

from afmp.analysis.metrics import metric_interval


def test_times_of_seeds_trained_as_one_stack_are_one_measurement():
    results = [synthetic_result("sparse_0.3", seed=seed) for seed in range(4)]
    for result in results:
        result["trained_together"] = [0, 1, 2, 3]
    assert np.isnan(metric_interval(results, "wall_time_s").half)
    assert metric_interval(results, "test_accuracy").n == 4
    for result in results:
        result["trained_together"] = [0, 1] if result["seed"] < 2 else [2, 3]
    interval, times = metric_interval(results, "wall_time_s"), [r["wall_time_s"] for r in results]
    assert interval.n == 2 and interval.mean == pytest.approx(np.mean(times))
    assert interval.std == pytest.approx(np.std([np.mean(times[:2]), np.mean(times[2:])], ddof=1))
