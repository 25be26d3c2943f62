# SPDX-License-Identifier: Apache-2.0
"""--executable-cache-dir for TensorFlow on a host: the network as a frozen graph in a file. A second run builds none.

The file is that of `ipu_utils.executable.file`, with a GraphDef in the place of what OpenVINO exports. It holds the
network alone: post-processing and what passes through a step are put around it each time.
"""

from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from hparams_config import Config
from ipu_utils.backends.openvino_requests import kept
from ipu_utils.backends.requests_contract import Opened
from ipu_utils.backends.tensorflow_build import INPUT, build_graph, output_tensors
from ipu_utils.backends.tensorflow_device import HostDevice
from ipu_utils.backends.tensorflow_pipeline import TensorFlowPipeline
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import NmsConfig, RunConfig
from ipu_utils.executable import cache, fingerprint
from ipu_utils.executable.file import Executable, ExecutableError, Header, read_executable, write_executable
from ipu_utils.executable.model_info import ModelInfo, info_of_file
from ipu_utils.executable.ports import Port, mismatch
from ipu_utils.graph.freeze import FrozenStep, as_function


class KeptPipeline(TensorFlowPipeline):
    """The pipeline around a network from a file."""

    def __init__(self, executable: Executable, hparams: Config, nms: NmsConfig, device: HostDevice):
        header = executable.header
        super().__init__(None, hparams, nms, header.precision, device)
        self._outputs = [f"{name}:0" for name in output_tensors(header)]
        try:
            self._graph_def = tf.compat.v1.GraphDef.FromString(executable.network().tobytes())
            self._function = as_function(FrozenStep(self._graph_def, (f"{INPUT}:0",), tuple(self._outputs)))
        except Exception as error:  # TensorFlow raises whatever parsing and importing come upon.
            raise ExecutableError(f"{executable.path} cannot be used by TensorFlow ({error}): remove it.") from error
        problem = mismatch(header, _ports(self._function.inputs), _ports(self._function.outputs))
        if problem is not None:
            raise ExecutableError(f"{executable.path} is not what it says it is: {problem}. Remove it.")

    def heads(self, images: tf.Tensor) -> Tuple[Sequence[tf.Tensor], Sequence[tf.Tensor]]:
        """See `TensorFlowPipeline.heads`; images of the type that the file was made for."""
        if tf.executing_eagerly():
            outputs = self._function(images)
        else:  # The nodes themselves: a function that is called would keep kernels from fusing.
            outputs = tf.graph_util.import_graph_def(self._graph_def, {f"{INPUT}:0": images}, self._outputs, "network")
        return outputs[: self._levels], outputs[self._levels :]


def _ports(tensors: Sequence[tf.Tensor]) -> List[Port]:
    return [
        Port(
            (tensor.op.name,),
            tuple(tensor.shape) if tensor.shape.is_fully_defined() else None,
            tensor.dtype.name,
        )
        for tensor in tensors
    ]


def kept_file(config: RunConfig, device: HostDevice) -> Tuple[Header, Path, Optional[Opened]]:
    """What the run asks for, the file of --executable-cache-dir that keeps it, and that file, opened, if it is there.

    Raises:
      UserError: the device lacks the precision, or see `ipu_utils.backends.openvino_requests.kept`.
    """
    chosen = config.model.model_precision
    precision = device.default_precision() if chosen is None else chosen.value
    device.check_precision(precision)
    engine = f"TensorFlow {tf.__version__}"
    header = cache.plan(config, precision, precision, engine, fingerprint.cpu_features(), builder=cache.GRAPH)
    path = cache.cached_file(config.device.executable_cache_dir, header)
    return header, path, kept(config, header, path)


def prepare_kept(config: RunConfig, hparams: Config, device: HostDevice) -> Tuple[ModelInfo, KeptPipeline]:
    """Take the network from --executable-cache-dir, or build it and keep it there.

    Raises:
      UserError: the file cannot be written, or see `ipu_utils.model.network.prepare`.
    """
    header, path, opened = kept_file(config, device)
    if opened is None:
        header, graph_def = build_graph(config, hparams, device, header)
        write_executable(path, header, graph_def)
        opened = Opened(path, header, 0.0, "compiled", read_executable(path))
    return info_of_file(opened.header), KeptPipeline(opened.executable, hparams, config.nms, device)
