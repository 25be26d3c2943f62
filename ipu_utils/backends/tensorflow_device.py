# SPDX-License-Identifier: Apache-2.0
"""CPU and GPU through stock TensorFlow: the step runs as a frozen graph with batch norm folded."""

from typing import Callable, ContextManager, List, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.backends.in_flight import side_by_side
from ipu_utils.backends.streams import streams_of
from ipu_utils.base.keras2 import tf
from ipu_utils.graph.clean_up import remove_identities
from ipu_utils.graph.fold_batch_norm import fold_batch_norm
from ipu_utils.graph.fold_constants import fold_constants
from ipu_utils.graph.freeze import FrozenStep, as_function, freeze
from ipu_utils.measure.stages import DEVICE, Stages
from ipu_utils.model.host import Host


def frozen_and_folded(step: Callable, signature: Sequence[tf.TensorSpec]) -> FrozenStep:
    """Freeze `step` for `signature` and rewrite it for TensorFlow's kernels."""
    return remove_identities(fold_constants(fold_batch_norm(freeze(step, signature))))


class HostDevice(Host):
    """A CPU or GPU of this machine. See `ipu_utils.backends.contract.Device` for the contract."""

    def __init__(self, kind: str, num_threads: Optional[int] = None, num_streams: Optional[int] = None):
        self.stages = Stages()
        self.streams = streams_of("tensorflow", num_threads, num_streams)
        threads, streams, _ = self.streams
        super().__init__(kind, threads, streams, given=num_threads is not None)
        self.description = f"TensorFlow {tf.__version__}, frozen graph with batch norm folded, {self.streams}"

    def span(self, label: str) -> ContextManager:
        """A mark for the profiler: shows up in TensorFlow's own."""
        return tf.profiler.experimental.Trace(label)

    def optimise(self, step: Callable, signature: Sequence[tf.TensorSpec]) -> Callable:
        """Freeze `step` for `signature`, fold its batch norms. Never through XLA, many times slower on a CPU."""
        return as_function(frozen_and_folded(step, signature))

    def compile(self, step: Callable, dataset: tf.data.Dataset, batches: int) -> Callable[[], List]:
        """Return a call that runs `step` on `batches` batches and returns when all outputs are in host memory.

        The outputs of a batch are a tuple of NumPy arrays in the order in which `step` returns them.
        """
        with self.placement():
            function = self.optimise(step, dataset.element_spec)

        def run(*inputs: tf.Tensor) -> Tuple[np.ndarray, ...]:
            # A GPU computes on after the function has returned: only with its outputs here is it known to be done.
            with self.placement(), self.stages.span(DEVICE):
                return tuple(output.numpy() for output in function(*inputs))

        return side_by_side(run, iter(dataset), batches, self.streams.in_flight, self.stages)
