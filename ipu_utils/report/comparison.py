# SPDX-License-Identifier: Apache-2.0
"""The numbers of two runs side by side, from their records: ratios, with an interval where one can be given."""

import math
import re
import sys
from decimal import Decimal
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.base.errors import UserError
from ipu_utils.measure.statistics import CONFIDENCE, FEWEST_FOR_INTERVAL, SEED, rank_of, resampled
from ipu_utils.report.record import latencies_ms, latency_unit

Statistic = Callable[[np.ndarray], np.ndarray]  # of each row


def percentile_of(percent: float) -> Statistic:
    """`ipu_utils.measure.statistics.percentile` of each row."""
    return lambda rows: np.sort(rows, axis=1)[:, rank_of(percent, rows.shape[1])]


STATISTICS: Dict[str, Statistic] = {
    "mean": lambda rows: rows.mean(axis=1),
    "median": lambda rows: np.median(rows, axis=1),
    "min": lambda rows: rows.min(axis=1),
    "max": lambda rows: rows.max(axis=1),
}


class Line(NamedTuple):
    """One number of both runs."""

    name: str
    unit: str
    values: Tuple[float, float]
    interval: Optional[Tuple[float, float]]  # of the ratio, where one can be given
    too_few: bool = False  # samples for one

    @property
    def ratio(self) -> float:
        return self.values[1] / self.values[0]


def ratio_interval(first: Sequence[float], second: Sequence[float], statistic: Statistic) -> Tuple[float, float]:
    """Bootstrap interval of statistic(second) / statistic(first), percentile method; the runs are resampled apart."""
    random = np.random.RandomState(SEED)
    drawn = [resampled(values, statistic, random) for values in (first, second)]
    tail = 100 * (1 - CONFIDENCE) / 2
    ratios = np.sort(drawn[1] / drawn[0])[None]
    return float(percentile_of(tail)(ratios)[0]), float(percentile_of(100 - tail)(ratios)[0])


def statistic_named(name: str) -> Statistic:
    """`mean`, `median`, `min`, `max` or a percentile such as `p99.9`.

    Raises:
      UserError: there is no such statistic.
    """
    if name in STATISTICS:
        return STATISTICS[name]
    percent = float(name[1:]) if re.fullmatch(r"p\d+(\.\d+)?", name) else 0.0
    if not 0 < percent <= 100:
        raise UserError(f"{name!r} is no number of a comparison: expected throughput, {', '.join(STATISTICS)} or p50.")
    return percentile_of(percent)


def fewest_for(name: str) -> int:
    """Samples of each run below which no interval of this number is given.

    A percentile of fewer is their greatest: p99 of two samples says no more than their maximum.
    """
    if not name.startswith("p"):
        return FEWEST_FOR_INTERVAL
    beyond = 100 - Decimal(name[1:])
    return max(FEWEST_FOR_INTERVAL, math.ceil(100 / beyond)) if beyond else sys.maxsize  # p100 is the maximum


def line(first: Mapping[str, Any], second: Mapping[str, Any], name: str) -> Line:
    """Compute one number of both runs from their raw samples."""
    if name == "throughput":
        rates = tuple(record["statistics"]["images_per_second"]["mean"] for record in (first, second))
        return Line(name, "samples/sec", rates, None)
    statistic = statistic_named(name)
    samples = [latencies_ms(record) for record in (first, second)]
    values = tuple(float(statistic(np.asarray(values)[None])[0]) for values in samples)
    # Resampling cannot go beyond what was seen: of extremes, and of a few samples, it gives no interval.
    too_few = name not in ("min", "max") and min(map(len, samples)) < fewest_for(name)
    interval = None if too_few or name in ("min", "max") else ratio_interval(*samples, statistic)
    return Line(f"latency {name}", latency_unit(first, second), values, interval, too_few)


def why_no_interval(first: Mapping[str, Any], second: Mapping[str, Any], found: Sequence[Line]) -> List[str]:
    """A line on samples that are too few for an interval; none where they are enough."""
    if not any(one.too_few for one in found):
        return []
    counts = [len(latencies_ms(record)) for record in (first, second)]
    return [f"{counts[0]} and {counts[1]} samples: no interval where they are too few to tell a difference"]


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> List[Line]:
    """Every number that both runs report."""
    percentiles = [record["statistics"]["latency_ms"]["percentiles"] for record in (first, second)]
    shared = [f"p{percent}" for percent in percentiles[0] if percent in percentiles[1]]
    return [line(first, second, name) for name in ("throughput", "mean", "median", *shared, "min", "max")]
