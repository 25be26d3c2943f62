# SPDX-License-Identifier: Apache-2.0
"""The timing loop, the statistics of its samples, and the report. No TensorFlow here.

The report's `throughput:` and `Per-batch latency avg:` lines are an interface: benchmarks.yml parses them.
"""

import contextlib
import time
from dataclasses import dataclass
from typing import Callable, ContextManager, List, NamedTuple, Sequence, Tuple, TypeVar

Outputs = TypeVar("Outputs")


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
    def batch_latency_ms(self) -> Tuple[float, ...]:
        """Per call, the mean time of one batch within it. Not per image: divide by `batch_size` for that."""
        return tuple(1e3 * s / self.batches_per_call for s in self.seconds)

    @property
    def call_latency_ms(self) -> Tuple[float, ...]:
        """Time of each call, that is of all its batches."""
        return tuple(1e3 * s for s in self.seconds)


class Timing(NamedTuple):
    """What `measure` saw."""

    seconds: Tuple[float, ...]  # the timed calls
    warmup_seconds: Tuple[float, ...]  # the calls before them, the first of which may compile
    outputs: List  # whatever each timed call returned, when asked to keep it; else the last one's alone


def measure(
    call: Callable[[], Outputs],
    calls: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    keep_outputs: bool = False,
    on_call: Callable[[], None] = lambda: None,
    span: Callable[[str], ContextManager] = lambda label: contextlib.nullcontext(),
) -> Timing:
    """Run `call` `warmup + calls` times and time each. `call` returns when its results are in host memory.

    Args:
      call: the work of one repeat.
      calls: timed calls, at least one.
      warmup: calls before them, timed apart.
      clock: seconds; an argument so that a test can own time.
      keep_outputs: keep what every timed call returned; memory grows with it.
      on_call: told after each call, outside the timed span (a progress bar).
      span: marks each call for a profiler.
    """
    if calls < 1:
        raise ValueError(f"calls must be at least 1, got {calls}")
    seconds: List[float] = []
    outputs: List[Outputs] = []
    for index in range(warmup + calls):
        with span(f"call {index}"):
            start = clock()
            result = call()
            seconds.append(clock() - start)
        if index >= warmup:
            if not keep_outputs:
                outputs.clear()
            outputs.append(result)
        on_call()
    return Timing(tuple(seconds[warmup:]), tuple(seconds[:warmup]), outputs)


def _spread(values: Sequence[float], unit: str) -> str:
    return f"min = {min(values):.2f}{unit}, max = {max(values):.2f}{unit}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def format_report(samples: Samples) -> str:
    """Return the report in the original application's format, lines and all, in ASCII."""
    rates, batch, call = samples.images_per_second_range, samples.batch_latency_ms, samples.call_latency_ms
    return "\n".join(
        [
            "Benchmark complete.",
            "Statistics:",
            f"\tStats captured over {len(samples.seconds)} runs.",
            f"\tthroughput: {samples.images_per_second:.2f} samples/sec, {_spread(rates, '')}",
            f"\tPer-batch latency avg: {_mean(batch):.2f} ms, {_spread(batch, ' ms')}",
            f"\tAll-batch latency avg: {_mean(call):.2f} ms, {_spread(call, ' ms')}",
        ]
    )
