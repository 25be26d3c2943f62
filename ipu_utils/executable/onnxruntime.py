# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime runs an executable: an ONNX file, on a CPU or, where its package has one, a GPU's provider.

No TensorFlow, tf2onnx or onnx.
"""

import itertools
from typing import Any, List, Optional, Sequence

from ipu_utils.base import hardware
from ipu_utils.base.onnx_api import engine_name, import_onnxruntime, providers
from ipu_utils.base.printable import one_line
from ipu_utils.executable.file import Executable, ExecutableError, Header
from ipu_utils.executable.ports import INPUT, Port, aligned_zeros, check_ports, output_names

__all__ = ["Network", "Request", "engine_name", "load"]

TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}
FATAL = 4  # level of its log; errors are raised, too


def load(executable: Executable, num_threads: Optional[int], num_streams: Optional[int], kind: str) -> "Network":
    """See `ipu_utils.executable.engines.Engine`."""
    return Network(executable, num_threads or hardware.usable_cores(), num_streams or 1, kind)


class Network:
    """See `ipu_utils.executable.engines.Network`.

    A session has the weights and the threads that help whoever calls it. Each stream has one of its own, but where a
    stream is one thread nobody helps, and all share one session.
    """

    def __init__(self, executable: Executable, num_threads: int, num_streams: int, kind: str):
        self._executable, self._header = executable, executable.header
        self.num_threads, self.num_streams = num_threads, num_streams
        chosen, threads = providers(kind), max(1, num_threads // num_streams)
        sessions = [self._session(chosen, threads) for _ in range(1 if threads == 1 else num_streams)]
        check_ports(executable, _ports(sessions[0].get_inputs()), _ports(sessions[0].get_outputs()))
        self.quantisation = None
        self._sessions = itertools.cycle(sessions)
        on = hardware.cpu_name() if kind == "cpu" else chosen[0]
        self.device_name = f"{kind} ({on}, {num_threads} threads)"

    def request(self) -> "Request":
        return Request(next(self._sessions), self._header)

    def _session(self, chosen: List[str], threads: int) -> Any:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Threads wait for the next layer in a loop, and sleep between two runs: the cores are libdetect's then.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = FATAL
        try:
            session = onnxruntime.InferenceSession(
                self._executable.network().tobytes(), options, providers=chosen, enable_fallback=0
            )
        except Exception as error:  # It has a class of errors of its own for each kind.
            raise ExecutableError(
                f"{self._executable.path} cannot be loaded by ONNX Runtime: {one_line(error)}. Compile it again."
            ) from error
        if session.get_providers()[0] != chosen[0]:
            raise ExecutableError(
                f"{self._executable.path} cannot be run by ONNX Runtime's {chosen[0]}, which did not start: see what "
                "it needs (CUDA, cuDNN or TensorRT), or use --device cpu."
            )
        return session


class Request:
    """See `ipu_utils.executable.engines.Request`; its outputs always lie in the same memory."""

    def __init__(self, session: Any, header: Header):
        self._session, self._binding = session, session.io_binding()
        self.images = aligned_zeros((header.batch_size, *header.image_size, 3), header.input_type)
        shapes = {output.name: output.shape for output in session.get_outputs()}
        classes, boxes = output_names(header)
        outputs = []
        for name in classes + boxes:
            output = aligned_zeros(shapes[name], header.output_type)
            # The network writes where libdetect reads.
            self._binding.bind_output(name, "cpu", 0, output.dtype, output.shape, output.ctypes.data)
            outputs.append(output)
        self.class_outputs, self.box_outputs = outputs[: len(classes)], outputs[len(classes) :]

    def run(self) -> None:
        # Anew in each run: a GPU gets its copy here.
        self._binding.bind_cpu_input(INPUT, self.images)
        self._session.run_with_iobinding(self._binding)


def _ports(found: Sequence[Any]) -> List[Port]:
    return [
        Port(
            (argument.name,),
            tuple(argument.shape) if all(isinstance(side, int) for side in argument.shape) else None,
            TYPES.get(argument.type, argument.type),
        )
        for argument in found
    ]
