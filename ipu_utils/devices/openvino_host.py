# SPDX-License-Identifier: Apache-2.0
"""A CPU through OpenVINO: several requests in flight, each with its memory. No TensorFlow.

What TensorFlow's devices get as a function of tensors and a tf.data dataset is here a compiled network and an iterable
of NumPy arrays. The contract is the same: the call returns when all outputs are in host memory.
"""

import contextlib
import queue
from typing import Callable, ContextManager, Iterable, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from ipu_utils.devices import detect, openvino_api
from ipu_utils.devices.side_by_side import side_by_side
from ipu_utils.stages import Stages

# Pixels of images that are computed at the same time: activations grow with them, 2 GB an image with the largest model.
MOST_PIXELS = 4 << 20


class Step(Protocol):
    """A compiled network that can be loaded."""

    pixels: int  # of a batch

    def load(self, num_threads: Optional[int], num_streams: int, workers: int, stages: Stages) -> Sequence[Callable]:
        """Load the network for so many streams; `stages` gets where the time of each batch goes.

        Returns:
          One function for each of `workers` batches under way, each with memory of its own:
          (images uint8 [B, h, w, 3], scales float32 [B], ids int32 [B]) -> tuple of arrays.
        """


def choose_streams(threads: int, pixels: int) -> int:
    """How many batches of `pixels` pixels to compute side by side: one a thread, as memory allows, at least one.

    A batch on one core needs no waiting between the threads of a layer, of which the small maps of the BiFPN have much.
    """
    return max(1, min(threads, MOST_PIXELS // pixels))


class OpenVinoDevice:
    """See `ipu_utils.devices.Device` for the contract."""

    kind = "cpu"

    def __init__(self, pixels: int, num_threads: Optional[int] = None, num_streams: Optional[int] = None):
        """Decide on threads and streams.

        Args:
          pixels: of a batch, rows times columns times images.
          num_threads: of all streams together; None: one a core that this process may use.
          num_streams: batches computed side by side; None: see `choose_streams`.

        Raises:
          UserError: OpenVINO is not installed.
        """
        self.stages = Stages()
        self.num_threads = num_threads or detect.usable_cores()
        self.num_streams = num_streams or choose_streams(self.num_threads, pixels)
        self.name = f"cpu ({detect.cpu_name()}, {self.num_threads} threads)"
        streams = "one stream" if self.num_streams == 1 else f"{self.num_streams} streams"
        self.engine = f"{openvino_api.engine_name(openvino_api.import_openvino())}, {streams}"

    def default_precision(self) -> str:
        """Type name of the precision that suits the CPU."""
        return detect.default_precision()

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
        # One batch more than there are streams: while it is post-processed, every stream has another to compute.
        in_flight = self.num_streams + 1
        free = queue.SimpleQueue()
        for worker in step.load(self.num_threads, self.num_streams, in_flight, self.stages):
            free.put(worker)

        def run(*inputs: np.ndarray) -> Tuple[np.ndarray, ...]:
            worker = free.get()
            try:
                return worker(*inputs)
            finally:
                free.put(worker)

        return side_by_side(run, iter(dataset), batches, in_flight, self.stages)
