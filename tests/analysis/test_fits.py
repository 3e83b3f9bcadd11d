"""Fits over the number of patches recover known coefficients, slopes and crossings, within their intervals."""

import math

import numpy as np
import pytest
from synthetic_results import synthetic_point, synthetic_scalability, synthetic_sweep_of_times

from afmp.analysis.fits import crossing, crossing_is_sure, fit_activations, fit_time
from afmp.analysis.series import best_series, series_of


def fitted(time_of, **options):
    return fit_time(series_of(synthetic_sweep_of_times(time_of, **options))[0])


@pytest.mark.parametrize("true", [(2.0, 2e-3, 0.0), (2.0, 1e-3, 3e-7), (0.0, 0.0, 1e-6)])
def test_known_coefficients_are_recovered(true):
    image = {"time_of": lambda n: true[1] * n + true[2] * n * n, "fixed": true[0]}
    exact = fitted(**image, noise=0)
    assert exact.coefficients == pytest.approx(true, rel=1e-6, abs=1e-12)
    noisy = fitted(**image)
    for power, value in enumerate(true):
        estimate = noisy.coefficient(power)
        assert estimate.low <= estimate.value <= estimate.high or (estimate.value == 0 and math.isnan(estimate.low))
        assert estimate.value == pytest.approx(value, rel=0.2, abs=[0.3, 2e-4, 1e-9][power])


def test_local_slope_is_1_for_linear_and_2_for_quadratic_growth():
    linear, quadratic = fitted(lambda n: 2e-3 * n), fitted(lambda n: 1e-6 * n * n)
    for fit, slope in ((linear, 1), (quadratic, 2)):
        assert fit.slope.value == pytest.approx(slope, abs=0.02)
        assert fit.slope.low < slope < fit.slope.high


def test_a_fixed_cost_per_pass_is_no_growth_with_n():
    # The cost is equal for all images. Large images have small batches, so the cost per image grows with N.
    fit = fitted(lambda n: 0, fixed=25)
    assert fit.coefficient(0).value == pytest.approx(25, rel=0.02)
    assert fit.quadratic_share.value < 0.02 and fit.largest_miss < 0.02


def test_correlated_passes_have_wide_intervals():
    """Passes that drift, as when a clock changes, are less certain than independent passes."""
    content = synthetic_sweep_of_times(lambda n: 1e-3 * n)
    for point in content["points"]:
        every = sorted(point["time_ms"]["all"])
        point["time_ms"] |= {"all": every, "median": float(np.median(every))}
    drifting, independent = fit_time(series_of(content)[0]), fitted(lambda n: 1e-3 * n)
    width = {name: fit.slope.high - fit.slope.low for name, fit in (("drift", drifting), ("none", independent))}
    assert width["drift"] > 1.3 * width["none"]


def test_crossing_is_where_the_other_model_becomes_slower():
    ours = fitted(lambda n: 3e-3 * n, noise=0.001)
    theirs = fitted(lambda n: 1e-3 * n + 1e-5 * n * n, noise=0.001)
    at = crossing(ours, theirs)
    assert at.value == pytest.approx(200, rel=0.03) and at.low <= at.value <= at.high
    assert math.isnan(crossing(theirs, ours).value)
    slower = fitted(lambda n: 4e-3 * n + 1e-5 * n * n, noise=0.001)
    assert crossing(ours, slower).value == 0
    # A crossing beyond the measured sizes is not reported.
    hardly = fitted(lambda n: 1e-3 * n + 1e-9 * n * n, noise=0.001)
    assert math.isnan(crossing(ours, hardly).value) and crossing_is_sure(ours, hardly)


def test_a_crossing_is_sure_if_all_bootstrap_samples_have_one_or_none_has():
    ours = fitted(lambda n: 1e-3 * n, noise=0.001)
    theirs = fitted(lambda n: 2e-4 * n + 1e-5 * n * n, noise=0.001)
    assert crossing_is_sure(ours, theirs) and crossing_is_sure(theirs, ours)
    alike = fitted(lambda n: 1.001e-3 * n, noise=0.05)
    assert not crossing_is_sure(ours, alike) and math.isnan(crossing(ours, alike).value)
    once = [
        fit_activations(series_of(synthetic_sweep_of_times(lambda n: n, model=model))[0])
        for model in ("afmp_small", "deit_tiny")
    ]
    assert crossing_is_sure(*once)


def test_no_crossing_is_sure_if_the_points_contradict_the_fits():
    """The other model needs less at one size in the middle, which the fits do not show."""
    ours, theirs = fitted(lambda n: 1e-3 * n, noise=0), fitted(lambda n: 2e-3 * n, noise=0)
    assert crossing_is_sure(ours, theirs) and crossing(ours, theirs).value == 0
    values = theirs.values.copy()
    values[3] = 0.9 * ours.values[3]
    theirs = theirs._replace(values=values)
    assert not crossing_is_sure(ours, theirs) and math.isnan(crossing(ours, theirs).value)


def test_activations_have_no_interval_and_two_sizes_no_fit():
    content = synthetic_sweep_of_times(lambda n: 1e-3 * n)
    fit = fit_activations(series_of(content)[0])
    assert fit.coefficients == pytest.approx([0, 9 / 64, 0], abs=1e-9)
    assert math.isnan(fit.slope.low) and fit.band(fit.sizes) is None
    content["points"] = content["points"][:2]
    assert fit_time(series_of(content)[0]) is None and fit_activations(series_of(content)[0]) is None


def test_the_best_series_has_the_most_sizes_then_the_lowest_times():
    points = [synthetic_point("deit_tiny", size, precision=p) for size in (64, 128) for p in ("fp32", "bf16")]
    series = series_of(synthetic_scalability(points))
    assert best_series(series, "deit_tiny", "train").precision == "bf16"
    points[-1] |= {"status": "oom", "time_ms": None, "memory": None}
    assert best_series(series, "deit_tiny", "train").precision == "fp32"
    assert best_series(series, "afmp_small", "train") is None


def test_a_linear_model_has_0_within_the_interval_of_its_quadratic_share():
    """A coefficient at its bound 0 keeps the interval that says how large it could be, but never one without width."""
    shares = [fitted(lambda n: 2e-3 * n, fixed=fixed, noise=0.1).quadratic_share for fixed in range(4)]
    assert all(0 <= share.value < 0.2 and not share.low > 0 for share in shares)
    assert any(share.value == 0 < share.high for share in shares)
    exact = fitted(lambda n: 2e-3 * n, noise=0)
    assert (exact.quadratic_share.value, exact.coefficient(2).value) == (0, 0)
    assert math.isnan(exact.quadratic_share.high) and math.isnan(exact.coefficient(2).high)
