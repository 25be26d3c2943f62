# SPDX-License-Identifier: Apache-2.0
"""Requests one after the other, several at a time, or arriving by chance, and what the report says of their latencies.

Closed loop: a request starts when an earlier one has ended, and latency counts from its start. Open loop: requests
arrive at planned times whether or not the server keeps up, and latency counts from the planned arrival. Only the latter
shows what waiting in a queue costs. No TensorFlow.
"""

import itertools
import threading
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.measure.statistics import instabilities, percentile
from ipu_utils.measure.throughput import Samples

PARTS = 10  # of a run with overlapping requests, for the slowest and the fastest rate
BEHIND = 0.95  # share of the arrivals that a server answers in time when it keeps up


class Client(NamedTuple):
    """Serves one request at a time."""

    prepare: Callable[[int], None]  # what a request needs before it can be timed
    call: Callable[[int], None]  # the request; returns when its results are in host memory
    after: Callable[[int], None] = lambda number: None  # what is done with the results, and not timed


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
    min_seconds: float = 0.0,
    on_request: Callable[[], object] = lambda: None,
    into: Optional[List[float]] = None,
) -> RequestTimes:
    """Send `count` requests or more; each goes to the client that is free first.

    Args:
      clients: one for every request in flight. A single one runs in the calling thread.
      count: requests 0 to count - 1, at least one.
      arrivals: seconds after the start at which they arrive, in order; None: as soon as a client is free.
      min_seconds: without planned arrivals, go on until the run has taken so long.
      clock, sleep: arguments so that a test can own time.
      on_request: told after each request, outside the timed span.
      into: takes the latency of each request as it ends, for who must know when a run is interrupted.
    """
    if count < 1 or not clients:
        raise ValueError(f"need requests and clients, got {count} and {len(clients)}")
    seconds: Dict[int, float] = {}
    finished: List[float] = []
    numbers, lock = itertools.count(), threading.Lock()
    failures: List[BaseException] = []
    start = clock()

    def serve(client: Client) -> None:
        while not failures:
            with lock:
                number = next(numbers)
            if number >= count and (arrivals is not None or clock() - start >= min_seconds):
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
            with lock:
                seconds[number] = end - begin
                finished.append(end - start)
                if into is not None:
                    into.append(end - begin)
                on_request()
            client.after(number)

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
    return RequestTimes(tuple(seconds[number] for number in sorted(seconds)), tuple(sorted(finished)))


@dataclass(frozen=True)
class RequestSamples(Samples):
    """Latencies of requests that overlap or wait to arrive: the rate is that of the run, not their reciprocal."""

    finished: Tuple[float, ...] = ()  # as in RequestTimes
    planned: bool = False  # arrivals were, so that some requests wait

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

    def instabilities(self) -> List[str]:
        """Of requests that arrive by chance some always wait: their tail is no flaw of the run."""
        return instabilities(self.seconds, check_tail=not self.planned)


def _pairs(values: Sequence) -> List[Tuple]:
    return list(zip(values, values[1:]))


def samples_of(times: RequestTimes, batch_size: int, alone: bool, planned: bool = False) -> Samples:
    """Turn times into samples.

    Args:
      times: of the run.
      batch_size: images a request.
      alone: each request was the only one and started at once.
      planned: requests came at planned arrivals.
    """
    if alone:
        return Samples(times.seconds, 1, batch_size)
    return RequestSamples(times.seconds, 1, batch_size, times.finished, planned)


def keeps_up(times: RequestTimes, arrivals: Sequence[float]) -> bool:
    """Were requests answered about as fast as they arrived? If not, latency grows with the length of the run."""
    return len(arrivals) < 2 or times.finished[-1] * BEHIND <= arrivals[-1] + percentile(times.seconds[:10], 50)


def plan_arrivals(rate: Optional[float], count: int, min_seconds: float, seed: int) -> Optional[Tuple[float, ...]]:
    """Arrivals of at least `count` requests over at least `min_seconds`; None where no rate is given."""
    if rate is None:
        return None
    return poisson_arrivals(rate, max(count, int(rate * min_seconds) + 1), seed)
