# SPDX-License-Identifier: Apache-2.0
"""What is said of a run's samples: percentiles, spread, an interval for the median, whether to trust them. NumPy."""

import math
from dataclasses import dataclass
from typing import Callable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 20110  # of the bootstrap: the same samples give the same interval
CHUNK = 1 << 22  # numbers drawn at a time, so that a long run needs no gigabytes

DRIFT = 0.10  # change between the medians of the first and the last third of a run that is no longer noise
FEWEST_FOR_DRIFT = 9
TAIL = 2.0  # times the median at which p99 is far above it
FEWEST_FOR_TAIL = 5
FEWEST_FOR_INTERVAL = 5  # of fewer samples an interval would be narrower than what it stands for


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed: one that was measured, not a mean."""
    return float(np.sort(np.asarray(values, np.float64))[rank_of(percent, len(values))])


def rank_of(percent: float, count: int) -> int:
    """Index of a percentile among `count` sorted values."""
    # 99.9 / 100 * 1000 is a little above 999 in binary.
    return max(0, math.ceil(round(percent / 100 * count, 9)) - 1)


def resampled(
    values: Sequence[float],
    statistic: Callable[[np.ndarray], np.ndarray],
    random: np.random.RandomState,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """What `statistic` gives of resampled runs, whose values are the rows that it gets."""
    data, found = np.asarray(values, np.float64), []
    while len(found) < resamples:
        rows = max(1, min(resamples - len(found), CHUNK // len(data)))
        found.extend(statistic(data[random.randint(0, len(data), (rows, len(data)))]))
    return np.array(found)


def median_interval(values: Sequence[float], seed: int = SEED, resamples: int = RESAMPLES) -> Tuple[float, float]:
    """Bootstrap interval of the median, percentile method: where it lies in CONFIDENCE of the resampled runs.

    It answers for the samples as drawn, not for what another day or a busier machine would give.
    """
    medians = resampled(values, lambda rows: np.median(rows, axis=1), np.random.RandomState(seed), resamples)
    tail = 100 * (1 - CONFIDENCE) / 2
    return percentile(medians, tail), percentile(medians, 100 - tail)


@dataclass(frozen=True)
class Statistics:
    """Of one set of samples, in their unit."""

    count: int
    mean: float
    std: Optional[float]  # of the sample, divisor n - 1; None for a single one
    min: float
    max: float
    median: float  # the mean of the two in the middle where the number is even, as the interval's
    median_interval: Tuple[float, float]
    percentiles: Mapping[float, float]  # percent -> value


def describe(values: Sequence[float], percentiles: Sequence[float]) -> Statistics:
    """Compute every statistic of at least one value."""
    data = np.asarray(values, np.float64)
    return Statistics(
        count=len(data),
        mean=float(data.mean()),
        std=float(data.std(ddof=1)) if len(data) > 1 else None,
        min=float(data.min()),
        max=float(data.max()),
        median=float(np.median(data)),
        median_interval=median_interval(data),
        percentiles={percent: percentile(data, percent) for percent in percentiles},
    )


def instabilities(values: Sequence[float], check_tail: bool = True) -> List[str]:
    """Say why one number does not stand for these values, in the order in which they were measured; empty when it does.

    Args:
      values: times, all above zero.
      check_tail: whether a p99 far above the median is a flaw. It is none of requests that arrive by chance: they wait.
    """
    data, found = np.asarray(values, np.float64), []
    if len(data) >= FEWEST_FOR_DRIFT:
        third = len(data) // 3
        first, last = data[:third], data[-third:]
        change = float(np.median(last) / np.median(first)) - 1
        before, after = median_interval(first), median_interval(last)
        if abs(change) > DRIFT and (before[1] < after[0] or after[1] < before[0]):
            how = f"{abs(100 * change):.0f} % {'longer' if change > 0 else 'less'}"
            found.append(f"drift: the last third took {how} than the first")
    if check_tail and len(data) >= FEWEST_FOR_TAIL:
        middle, high = percentile(data, 50), percentile(data, 99)
        if high > TAIL * middle:
            found.append(f"tail: p99 is {high / middle:.1f} times p50")
    return found
