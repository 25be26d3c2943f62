# SPDX-License-Identifier: Apache-2.0
"""Requests against a server that a test owns, time included."""

import threading

import numpy as np
import pytest

from ipu_utils.measure.requests import (
    Client,
    RequestTimes,
    keeps_up,
    measure_requests,
    plan_arrivals,
    poisson_arrivals,
    samples_of,
)


class FakeTime:
    """A clock that moves only when something sleeps or works."""

    def __init__(self):
        self.now = 100.0

    def clock(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


@pytest.fixture
def time():
    return FakeTime()


def server(time, service=1.0, preparation=0.0, seen=None):
    """A client whose every request takes `service` seconds, after `preparation` seconds that are not to be counted."""

    def call(number):
        time.advance(service)
        if seen is not None:
            seen.append(number)

    return Client(lambda number: time.advance(preparation), call)


def measure(time, client, count, arrivals=None):
    return measure_requests([client], count, arrivals, time.clock, time.advance)


def test_one_at_a_time_counts_service_and_not_preparation(time):
    seen = []
    times = measure(time, server(time, 2.0, preparation=5.0, seen=seen), 3)
    assert times.seconds == (2, 2, 2)
    assert times.finished == (7, 14, 21)
    assert seen == [0, 1, 2]


def test_what_is_done_with_the_results_of_a_request_is_not_timed(time):
    done, into = [], []
    client = server(time, 2.0)._replace(after=lambda number: (time.advance(7.0), done.append((number, list(into)))))
    times = measure_requests([client], 2, None, time.clock, time.advance, into=into)
    assert times.seconds == (2, 2) and done == [(0, [2]), (1, [2, 2])]


def test_latency_counts_from_the_planned_arrival(time):
    # Two requests at once and a server of 1 s: the second waits for the first. The third finds the server free.
    assert measure(time, server(time), 3, [0.0, 0.0, 10.0]).seconds == (1, 2, 1)


def test_a_server_that_falls_behind_shows_it(time):
    times = measure(time, server(time, 2.0), 4, [0.0, 1.0, 2.0, 3.0])
    assert times.seconds == (2, 3, 4, 5)
    assert not keeps_up(RequestTimes(times.seconds * 10, tuple(range(2, 82, 2))), [float(i) for i in range(40)])


def test_poisson_arrivals_at_half_load_wait_as_queueing_theory_says(time):
    # M/D/1: at load r the mean wait is r / (2 (1 - r)) service times; r = 1/2 gives 1/2.
    arrivals = poisson_arrivals(0.5, 20000, seed=3)
    times = measure(time, server(time), len(arrivals), arrivals)
    assert np.mean(times.seconds) == pytest.approx(1.5, rel=0.05)
    assert keeps_up(times, arrivals)


def test_poisson_arrivals_have_the_rate_and_the_spread_of_chance():
    gaps = np.diff((0.0, *poisson_arrivals(20.0, 20000, seed=0)))
    assert np.mean(gaps) == pytest.approx(1 / 20, rel=0.03)
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.03)
    assert min(gaps) > 0
    assert poisson_arrivals(20.0, 5, seed=0) == poisson_arrivals(20.0, 5, seed=0) != poisson_arrivals(20.0, 5, seed=1)


def test_as_many_requests_are_under_way_as_there_are_clients():
    together = threading.Barrier(3, timeout=20)  # passes only when three requests meet inside it
    clients = [Client(lambda number: None, lambda number: together.wait()) for _ in range(3)]
    times = measure_requests(clients, 9)
    assert len(times.seconds) == 9 and min(times.seconds) > 0


def test_every_request_is_served_once_whatever_the_number_of_clients():
    seen = []
    measure_requests([Client(lambda number: None, seen.append) for _ in range(4)], 50)
    assert sorted(seen) == list(range(50))


def test_an_error_in_a_thread_reaches_the_caller_and_ends_the_run():
    seen = []

    def call(number):
        seen.append(number)
        if number == 2:
            raise RuntimeError("device lost")

    with pytest.raises(RuntimeError, match="device lost"):
        measure_requests([Client(lambda number: None, call)] * 2, 10000)
    assert len(seen) < 10000


def test_no_requests_is_an_error():
    with pytest.raises(ValueError, match="0 and 1"):
        measure_requests([Client(print, print)], 0)


def test_requests_go_on_until_the_time_is_up(time):
    times = measure_requests([server(time, 2.0)], 3, None, time.clock, time.advance, min_seconds=11.0)
    assert times.seconds == (2,) * 6  # the sixth begins at 10 seconds, the seventh would at 12
    assert len(measure_requests([server(time, 2.0)], 9, None, time.clock, time.advance, min_seconds=1.0).seconds) == 9


def test_arrivals_cover_the_requests_and_the_time():
    assert plan_arrivals(None, 100, 60.0, seed=0) is None
    assert len(plan_arrivals(10.0, 100, 0.0, seed=0)) == 100
    assert plan_arrivals(10.0, 100, 60.0, seed=0)[-1] == pytest.approx(60, rel=0.15)


def test_requests_in_flight_keep_every_latency_in_the_order_of_the_requests():
    times = measure_requests([Client(lambda number: None, lambda number: None) for _ in range(4)], 50)
    assert len(times.seconds) == len(times.finished) == 50
    assert list(times.finished) == sorted(times.finished)


def test_overlapping_requests_have_the_rate_of_the_run():
    # Two at a time, each 1 s: two a second, though each latency alone says one.
    finished = tuple(float(i // 2 + 1) for i in range(40))
    samples = samples_of(RequestTimes((1.0,) * 40, finished), batch_size=1, alone=False)
    assert samples.images_per_second == 2
    assert samples.images_per_second_range == (2, 2)
    assert samples.batch_latency_ms == (1000,) * 40


def test_the_rates_of_a_run_are_those_of_its_slowest_and_fastest_tenth():
    finished = tuple(np.cumsum([0.1] * 90 + [1.0] * 10))
    samples = samples_of(RequestTimes((0.1,) * 100, finished), batch_size=3, alone=False)
    assert samples.images_per_second_range == (pytest.approx(3), pytest.approx(30))


def test_the_tail_of_requests_that_arrive_by_chance_is_no_flaw_of_the_run():
    times = RequestTimes((0.01,) * 95 + (0.5,) * 5, tuple(float(i) for i in range(1, 101)))
    assert samples_of(times, 1, alone=False, planned=True).instabilities() == []
    assert samples_of(times, 1, alone=False).instabilities() == ["tail: p99 is 50.0 times p50"]
