# SPDX-License-Identifier: Apache-2.0
"""TensorFlow runs an executable: a frozen graph with batch norm folded, on a CPU or GPU."""

from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from ipu_utils.base import hardware
from ipu_utils.base.keras2 import tf
from ipu_utils.base.printable import one_line
from ipu_utils.executable.file import Executable, ExecutableError, Header
from ipu_utils.executable.ports import INPUT, Port, aligned_zeros, check_ports, output_names
from ipu_utils.graph.freeze import FrozenStep, as_function
from ipu_utils.model.host import Host


def engine_name() -> str:
    """See `ipu_utils.executable.engines.Engine`."""
    return f"TensorFlow {tf.__version__}"


def load(executable: Executable, num_threads: Optional[int], num_streams: Optional[int], kind: str) -> "Network":
    """See `ipu_utils.executable.engines.Engine`; threads are those of a process that has run TensorFlow already."""
    host = Host(kind, num_threads or hardware.usable_cores(), num_streams or 1)
    return Network(executable, host, num_streams or 1)


class Network:
    """See `ipu_utils.executable.engines.Network`."""

    def __init__(self, executable: Executable, host: Host, num_streams: int):
        self._header, self._host = executable.header, host
        self.num_streams = num_streams
        self.num_threads, self.device_name, self.quantisation = host.num_threads, host.name, None
        classes, boxes = output_names(self._header)
        outputs = tuple(f"{name}:0" for name in classes + boxes)
        try:
            graph_def = tf.compat.v1.GraphDef.FromString(executable.network().tobytes())
            with host.placement():
                self._function = as_function(FrozenStep(graph_def, (f"{INPUT}:0",), outputs))
        except Exception as error:  # TensorFlow raises whatever parsing and importing come upon.
            raise ExecutableError(
                f"{executable.path} cannot be used by TensorFlow ({one_line(error)}). Compile it again."
            ) from error
        check_ports(executable, _ports(self._function.inputs), _ports(self._function.outputs))

    def request(self) -> "Request":
        return Request(self._function, self._host, self._header)


class Request:
    """See `ipu_utils.executable.engines.Request`; every run leaves new outputs."""

    def __init__(self, function: Callable[[tf.Tensor], Sequence[tf.Tensor]], host: Host, header: Header):
        self._function, self._host, self._classes = function, host, len(output_names(header)[0])
        self.images = aligned_zeros((header.batch_size, *header.image_size, 3), header.input_type)
        self.class_outputs: List[np.ndarray] = []
        self.box_outputs: List[np.ndarray] = []

    def run(self) -> None:
        self.class_outputs, self.box_outputs = [], []  # whose memory the new ones can take
        # A GPU computes on after the function has returned: only with its outputs here is it known to be done.
        with self._host.placement():
            outputs = [_array(output) for output in self._function(tf.constant(self.images))]
        self.class_outputs, self.box_outputs = outputs[: self._classes], outputs[self._classes :]


def _array(output: tf.Tensor) -> np.ndarray:
    array = np.asarray(output)
    return array.view(np.uint16) if output.dtype == tf.bfloat16 else array


def _ports(tensors: Sequence[Any]) -> List[Port]:
    return [
        Port(
            (tensor.op.name,),
            tuple(tensor.shape) if tensor.shape.is_fully_defined() else None,
            tensor.dtype.name,
        )
        for tensor in tensors
    ]
