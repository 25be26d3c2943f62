# SPDX-License-Identifier: Apache-2.0
"""What the benchmark needs from hardware."""

from typing import Any, Callable, ContextManager, List, Optional, Protocol

from ipu_utils.backends.streams import Streams
from ipu_utils.measure.stages import Stages
from ipu_utils.model.placement import Placement


class Device(Placement, Protocol):
    """What the throughput script needs from hardware: `tensorflow_device`, `openvino_device` and `ipu` provide it."""

    name: str  # printed with every result
    description: str  # what executes the network, with its version; printed too
    streams: Optional[Streams]  # threads, streams, batches in flight; of an IPU there are none to set
    stages: Stages  # what the device sees of a batch's way; stays empty where one program runs many batches

    def span(self, label: str) -> ContextManager:
        """A mark for the profiler; does nothing where there is none."""

    def compile(self, step: Callable, dataset: Any, batches: int) -> Callable[[], List]:
        """Return a call that runs `step` on `batches` batches and returns when all outputs are in host memory.

        `dataset` yields tuples of tensors with static shapes: the arguments of `step`, which returns a tuple of
        tensors. The call returns one tuple of NumPy arrays a batch. (For OpenVINO both are of another kind, as the
        network is compiled already: see `openvino_device`.)
        """
