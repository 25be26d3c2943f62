# SPDX-License-Identifier: Apache-2.0
"""OpenVINO runs an executable: the network is mapped from its file, and writes where libdetect reads. No TensorFlow."""

from typing import Any, List, Optional, Sequence

import numpy as np

from ipu_utils.base import hardware, openvino_api
from ipu_utils.base.openvino_api import OPENVINO_TYPES, core_of, import_openvino, properties
from ipu_utils.base.printable import one_line
from ipu_utils.executable.file import Executable, ExecutableError, Header
from ipu_utils.executable.ports import Port, aligned_zeros, check_ports, output_names

TYPES = {"u8": "uint8", **{name: ours for ours, name in OPENVINO_TYPES.items()}}  # from OpenVINO's names


def engine_name() -> str:
    """See `ipu_utils.executable.engines.Engine`."""
    return openvino_api.engine_name(import_openvino())


def load(executable: Executable, num_threads: Optional[int], num_streams: Optional[int], kind: str) -> "Network":
    """See `ipu_utils.executable.engines.Engine`; `kind` is "cpu" always."""
    return Network(executable, num_threads, num_streams)


class Network:
    """See `ipu_utils.executable.engines.Network`."""

    def __init__(self, executable: Executable, num_threads: Optional[int], num_streams: Optional[int]):
        file = executable.network()
        self._header = executable.header
        self._compiled = _import(executable, file, num_threads, num_streams)
        self._file = file  # holds its weights, and must not go before it: attributes go in the order they came
        check_ports(executable, _ports(self._compiled.inputs), _ports(self._compiled.outputs))
        self.num_threads = self._compiled.get_property("INFERENCE_NUM_THREADS")
        self.num_streams = self._compiled.get_property("NUM_STREAMS")  # no more than threads, whatever was asked for
        self.quantisation = None
        self.device_name = f"cpu ({hardware.cpu_name()}, {self.num_threads} threads)"

    def request(self) -> "Request":
        return Request(self, self._compiled, self._header)


class Request:
    """See `ipu_utils.executable.engines.Request`; its outputs always lie in the same memory."""

    def __init__(self, network: Network, compiled: Any, header: Header):
        openvino = import_openvino()
        self._request, self._network = compiled.create_infer_request(), network  # in this order they go
        self.images = aligned_zeros((header.batch_size, *header.image_size, 3), header.input_type)
        self._request.set_input_tensor(openvino.Tensor(self.images, shared_memory=True))
        classes, boxes = output_names(header)
        outputs = []
        for name in classes + boxes:
            port = compiled.output(name)
            output = aligned_zeros(tuple(port.shape), header.output_type)
            # The network writes where libdetect reads.
            self._request.set_tensor(port, openvino.Tensor(output, port.shape, port.element_type))
            outputs.append(output)
        self.class_outputs, self.box_outputs = outputs[: len(classes)], outputs[len(classes) :]

    def run(self) -> None:
        self._request.infer()


def _ports(found: Sequence[Any]) -> List[Port]:
    """Describe the inputs or outputs of a compiled network."""
    shapes = [port.partial_shape for port in found]
    return [
        Port(
            tuple(port.names),
            tuple(shape.to_shape()) if shape.is_static else None,
            TYPES.get(port.element_type.get_type_name(), port.element_type.get_type_name()),
        )
        for port, shape in zip(found, shapes)
    ]


def _import(executable: Executable, file: np.ndarray, num_threads: Optional[int], num_streams: Optional[int]) -> Any:
    openvino = import_openvino()
    settings, core = properties(executable.header.precision, num_threads, num_streams), core_of(openvino)
    try:
        try:
            return core.import_model(openvino.Tensor(file, shared_memory=True), "CPU", settings)
        except TypeError:  # Releases before 2026 take bytes, and copy them.
            return core.import_model(file.tobytes(), "CPU", settings)
    except RuntimeError as error:
        raise ExecutableError(
            f"{executable.path} cannot be loaded by OpenVINO: {one_line(error)}. Compile it again."
        ) from error
