# SPDX-License-Identifier: Apache-2.0
"""Requests one after the other, several at a time, or arriving by chance, and what the report says of their latencies.

Closed loop: a request starts when an earlier one has ended, and latency counts from its start. Open loop: requests
arrive at planned times whether or not the server keeps up, and latency counts from the planned arrival. Only the latter
shows what waiting in a queue costs. No TensorFlow.
"""

import math
import threading
import time
from dataclasses import dataclass
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.results import Samples, format_report

PERCENTILES = (50, 90, 99)
PARTS = 10  # of a run with overlapping requests, for the slowest and the fastest rate
BEHIND = 0.95  # share of the arrivals that a server answers in time when it keeps up


class Client(NamedTuple):
    """Serves one request at a time."""

    prepare: Callable[[int], None]  # what a request needs before it can be timed
    call: Callable[[int], None]  # the request; returns when its results are in host memory


class RequestTimes(NamedTuple):
    """What `measure_requests` saw."""

    seconds: Tuple[float, ...]  # latency of each request, in the order of the requests
    finished: Tuple[float, ...]  # seconds after the start of the run at which requests ended, sorted


def poisson_arrivals(rate: float, count: int, seed: int) -> Tuple[float, ...]:
    """Draw `count` arrival times in seconds of a Poisson process with `rate` arrivals a second."""
    return tuple(np.cumsum(np.random.RandomState(seed).exponential(1 / rate, count)).tolist())


def measure_requests(
    clients: Sequence[Client],
    count: int,
    arrivals: Optional[Sequence[float]] = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    on_request: Callable[[], object] = lambda: None,
) -> RequestTimes:
    """Send `count` requests; each goes to the client that is free first.

    Args:
      clients: one for every request in flight. A single one runs in the calling thread.
      count: requests 0 to count - 1, at least one.
      arrivals: seconds after the start at which they arrive, in order; None: as soon as a client is free.
      clock, sleep: arguments so that a test can own time.
      on_request: told after each request, outside the timed span.
    """
    if count < 1 or not clients:
        raise ValueError(f"need requests and clients, got {count} and {len(clients)}")
    seconds, finished = [0.0] * count, [0.0] * count
    numbers, lock = iter(range(count)), threading.Lock()
    failures: List[BaseException] = []
    start = clock()

    def serve(client: Client) -> None:
        while not failures:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            client.prepare(number)
            if arrivals is None:
                begin = clock()
            else:
                begin = start + arrivals[number]
                early = begin - clock()
                if early > 0:
                    sleep(early)
            client.call(number)
            end = clock()
            seconds[number], finished[number] = end - begin, end - start
            with lock:
                on_request()

    def serve_in_thread(client: Client) -> None:
        try:
            serve(client)
        except BaseException as error:  # carried to the calling thread
            failures.append(error)

    if len(clients) == 1:
        serve(clients[0])
    else:
        threads = [threading.Thread(target=serve_in_thread, args=(client,), daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
    return RequestTimes(tuple(seconds), tuple(sorted(finished)))


@dataclass(frozen=True)
class RequestSamples(Samples):
    """Latencies of requests that overlap or wait to arrive: the rate is that of the run, not their reciprocal."""

    finished: Tuple[float, ...] = ()  # as in RequestTimes

    @property
    def images_per_second(self) -> float:
        """All images over the length of the run."""
        return self.images_per_call * len(self.finished) / self.finished[-1]

    @property
    def images_per_second_range(self) -> Tuple[float, float]:
        """Rates of the slowest and of the fastest tenth of the run."""
        bounds = np.linspace(0, len(self.finished), min(PARTS, len(self.finished)) + 1).astype(int)
        ends = [0.0] + [self.finished[bound - 1] for bound in bounds[1:]]
        rates = [
            self.images_per_call * (last - first) / max(end - begin, 1e-9)
            for (first, last), (begin, end) in zip(_pairs(bounds.tolist()), _pairs(ends))
        ]
        return min(rates), max(rates)


def _pairs(values: Sequence) -> List[Tuple]:
    return list(zip(values, values[1:]))


def samples_of(times: RequestTimes, batch_size: int, alone: bool) -> Samples:
    """Turn times into samples; `alone` when each request was the only one and started at once."""
    if alone:
        return Samples(times.seconds, 1, batch_size)
    return RequestSamples(times.seconds, 1, batch_size, times.finished)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed: one that was measured, not a mean."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def format_latencies(samples: Samples) -> str:
    """Return the report with a line of percentiles below it, in ASCII."""
    parts = [f"p{percent} = {1e3 * percentile(samples.seconds, percent):.2f} ms" for percent in PERCENTILES]
    return format_report(samples) + "\n\tRequest latency " + ", ".join(parts)


def keeps_up(times: RequestTimes, arrivals: Sequence[float]) -> bool:
    """Were requests answered about as fast as they arrived? If not, latency grows with the length of the run."""
    return len(arrivals) < 2 or times.finished[-1] * BEHIND <= arrivals[-1] + percentile(times.seconds[:10], 50)


def describe_arrivals(count: int, in_flight: int, rate: Optional[float], seed: int) -> str:
    """Say how requests came."""
    if rate is not None:
        return (
            f"{count} requests, Poisson arrivals at {rate:g} a second (seed {seed}), latency from the planned arrival, "
            f"at most {in_flight} under way"
        )
    return f"{count} requests, " + ("one at a time" if in_flight == 1 else f"{in_flight} in flight")
