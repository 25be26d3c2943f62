# SPDX-License-Identifier: Apache-2.0
"""From a run to its network in Keras, and from there to the frozen graph that TensorFlow runs on a host.

What this module imports is what such a graph is known by: see `ipu_utils.executable.sources`.
"""

from typing import TYPE_CHECKING, List, Sequence, Tuple

from hparams_config import Config
from ipu_utils.backends.tensorflow_device import HostDevice, frozen_and_folded
from ipu_utils.backends.tensorflow_pipeline import TensorFlowPipeline
from ipu_utils.base.keras2 import tf
from ipu_utils.config.model_options import NmsConfig
from ipu_utils.executable.file import Header, with_weights
from ipu_utils.executable.ports import output_names
from ipu_utils.graph.edit import operation
from ipu_utils.model.network import prepare

if TYPE_CHECKING:
    from ipu_utils.config.run_config import RunConfig

INPUT = "images"


def build_graph(config: "RunConfig", hparams: Config, device: HostDevice, header: Header) -> Tuple[Header, bytes]:
    """Build the network of a run, with its weights.

    Returns:
      (the header with what is known of the weights, a GraphDef whose ends have names of their own).

    Raises:
      UserError: see `ipu_utils.model.network.prepare`.
    """
    model = prepare(config, hparams, device)
    pipeline = TensorFlowPipeline(model.network, hparams, NmsConfig(onchip_nms=False), model.precision, device)

    def step(images: tf.Tensor) -> List[tf.Tensor]:
        class_outputs, box_outputs = pipeline.heads(images)
        return [*class_outputs, *box_outputs]

    spec = tf.TensorSpec((header.batch_size, *header.image_size, 3), header.input_type, name=INPUT)
    frozen = frozen_and_folded(step, [spec])
    for name, tensor in zip(output_tensors(header), frozen.outputs):
        frozen.graph_def.node.append(operation(name, "Identity", [tensor], T=header.output_type))
    return with_weights(header, model.weights, model.random), frozen.graph_def.SerializeToString()


def output_tensors(header: Header) -> Sequence[str]:
    """Names of the outputs, class outputs first."""
    class_names, box_names = output_names(header)
    return [*class_names, *box_names]
