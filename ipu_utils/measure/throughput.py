# SPDX-License-Identifier: Apache-2.0
"""The timing loop, the statistics of its samples, and the report. No TensorFlow here.

The report's `throughput:` and `Per-batch latency avg:` lines are an interface: benchmarks.yml parses them.
"""

import contextlib
import math
import time
from dataclasses import dataclass
from typing import Callable, ContextManager, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

from ipu_utils.measure.statistics import FEWEST_FOR_INTERVAL, Statistics, describe, instabilities

Outputs = TypeVar("Outputs")


def what_to_do(seconds: float) -> str:
    """What UNSTABLE means and what to do, behind the lines that begin with it.

    Args:
      seconds: for how long was measured; of several runs the longest.
    """
    longer = max(30, 10 * math.ceil(seconds / 5))  # at least twice as long
    return (
        f"One number does not stand for these times: measure again, longer (--min-seconds {longer}) or with less "
        "beside it."
    )


@dataclass(frozen=True)
class Samples:
    """Wall times of the timed calls, warm-up excluded. Every statistic is derived from these."""

    seconds: Tuple[float, ...]  # one per call, outputs already in host memory
    batches_per_call: int
    batch_size: int  # images per batch

    def __post_init__(self):
        if not self.seconds or min(self.seconds) <= 0:
            raise ValueError(f"need at least one sample above zero seconds, got {self.seconds}")
        if self.batches_per_call < 1 or self.batch_size < 1:
            raise ValueError(f"need whole batches, got {self.batches_per_call} of {self.batch_size} images")

    @property
    def images_per_call(self) -> int:
        return self.batches_per_call * self.batch_size

    @property
    def images_per_second(self) -> float:
        """All images over all seconds; a mean of per-call rates would flatter the fast calls."""
        return self.images_per_call * len(self.seconds) / sum(self.seconds)

    @property
    def images_per_second_range(self) -> Tuple[float, float]:
        """Rate of the slowest and of the fastest call."""
        return self.images_per_call / max(self.seconds), self.images_per_call / min(self.seconds)

    @property
    def measured_seconds(self) -> float:
        """How long was measured: of calls or instances that overlapped, the time they took together."""
        return self.images_per_call * len(self.seconds) / self.images_per_second

    @property
    def batch_latency_ms(self) -> Tuple[float, ...]:
        """Per call, the mean time of one batch within it. Not per image: divide by `batch_size` for that."""
        return tuple(1e3 * s / self.batches_per_call for s in self.seconds)

    @property
    def call_latency_ms(self) -> Tuple[float, ...]:
        """Time of each call, that is of all its batches."""
        return tuple(1e3 * s for s in self.seconds)

    def instabilities(self) -> List[str]:
        """Why one number does not stand for the run; empty when it does."""
        return instabilities(self.seconds)


