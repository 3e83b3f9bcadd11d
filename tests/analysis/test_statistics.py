"""Intervals over random seeds and differences paired by random seed."""

import numpy as np
import pytest
from scipy import stats

from afmp.analysis import statistics
from afmp.errors import AfmpError


def test_interval_equals_the_t_interval_of_scipy():
    values = np.array([[30.1, 2.0], [29.4, 2.5], [31.2, 1.0], [30.0, 2.2]])
    interval = statistics.mean_and_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=values.mean(0), scale=stats.sem(values, axis=0))
    np.testing.assert_allclose((interval.low, interval.high), (low, high), rtol=1e-12)
    np.testing.assert_allclose(interval.std, values.std(0, ddof=1))
    np.testing.assert_allclose(interval.half, (high - low) / 2)
    assert interval.n == 4
    np.testing.assert_allclose(statistics.mean_and_interval(values.T, axis=1).low, low)


def test_one_value_has_a_mean_and_no_interval():
    interval = statistics.mean_and_interval([31.5])
    assert interval.mean == 31.5 and interval.n == 1
    assert np.isnan([interval.std, interval.low, interval.high]).all()
    with pytest.raises(AfmpError, match="0 seeds"):
        statistics.mean_and_interval([])


def test_two_values_have_a_deviation_and_no_interval():
    interval = statistics.mean_and_interval([29.0, 34.0])
    assert interval.std == pytest.approx(np.std([29.0, 34.0], ddof=1)) and np.isnan([interval.low, interval.high]).all()
    assert statistics.two_values(interval.mean, interval.std) == pytest.approx((29.0, 34.0))
    difference = statistics.paired_difference({0: 1.0, 1: 2.0}, {0: 0.5, 1: 0.5})
    assert np.isnan([difference.low, difference.high, difference.p_value]).all() and difference.excludes_zero is None


def test_paired_difference_is_the_paired_t_test_over_common_seeds():
    run = {0: 30.0, 1: 31.0, 2: 30.5, 7: 99.0}
    reference = {0: 29.0, 1: 30.4, 2: 30.6, 8: 1.0}
    difference = statistics.paired_difference(run, reference)
    expected = stats.ttest_rel([30.0, 31.0, 30.5], [29.0, 30.4, 30.6])
    assert difference.n == 3
    assert difference.mean == pytest.approx(0.5)
    assert difference.p_value == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (difference.low, difference.high) == (pytest.approx(low), pytest.approx(high))
    assert difference.excludes_zero is False
    assert statistics.paired_difference({1: 1.0}, {2: 2.0}).n == 0
    assert statistics.paired_difference({1: 1.0}, {1: 2.0}).excludes_zero is None


@pytest.mark.filterwarnings("error")
def test_equal_differences_have_no_p_value():
    same = {0: 34.0, 1: 35.0, 2: 33.0}
    difference = statistics.paired_difference(same, same)
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    assert difference.excludes_zero is False and np.isnan(difference.p_value)
    shifted = statistics.paired_difference({seed: value + 1 for seed, value in same.items()}, same)
    assert shifted.excludes_zero is True and np.isnan(shifted.p_value)
