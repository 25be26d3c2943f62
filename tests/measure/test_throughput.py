# SPDX-License-Identifier: Apache-2.0
"""The timing loop and the report, with time under the test's control."""

import re

import pytest

from ipu_utils.measure.throughput import Samples, format_distribution, format_report, measure, pool

# As benchmarks.yml of the original reads the report.
THROUGHPUT = re.compile(r"throughput: *(.*?) samples\/sec,")
LATENCY = re.compile(r"Per-batch latency avg: *(.*?) ms,")


def ticks(*times):
    return iter(times).__next__


def test_warm_up_is_timed_apart():
    timing = measure(lambda: None, calls=2, warmup=1, clock=ticks(0, 9, 10, 11, 20, 22))
    assert timing.seconds == (1, 2)
    assert timing.warmup_seconds == (9,)


def test_outputs_of_the_last_timed_call_are_kept():
    results = iter(["warm", "first", "second"])
    assert measure(lambda: next(results), calls=2, warmup=1).outputs == ["second"]


def test_outputs_of_all_timed_calls_are_kept_on_request():
    results = iter(["warm", "first", "second"])
    assert measure(lambda: next(results), calls=2, warmup=1, keep_outputs=True).outputs == ["first", "second"]


def test_what_follows_a_call_is_not_timed():
    now = [0.0]

    def call():
        now[0] += 1

    def slow_progress_bar():
        now[0] += 100

    timing = measure(call, calls=3, warmup=0, clock=lambda: now[0], on_call=slow_progress_bar)
    assert timing.seconds == (1, 1, 1)


@pytest.mark.parametrize("calls", [0, -1])
def test_no_calls_is_an_error_not_an_empty_report(calls):
    with pytest.raises(ValueError, match="at least 1"):
        measure(lambda: None, calls=calls)


def test_throughput_is_all_images_over_all_seconds():
    # One call of 1 s and one of 3 s, 8 images each: 16 images in 4 s. The mean of the rates would be 5.33.
    assert Samples((1.0, 3.0), batches_per_call=2, batch_size=4).images_per_second == 4.0


def test_batch_latency_is_per_batch_whatever_its_size():
    assert Samples((1.0,), batches_per_call=10, batch_size=4).batch_latency_ms == (100.0,)


@pytest.mark.parametrize("arguments", [((), 1, 1), ((0.0,), 1, 1), ((1.0,), 0, 1), ((1.0,), 1, 0)])
def test_samples_that_mean_nothing_are_refused(arguments):
    with pytest.raises(ValueError):
        Samples(*arguments)


def test_report_has_the_lines_of_the_original_application():
    text = format_report(Samples((0.5, 1.0), batches_per_call=5, batch_size=2))
    assert text.splitlines() == [
        "Benchmark complete.",
        "Statistics:",
        "\tStats captured over 2 runs.",
        "\tthroughput: 13.33 samples/sec, min = 10.00, max = 20.00",
        "\tPer-batch latency avg: 150.00 ms, min = 100.00 ms, max = 200.00 ms",
        "\tAll-batch latency avg: 750.00 ms, min = 500.00ms, max = 1000.00ms",
    ]
    assert text.isascii()


def test_a_single_run_is_not_counted_in_the_report():
    assert format_report(Samples((0.5,), batches_per_call=5, batch_size=2)).splitlines() == [
        "Benchmark complete.",
        "Statistics:",
        "\tthroughput: 20.00 samples/sec, min = 20.00, max = 20.00",
        "\tPer-batch latency avg: 100.00 ms, min = 100.00 ms, max = 100.00 ms",
        "\tAll-batch latency avg: 500.00 ms, min = 500.00ms, max = 500.00ms",
    ]


def test_report_is_read_by_the_expressions_of_benchmarks_yml():
    text = format_report(Samples((0.5,), batches_per_call=1, batch_size=1))
    assert [float(value) for value in THROUGHPUT.findall(text)] == [2.0]
    assert [float(value) for value in LATENCY.findall(text)] == [500.0]


def test_timed_calls_go_on_until_the_time_is_up():
    now = [0.0]

    def call():
        now[0] += 2

    timing = measure(call, calls=3, warmup=2, min_seconds=11, clock=lambda: now[0])
    assert (timing.seconds, timing.warmup_seconds) == ((2,) * 6, (2, 2))
    assert measure(call, calls=9, min_seconds=1, clock=lambda: now[0]).seconds == (2,) * 9


