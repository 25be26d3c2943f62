# SPDX-License-Identifier: Apache-2.0
"""LiteRT runs an executable on a CPU through XNNPACK: a flatbuffer as LiteRT's own tools read it. No TensorFlow."""

import contextlib
import ctypes
from typing import Any, ContextManager, Dict, List, Optional, Tuple

import numpy as np

from ipu_utils.base import hardware, start_notices
from ipu_utils.base.litert_api import engine_name, import_litert
from ipu_utils.base.printable import one_line
from ipu_utils.base.quantisation import HeadQuantisation, Quantisation
from ipu_utils.executable.file import Executable, ExecutableError, Header
from ipu_utils.executable.ports import INPUT, Port, aligned_zeros, check_ports, output_names

__all__ = ["Network", "Request", "engine_name", "load"]

Tensor = Tuple[int, Dict[str, Any]]  # number and description
_said: List[bool] = []


def load(executable: Executable, num_threads: Optional[int], num_streams: Optional[int], kind: str) -> "Network":
    """See `ipu_utils.executable.engines.Engine`; `kind` is "cpu" always."""
    return Network(executable, num_threads or hardware.usable_cores(), num_streams or 1)


class Network:
    """See `ipu_utils.executable.engines.Network`."""

    def __init__(self, executable: Executable, num_threads: int, num_streams: int):
        self._executable, self.num_threads, self.num_streams = executable, num_threads, num_streams
        self._content = executable.network().tobytes()  # LiteRT takes bytes, which all requests share
        self._threads = max(1, num_threads // num_streams)
        self.device_name = f"cpu ({hardware.cpu_name()}, {num_threads} threads)"
        self._first: Optional[Request] = self._request()
        self.quantisation = self._first.quantisation

    def request(self) -> "Request":
        found, self._first = self._first, None
        return found or self._request()

    def _request(self) -> "Request":
        try:
            with _quiet():
                interpreter = import_litert().Interpreter(model_content=self._content, num_threads=self._threads)
                inputs, outputs = _tensors(interpreter)
                interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ExecutableError(
                f"{self._executable.path} cannot be loaded by LiteRT: {one_line(error)}. Compile it again."
            ) from error
        check_ports(self._executable, list(map(_pixel_port, inputs.items())), list(map(_port, outputs.items())))
        _check_pixels(self._executable, inputs[INPUT])
        return Request(interpreter, self._executable.header, inputs, outputs)


class Request:
    """See `ipu_utils.executable.engines.Request`: an interpreter with its memory, where input and outputs lie.

    But the input of int8 that stands for pixels less 128: its images lie apart, and a run begins by shifting them.
    """

    def __init__(self, interpreter: Any, header: Header, inputs: Dict[str, Tensor], outputs: Dict[str, Tensor]):
        self._interpreter = interpreter
        self.images = self._input = _memory(interpreter, inputs[INPUT])
        if self._input.dtype == np.int8:
            self._input = self._input.view(np.uint8)
            self.images = aligned_zeros(self._input.shape, "uint8")
        classes, boxes = output_names(header)
        self.class_outputs: List[np.ndarray] = [_memory(interpreter, outputs[name]) for name in classes]
        self.box_outputs: List[np.ndarray] = [_memory(interpreter, outputs[name]) for name in boxes]
        self.quantisation: Optional[HeadQuantisation] = None
        if header.output_type == "int8":
            found = ([_quantisation(outputs[name]) for name in names] for names in (classes, boxes))
            self.quantisation = HeadQuantisation(*found)

    def run(self) -> None:
        if self.images is not self._input:
            np.bitwise_xor(self.images, 128, out=self._input)  # Less 128, in the bits of an int8.
        self._interpreter.invoke()


def _quiet() -> ContextManager:
    """Hold back what LiteRT says once a process, when the first network is loaded."""
    if _said:
        return contextlib.nullcontext()
    _said.append(True)
    return start_notices.held_back()


def _tensors(interpreter: Any) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
    """The inputs and the outputs by the names of the network's signature."""
    runner = interpreter.get_signature_runner()
    return tuple(
        {name: (detail["index"], detail) for name, detail in details.items()}
        for details in (runner.get_input_details(), runner.get_output_details())
    )


def _memory(interpreter: Any, tensor: Tensor) -> np.ndarray:
    """The memory of a tensor, which stays where it is while the interpreter lives and is not resized.

    By its address: LiteRT refuses to run while an array holds on to its own view of it.
    """
    view = interpreter.tensor(tensor[0])()
    memory = (ctypes.c_char * view.nbytes).from_address(view.ctypes.data)
    memory.owner = interpreter  # which lives as long as an array of its memory
    return np.frombuffer(memory, view.dtype).reshape(view.shape)


def _check_pixels(executable: Executable, tensor: Tensor) -> None:
    """Raise ExecutableError where the integers of the input do not stand for pixels."""
    scale, zero_point = tensor[1]["quantization"]
    pixels = ((1.0, -128),) if tensor[1]["dtype"] == np.int8 else ((0.0, 0), (1.0, 0))
    if executable.header.input_type == "uint8" and (scale, zero_point) not in pixels:
        raise ExecutableError(
            f"{executable.path} takes pixels times {scale:g} from {zero_point}, not pixels. Compile it again."
        )


def _quantisation(tensor: Tensor) -> Quantisation:
    scale, zero_point = tensor[1]["quantization"]
    return Quantisation(float(scale), int(zero_point))


def _pixel_port(named: Tuple[str, Tensor]) -> Port:
    """The input: int8 stands for uint8 here, see `_check_pixels`."""
    port = _port(named)
    return port._replace(type_name="uint8") if port.type_name == "int8" else port


def _port(named: Tuple[str, Tensor]) -> Port:
    name, (_, detail) = named
    return Port((name,), tuple(int(side) for side in detail["shape"]), np.dtype(detail["dtype"]).name)