@dataclass(frozen=True)
class PooledSamples(Samples):
    """Samples of several instances that ran at the same time: rates add, latencies are pooled."""

    instances: Tuple[Samples, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Sum over the instances."""
        return sum(samples.images_per_second for samples in self.instances)

    @property
    def images_per_second_range(self) -> Tuple[float, float]:
        """Sums of the slowest and of the fastest rates, which the instances need not have had at the same time."""
        slowest, fastest = zip(*(samples.images_per_second_range for samples in self.instances))
        return sum(slowest), sum(fastest)

    def instabilities(self) -> List[str]:
        """Those of each instance: pooled samples are in no order."""
        return [
            f"instance {index}: {reason}"
            for index, samples in enumerate(self.instances)
            for reason in samples.instabilities()
        ]


def pool(instances: Sequence[Samples]) -> Samples:
    """Make one of the samples of instances that ran the same configuration; a single one stays as it is."""
    if len(instances) == 1:
        return instances[0]
    seconds = tuple(second for samples in instances for second in samples.seconds)
    first = instances[0]
    return PooledSamples(seconds, first.batches_per_call, first.batch_size, tuple(instances))


class Timing(NamedTuple):
    """What `measure` saw."""

    seconds: Tuple[float, ...]  # the timed calls
    warmup_seconds: Tuple[float, ...]  # the calls before them, the first of which may compile
    outputs: List  # whatever each timed call returned, when asked to keep it; else the last one's alone


def measure(
    call: Callable[[], Outputs],
    calls: int,
    warmup: int = 1,
    min_seconds: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    keep_outputs: bool = False,
    on_call: Callable[[], None] = lambda: None,
    on_warm: Callable[[], None] = lambda: None,
    on_result: Callable[[Outputs], None] = lambda result: None,
    span: Callable[[str], ContextManager] = lambda label: contextlib.nullcontext(),
    into: Optional[List[float]] = None,
) -> Timing:
    """Run `call` `warmup + calls` times or more and time each. `call` returns when its results are in host memory.

    Args:
      call: the work of one repeat.
      calls: timed calls, at least one.
      warmup: calls before them, timed apart.
      min_seconds: go on until the timed calls have taken so long together.
      clock: seconds; an argument so that a test can own time.
      keep_outputs: keep what every timed call returned; memory grows with it.
      on_call: told after each call, outside the timed span (a progress bar).
      on_warm: told once, between the warm-up and the timed calls.
      on_result: gets what each call returned, those of the warm-up too, outside the timed span.
      span: marks each call for a profiler.
      into: takes the seconds of each timed call as it ends, for who must know when a run is interrupted.
    """
    if calls < 1:
        raise ValueError(f"calls must be at least 1, got {calls}")
    seconds: List[float] = []
    outputs: List[Outputs] = []

    def run(index: int) -> Outputs:
        with span(f"call {index}"):
            start = clock()
            result = call()
            seconds.append(clock() - start)
        on_call()
        return result

    for index in range(warmup):
        on_result(run(index))
    warmup_seconds = tuple(seconds)
    seconds.clear()
    on_warm()
    while len(seconds) < calls or sum(seconds) < min_seconds:
        result = run(warmup + len(seconds))
        if into is not None:
            into.append(seconds[-1])
        on_result(result)
        if not keep_outputs:
            outputs.clear()
        outputs.append(result)
    return Timing(tuple(seconds), warmup_seconds, outputs)


def _spread(values: Sequence[float], unit: str) -> str:
    return f"min = {min(values):.2f}{unit}, max = {max(values):.2f}{unit}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def format_report(samples: Samples, headline: str = "Benchmark complete.") -> str:
    """Return the report in the original application's format, character by character, in ASCII."""
    rates, batch, call = samples.images_per_second_range, samples.batch_latency_ms, samples.call_latency_ms
    count = len(samples.seconds)
    return "\n".join(
        [
            headline,
            "Statistics:",
            *([f"\tStats captured over {count} runs."] if count > 1 else []),
            f"\tthroughput: {samples.images_per_second:.2f} samples/sec, {_spread(rates, '')}",
            f"\tPer-batch latency avg: {_mean(batch):.2f} ms, {_spread(batch, ' ms')}",
            # The original has no space before these two units, and scripts read what it prints.
            f"\tAll-batch latency avg: {_mean(call):.2f} ms, {_spread(call, 'ms')}",
        ]
    )


def format_distribution(samples: Samples, percentiles: Sequence[float], label: str = "Per-batch") -> str:
    """Return the lines below the original's: percentiles, spread, the median's interval, and a warning where due."""
    found = describe(samples.batch_latency_ms, percentiles)
    unstable = samples.instabilities()
    deviation = "" if found.std is None else f", std = {found.std:.2f} ms"
    low, high = found.median_interval
    interval = f"95% interval {low:.2f} to {high:.2f} ms"
    if found.count < FEWEST_FOR_INTERVAL:
        interval = f"no interval: {found.count} {'sample is' if found.count == 1 else 'samples are'} too few"
    lines = [
        f"\t{label} latency {format_percentiles(found)}",
        f"\t{label} latency median {found.median:.2f} ms, {interval}{deviation}",
        *(f"\tUNSTABLE: {reason}" for reason in unstable),
        *([f"\t{what_to_do(samples.measured_seconds)}"] if unstable else []),
    ]
    return "\n".join(lines)


def format_percentiles(found: Statistics) -> str:
    """E.g. `p50 = 9.81 ms, p99.9 = 12.40 ms`."""
    return ", ".join(f"p{percent:g} = {value:.2f} ms" for percent, value in found.percentiles.items())
