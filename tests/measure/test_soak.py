# SPDX-License-Identifier: Apache-2.0
"""The statistics of benchmarks/soak.py, on runs whose memory and latency are known."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

spec = importlib.util.spec_from_file_location("soak", Path(__file__).resolve().parents[2] / "benchmarks" / "soak.py")
soak = importlib.util.module_from_spec(spec)
spec.loader.exec_module(soak)


def run_of(growth_per_hour, latency, seconds=3600.0, noise=0.0):
    """A run in which time passes only in calls."""
    now, generator = [0.0], np.random.RandomState(0)

    def call(number):
        now[0] += latency(now[0])

    def resident():
        return 100 + growth_per_hour * now[0] / 3600 + noise * generator.standard_normal()

    return soak.soak(call, seconds, clock=lambda: now[0], resident=resident)


def test_a_leak_is_measured():
    slope = soak.slope_of(run_of(12.0, lambda now: 0.5))
    assert slope.per_hour == pytest.approx(12, rel=1e-6) and slope.half_width < 1e-6


def test_flat_memory_has_a_slope_that_may_be_zero():
    slope = soak.slope_of(run_of(0.0, lambda now: 0.5, noise=1.0))
    assert abs(slope.per_hour) < slope.half_width < 3


def test_the_resident_size_is_read_a_bounded_number_of_times():
    trace = run_of(0.0, lambda now: 0.05, seconds=100.0)
    assert len(trace.latencies) in (2000, 2001) and soak.SAMPLES * 0.6 < len(trace.times) <= soak.SAMPLES + 1


def test_drift_compares_the_first_tenth_with_the_last():
    first, last = soak.drift_of(run_of(0.0, lambda now: 0.5 if now < 1800 else 0.6).latencies)
    assert (first, last) == (pytest.approx(500), pytest.approx(600))
    assert "(+20.0%)" in soak.report(run_of(0.0, lambda now: 0.5 if now < 1800 else 0.6), "calls")


def test_too_short_a_run_is_refused():
    with pytest.raises(ValueError, match="take more --seconds"):
        soak.slope_of(run_of(0.0, lambda now: 10.0, seconds=100.0))
