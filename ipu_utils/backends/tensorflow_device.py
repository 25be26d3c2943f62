# SPDX-License-Identifier: Apache-2.0
"""CPU and GPU through stock TensorFlow: the step runs as a frozen graph with batch norm folded."""

import contextlib
from typing import Callable, ContextManager, List, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.backends.in_flight import side_by_side
from ipu_utils.backends.streams import streams_of
from ipu_utils.base import hardware
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.graph.clean_up import remove_identities
from ipu_utils.graph.fold_batch_norm import fold_batch_norm
from ipu_utils.graph.fold_constants import fold_constants
from ipu_utils.graph.freeze import FrozenStep, as_function, freeze
from ipu_utils.measure.stages import DEVICE, Stages


def frozen_and_folded(step: Callable, signature: Sequence[tf.TensorSpec]) -> FrozenStep:
    """Freeze `step` for `signature` and rewrite it for TensorFlow's kernels."""
    return remove_identities(fold_constants(fold_batch_norm(freeze(step, signature))))


class HostDevice:
    """A CPU or GPU of this machine. See `ipu_utils.backends.contract.Device` for the contract."""

    def __init__(self, kind: str, num_threads: Optional[int] = None, num_streams: Optional[int] = None):
        self.kind = kind
        self.stages = Stages()
        self.streams = streams_of("tensorflow", num_threads, num_streams)
        threads, streams, _ = self.streams
        self.num_threads = threads
        self.engine = f"TensorFlow {tf.__version__}, frozen graph with batch norm folded, {self.streams}"
        try:
            tf.config.threading.set_intra_op_parallelism_threads(max(1, threads // streams))
            # Not one alone: branches of the BiFPN run beside each other.
            tf.config.threading.set_inter_op_parallelism_threads(max(2, streams))
        except RuntimeError as error:
            # A program that used TensorFlow before gets here; what it set stays, unless it asks for something else.
            if num_threads is not None:
                raise UserError(
                    f"{num_threads} threads must be set before TensorFlow runs anything: {error}"
                ) from error
        if kind == "gpu":
            names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in _gpus()]
            self.name = f"gpu ({names[0]})"
        else:
            self.name = f"cpu ({hardware.cpu_name()}, {threads} threads)"

    def default_precision(self) -> str:
        """Type name of the precision that suits the device: bfloat16 pays only where matrix units compute it."""
        return hardware.default_precision() if self.kind == "cpu" else "float32"

    def check_precision(self, precision: str) -> None:
        """Raise UserError where this TensorFlow has no convolutions of that type for the device (bfloat16 in 2.6)."""

        @tf.function
        def convolution():
            image = tf.ones((1, 4, 4, 2), precision)
            return tf.nn.depthwise_conv2d(image, tf.ones((3, 3, 2, 1), precision), [1, 1, 1, 1], "SAME")

        try:
            with self._placement():
                convolution()
        except (tf.errors.InternalError, tf.errors.NotFoundError, tf.errors.InvalidArgumentError) as error:
            raise UserError(
                f"TensorFlow {tf.__version__} cannot compute {precision} convolutions on {self.name}: "
                "use --model-precision float."
            ) from error

    def dtype_policy(self, precision: str) -> str:
        """Keras policy for `precision`: weights stay float32 until they are frozen, so that folding rounds once."""
        return precision if precision == "float32" else f"mixed_{precision}"

    def swish(self, features: tf.Tensor) -> tf.Tensor:
        """x * sigmoid(x). Without the custom gradient of tf.nn.swish, whose extra nodes keep kernels from fusing."""
        return features * tf.sigmoid(features)

    def scope(self) -> ContextManager:
        """Variables live on the CPU until they are frozen into the graph."""
        return tf.device("/CPU:0")

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
        with self._placement():
            function = self.optimise(step, dataset.element_spec)

        def run(*inputs: tf.Tensor) -> Tuple[np.ndarray, ...]:
            # A GPU computes on after the function has returned: only with its outputs here is it known to be done.
            with self._placement(), self.stages.span(DEVICE):
                return tuple(output.numpy() for output in function(*inputs))

        return side_by_side(run, iter(dataset), batches, self.streams.in_flight, self.stages)

    def _placement(self) -> ContextManager:
        return tf.device("/GPU:0") if self.kind == "gpu" else contextlib.nullcontext()


def _gpus() -> List:
    return tf.config.list_physical_devices("GPU")
