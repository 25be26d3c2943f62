# SPDX-License-Identifier: Apache-2.0
"""A CPU or GPU through stock TensorFlow: where a network is built, and in which numbers it may compute there."""

import contextlib
from typing import ContextManager

from ipu_utils.base import hardware
from ipu_utils.base.errors import NotSupportedError, UserError
from ipu_utils.base.keras2 import tf


class Host:
    """See `ipu_utils.model.network.Placement`.

    Args:
      kind: "cpu" or "gpu".
      threads: all threads of TensorFlow; they are shared by `streams` networks that run side by side.
      given: the user has named the number of threads.

    Raises:
      UserError: TensorFlow has run something already, with another number of threads than the given one.
    """

    def __init__(self, kind: str, threads: int, streams: int = 1, given: bool = False):
        self.kind = kind
        self.num_threads = threads
        try:
            tf.config.threading.set_intra_op_parallelism_threads(max(1, threads // streams))
            # Not one alone: branches of the BiFPN run beside each other.
            tf.config.threading.set_inter_op_parallelism_threads(max(2, streams))
        except RuntimeError as error:
            # A program that used TensorFlow before gets here; what it set stays, unless it asks for something else.
            if given:
                raise UserError(f"{threads} threads must be set before TensorFlow runs anything: {error}") from error
        if kind == "gpu":
            gpu = tf.config.list_physical_devices("GPU")[0]
            self.name = f"gpu ({tf.config.experimental.get_device_details(gpu).get('device_name', gpu.name)})"
        else:
            self.name = f"cpu ({hardware.cpu_name()}, {threads} threads)"

    def default_precision(self) -> str:
        """Type name of the precision that suits the device: bfloat16 pays only where matrix units compute it."""
        return hardware.default_precision(self.kind)

    def check_precision(self, precision: str) -> None:
        """Raise NotSupportedError where TensorFlow has no such convolutions for the device (2.6 none in bfloat16)."""
        if precision == "int8":
            raise NotSupportedError(
                "TensorFlow does not compute in int8: use --engine litert or openvino, which do on a CPU."
            )

        @tf.function
        def convolution():
            image = tf.ones((1, 4, 4, 2), precision)
            return tf.nn.depthwise_conv2d(image, tf.ones((3, 3, 2, 1), precision), [1, 1, 1, 1], "SAME")

        try:
            with self.placement():
                convolution()
        except (tf.errors.InternalError, tf.errors.NotFoundError, tf.errors.InvalidArgumentError) as error:
            raise NotSupportedError(
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

    def placement(self) -> ContextManager:
        """Run operations inside it."""
        return tf.device("/GPU:0") if self.kind == "gpu" else contextlib.nullcontext()
