# SPDX-License-Identifier: Apache-2.0
"""A CPU through OpenVINO: several requests in flight, each with its memory. No TensorFlow.

What TensorFlow's devices get as a function of tensors and a tf.data dataset is here a compiled network and an iterable
of NumPy arrays. The contract is the same: the call returns when all outputs are in host memory.
"""

import contextlib
import queue
from typing import Callable, ContextManager, Iterable, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from ipu_utils.backends.in_flight import side_by_side
from ipu_utils.backends.streams import MOST_PIXELS, choose_streams, streams_of
from ipu_utils.base import hardware, openvino_api
from ipu_utils.measure.stages import Stages

__all__ = ["MOST_PIXELS", "OpenVinoDevice", "Step", "choose_streams"]


class Step(Protocol):
    """A compiled network that can be loaded."""

    pixels: int  # of a batch

    def load(self, num_threads: Optional[int], num_streams: int, workers: int, stages: Stages) -> Sequence[Callable]:
        """Load the network for so many streams; `stages` gets where the time of each batch goes.

        Returns:
          One function for each of `workers` batches under way, each with memory of its own:
          (images uint8 [B, h, w, 3], scales float32 [B], ids int32 [B]) -> tuple of arrays.
        """


class OpenVinoDevice:
    """See `ipu_utils.backends.contract.Device` for the contract."""

    kind = "cpu"

    def __init__(self, pixels: int, num_threads: Optional[int] = None, num_streams: Optional[int] = None):
        """Decide on threads and streams; for the arguments see `ipu_utils.backends.streams.streams_of`.

        Raises:
          UserError: OpenVINO is not installed.
        """
        self.stages = Stages()
        self.streams = streams_of("openvino", num_threads, num_streams, pixels)
        self.num_threads = self.streams.threads
        self.name = f"cpu ({hardware.cpu_name()}, {self.num_threads} threads)"
        self.description = f"{openvino_api.engine_name(openvino_api.import_openvino())}, {self.streams}"

    def default_precision(self) -> str:
        """Type name of the precision that suits the CPU."""
        return hardware.default_precision()

    def check_precision(self, precision: str) -> None:
        """Raise UserError when OpenVINO cannot compute in that precision here."""
        openvino_api.check_precision(precision)

    def scope(self) -> ContextManager:
        """Nothing has to be placed."""
        return contextlib.nullcontext()

    def span(self, label: str) -> ContextManager:
        """There is no profiler to mark anything for."""
        return contextlib.nullcontext()

    def compile(self, step: Step, dataset: Iterable[Tuple[np.ndarray, ...]], batches: int) -> Callable[[], List]:
        """Return a call that runs `batches` batches of `dataset` and returns when all outputs are in host memory."""
        threads, streams, in_flight = self.streams
        free = queue.SimpleQueue()
        for worker in step.load(threads, streams, in_flight, self.stages):
            free.put(worker)

        def run(*inputs: np.ndarray) -> Tuple[np.ndarray, ...]:
            worker = free.get()
            try:
                return worker(*inputs)
            finally:
                free.put(worker)

        return side_by_side(run, iter(dataset), batches, in_flight, self.stages)
