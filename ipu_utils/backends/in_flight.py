# SPDX-License-Identifier: Apache-2.0
"""Sessions side by side in threads, results in order: how hosts keep every core busy. No TensorFlow."""

import collections
import contextlib
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, ContextManager, Iterable, Iterator, List, NamedTuple, Tuple, Union

import numpy as np

from ipu_utils.backends.contract import Results
from ipu_utils.backends.host_runtime import HostRuntime
from ipu_utils.base.detections import Detections
from ipu_utils.executable.runtime import Session
from ipu_utils.measure.stages import DEVICE, INPUT, INPUT_WAIT, OUTPUT, POST_PROCESSING, Stages


class Heads(NamedTuple):
    """One batch of outputs of the network that nothing was detected in yet."""

    ids: np.ndarray  # int32 [N], as of `Results`
    scales: np.ndarray  # float32 [N]
    class_outputs: List[np.ndarray]
    box_outputs: List[np.ndarray]


class Loop:
    """See `ipu_utils.backends.contract.Loop`; goes on in the feed where the last call stopped."""

    def __init__(self, runtime: HostRuntime, feed: Iterable[Tuple], batches: int, detects: bool):
        """Make as many sessions as there are batches under way.

        Args:
          runtime: an executable, loaded. feed: yields (images uint8 [B, h, w, 3], scales float32 [B], ids int32 [B]).
          batches: of a call.
          detects: detections are a part of it; else `results` computes them.
        """
        self.hardware, self.stages = runtime.hardware, Stages()
        self._runtime, self._feed, self._detects = runtime, feed, detects
        self._free: queue.SimpleQueue[Session] = queue.SimpleQueue()
        in_flight = runtime.hardware.streams.in_flight
        for session in runtime.sessions(in_flight):
            self._free.put(session)
        self.call = side_by_side(self._run, iter(feed), batches, in_flight, self.stages)

    def _run(self, images: np.ndarray, scales: np.ndarray, ids: np.ndarray) -> Union[Results, Heads]:
        session = self._free.get()
        try:
            with self.stages.span(INPUT):
                session.load(images, scales)
            with self.stages.span(DEVICE):
                session.run()
            if self._detects:
                with self.stages.span(POST_PROCESSING):
                    return Results(ids, session.detections())
            with self.stages.span(OUTPUT):  # The next batch is written where these lie.
                heads = session.class_outputs, session.box_outputs
                return Heads(ids, scales, *([output.copy() for output in part] for part in heads))
        finally:
            self._free.put(session)

    def results(self, outputs: Union[Results, Heads]) -> Results:
        """Detections of one batch."""
        if isinstance(outputs, Results):
            return outputs
        found = self._runtime.postprocess(outputs.class_outputs, outputs.box_outputs, outputs.scales)
        return Results(outputs.ids, found)

    def candidates(self) -> float:
        """Mean number of candidates an image in the first batch of the feed."""
        with self._computed(*next(iter(self._feed))[:2]) as session:
            return session.candidates()

    def detect(self, images: np.ndarray, scales: np.ndarray) -> Detections:
        """Detections in a batch, which lie in memory of the session's: read them before anything else runs."""
        with self._computed(images, scales) as session:
            return session.detections()

    @contextlib.contextmanager
    def _computed(self, images: np.ndarray, scales: np.ndarray) -> Iterator[Session]:
        """A session that has computed a batch, outside of what is timed."""
        session = self._free.get()
        try:
            session.load(images, scales)
            session.run()
            yield session
        finally:
            self._free.put(session)

    def span(self, label: str) -> ContextManager:
        """There is no profiler to mark anything for."""
        return contextlib.nullcontext()


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
