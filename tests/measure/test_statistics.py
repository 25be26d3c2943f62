# SPDX-License-Identifier: Apache-2.0
"""Statistics against NumPy, and against samples whose properties are known."""

import numpy as np
import pytest

from ipu_utils.measure.statistics import describe, instabilities, median_interval, percentile


def steady(count, seed=0, spread=0.02):
    return 0.05 * (1 + spread * np.random.RandomState(seed).standard_normal(count))


def quantile(values, percent):
    """By the definition, and where NumPy has that method, by NumPy."""
    found = min(value for value in values if 100 * np.mean(values <= value) >= percent)
    if np.lib.NumpyVersion(np.__version__) >= "1.22.0":
        assert found == np.percentile(values, percent, method="inverted_cdf")
    return found


@pytest.mark.parametrize("count", [1, 2, 7, 101])
def test_statistics_are_those_of_numpy(count):
    values = steady(count, spread=0.3)
    found = describe(values, (50.0, 90.0, 99.0))
    assert (found.count, found.min, found.max) == (count, values.min(), values.max())
    assert found.mean == pytest.approx(np.mean(values))
    assert found.median == pytest.approx(np.median(values))
    assert found.std is None if count == 1 else found.std == pytest.approx(np.std(values, ddof=1))
    low, high = found.median_interval
    assert values.min() <= low <= np.median(values) <= high <= values.max()


@pytest.mark.parametrize("percent", [0.5, 10, 33.3, 50, 75, 90, 95, 99, 99.9, 100])
def test_percentiles_are_those_of_numpy(percent):
    values = steady(101, spread=0.3)
    assert percentile(values, percent) == quantile(values, percent)


def test_a_percentile_is_a_value_that_was_measured():
    values = [float(i) for i in range(1, 101)][::-1]
    assert [percentile(values, p) for p in (50, 90, 99, 100)] == [50, 90, 99, 100]
    assert [percentile([3.0, 1.0, 2.0], p) for p in (50, 90, 99)] == [2, 3, 3]
    assert percentile([7.0], 99) == 7


def test_a_percentile_does_not_slip_by_a_rounding_error():
    assert percentile([float(i) for i in range(1, 1001)], 99.9) == 999


def test_the_interval_of_the_median_covers_the_true_median_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        low, high = median_interval(steady(40, seed), resamples=400)
        covered += low <= 0.05 <= high
    assert 85 <= covered <= 100  # 95 expected; binomial, four standard deviations below


def test_more_samples_make_the_interval_narrower():
    widths = [np.diff(median_interval(steady(count)))[0] for count in (10, 100, 1000)]
    assert widths[0] > widths[1] > widths[2] > 0


def test_the_same_samples_give_the_same_interval():
    values = steady(30)
    assert median_interval(values) == median_interval(values)


@pytest.mark.parametrize("count", [1, 3, 9, 19, 1000])
def test_a_steady_run_is_stable(count):
    assert instabilities(steady(count)) == []


def test_a_run_that_slows_down_is_not():
    values = steady(30, spread=0.001)
    values[20:] *= 1.5
    assert instabilities(values) == ["drift: the last third took 50 % longer than the first"]


def test_neither_is_one_that_was_still_warming_up():
    values = steady(30, spread=0.001)
    values[:12] *= 1.5
    assert instabilities(values) == ["drift: the last third took 33 % less than the first"]


def test_one_slow_call_among_many_does_not_count_as_drift_but_as_a_tail():
    values = steady(50)
    values[-1] *= 4
    (reason,) = instabilities(values)
    assert reason.startswith("tail: p99 is ")
    assert float(reason.split()[3]) == pytest.approx(4, rel=0.1)


def test_noise_as_wide_as_the_change_is_no_drift():
    values = steady(12, spread=0.4)
    values[8:] *= 1.1
    assert not any(reason.startswith("drift") for reason in instabilities(values))


def test_too_few_samples_accuse_nobody():
    assert instabilities([1.0, 1.0, 9.0]) == []
