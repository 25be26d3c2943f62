# SPDX-License-Identifier: Apache-2.0
"""Where the time of a batch goes: seconds by stage, added by whoever sees the stage begin and end.

A device that runs many batches in one compiled program sees none of its stages, and adds nothing.
"""

import contextlib
import time
from typing import Callable, Dict, Iterator, List, Tuple

INPUT_WAIT = "input wait"  # the device asked for a batch of resized images and had to wait for it
INPUT = "input"  # making or copying a request's input, where that is part of the request
DEVICE = "device"
POST_PROCESSING = "post-processing"  # on the host
OUTPUT = "output"  # from the engine's memory to arrays of the host
ORDER = (INPUT_WAIT, INPUT, DEVICE, POST_PROCESSING, OUTPUT)


class Stages:
    """Samples in seconds by stage, one a batch; any number of threads may add."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._seconds: Dict[str, List[float]] = {stage: [] for stage in ORDER}

    @contextlib.contextmanager
    def span(self, stage: str) -> Iterator[None]:
        """Time what is inside; a span that ends in an exception is no sample."""
        start = self._clock()
        yield
        self._seconds[stage].append(self._clock() - start)  # list.append needs no lock

    def clear(self) -> None:
        """Forget the warm-up."""
        for seconds in self._seconds.values():
            seconds.clear()

    def seconds(self) -> Dict[str, Tuple[float, ...]]:
        """Samples so far by stage, in the order of ORDER; none is empty."""
        return {stage: tuple(seconds) for stage, seconds in self._seconds.items() if seconds}
