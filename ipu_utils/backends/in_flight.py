# SPDX-License-Identifier: Apache-2.0
"""Batches side by side in threads, results in order: how hosts keep every core busy. No TensorFlow."""

import collections
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterator, List, Tuple

from ipu_utils.measure.stages import INPUT_WAIT, Stages


def side_by_side(
    run: Callable[..., Any], feed: Iterator[Tuple], batches: int, in_flight: int, stages: Stages
) -> Callable[[], List[Any]]:
    """Return a call that runs `run(*next(feed))` for `batches` batches and returns the results in the feed's order.

    Args:
      run: what a batch needs; called from several threads at once. It lets go of Python while it computes.
      feed: the arguments; read by the calling thread alone, on from where the last call stopped.
      batches: how many batches a call runs.
      in_flight: batches that are under way at the same time; neither inputs nor results pile up beyond it.
      stages: gets the time that is spent waiting for the feed.
    """

    def next_batch() -> Tuple:
        with stages.span(INPUT_WAIT):
            return next(feed)

    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="batch")

    def call() -> List[Any]:
        results, pending = [], collections.deque()
        for _ in range(batches):
            if len(pending) == in_flight:
                results.append(pending.popleft().result())
            pending.append(pool.submit(run, *next_batch()))
        results.extend(future.result() for future in pending)
        return results

    return call