def test_stages_can_be_cleared_between_warm_up_and_timed_calls():
    told = []
    measure(lambda: told.append("call"), calls=2, warmup=1, on_warm=lambda: told.append("warm"))
    assert told == ["call", "warm", "call", "call"]


def test_results_are_handed_on_as_they_come_and_that_is_not_timed():
    now, told, into = [0.0], [], []
    results = iter(["warm", "first", "second"])

    def call():
        now[0] += 1
        return next(results)

    def write(result):
        told.append((result, list(into)))
        now[0] += 10

    timing = measure(call, calls=2, warmup=1, clock=lambda: now[0], on_result=write, into=into)
    assert told == [("warm", []), ("first", [1]), ("second", [1, 1])], "what was measured is known before it is written"
    assert (timing.seconds, timing.warmup_seconds) == ((1, 1), (1,))


def test_percentiles_and_spread_are_below_the_original_lines():
    samples = Samples(tuple(0.1 * i for i in range(1, 6)), batches_per_call=10, batch_size=1)
    lines = format_distribution(samples, (50.0, 99.9)).splitlines()
    assert lines[0] == "\tPer-batch latency p50 = 30.00 ms, p99.9 = 50.00 ms"
    assert re.fullmatch(
        r"\tPer-batch latency median 30.00 ms, 95% interval \d+\.00 to \d+\.00 ms, std = 15.81 ms", lines[1]
    )
    assert len(lines) == 2


@pytest.mark.parametrize("count, words", [(1, "1 sample is"), (2, "2 samples are"), (4, "4 samples are")])
def test_of_a_few_samples_no_interval_is_given(count, words):
    text = format_distribution(Samples((0.1,) * count, 1, 1), (50.0,))
    assert "95% interval" in format_distribution(Samples((0.1,) * 5, 1, 1), (50.0,))
    assert f"latency median 100.00 ms, no interval: {words} too few" in text and "95%" not in text


def test_what_is_below_is_not_read_by_the_expressions_of_benchmarks_yml():
    text = format_distribution(Samples((0.1,) * 4 + (1.0,), 1, 1), (50.0,))
    assert not THROUGHPUT.search(text) and not LATENCY.search(text)


def test_an_unstable_run_is_marked_and_its_numbers_are_still_printed():
    text = format_distribution(Samples((0.1,) * 20 + (0.9,), 1, 1), (50.0, 99.0))
    assert "p50 = 100.00 ms, p99 = 900.00 ms" in text
    *_, mark, meaning = text.splitlines()
    assert mark == "\tUNSTABLE: tail: p99 is 9.0 times p50"
    assert meaning.startswith("\tOne number does not stand for these times: measure again")


@pytest.mark.parametrize("second, asked", [(0.1, 30), (0.5, 30), (0.6, 40), (2.0, 120)])
def test_an_unstable_run_is_to_be_measured_at_least_twice_as_long(second, asked):
    samples = Samples((second,) * 20 + (9 * second,), 1, 1)  # 29 times `second`
    assert f"longer (--min-seconds {asked})" in format_distribution(samples, (50.0,))
    side_by_side = format_distribution(pool([samples, samples]), (50.0,))  # not longer for being two
    assert f"longer (--min-seconds {asked})" in side_by_side


def test_instances_add_their_rates_and_pool_their_latencies():
    first, second = Samples((1.0, 1.0), 2, 4), Samples((2.0, 4.0), 2, 4)
    pooled = pool([first, second])
    assert pooled.images_per_second == pytest.approx(8 + 16 / 6)
    assert pooled.images_per_second_range == (8 + 2, 8 + 4)
    assert pooled.batch_latency_ms == (500, 500, 1000, 2000)
    assert "Stats captured over 4 runs." in format_report(pooled)
    assert pool([first]) is first


def test_each_instance_is_judged_by_itself():
    # Pooled, the slow instance would look like a drift of the whole.
    slow, fast = Samples((0.3,) * 12, 1, 1), Samples((0.1,) * 12, 1, 1)
    assert pool([fast, slow]).instabilities() == []
    assert pool([fast, Samples((0.1,) * 12 + (0.9,), 1, 1)]).instabilities() == [
        "instance 1: tail: p99 is 9.0 times p50"
    ]
