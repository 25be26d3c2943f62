# SPDX-License-Identifier: Apache-2.0
"""From a run to its network in Keras, and from there to the frozen graph that TensorFlow runs on a host.

What this module imports is what such a graph is known by: see `ipu_utils.executable.sources`.
"""

import functools
from typing import TYPE_CHECKING, Callable, List, Tuple

from hparams_config import Config
from ipu_utils.base.keras2 import tf
from ipu_utils.executable.file import Header, with_weights
from ipu_utils.executable.ports import INPUT, output_names
from ipu_utils.graph.clean_up import remove_identities
from ipu_utils.graph.edit import operation
from ipu_utils.graph.fold_batch_norm import fold_batch_norm
from ipu_utils.graph.fold_constants import fold_constants
from ipu_utils.graph.freeze import FrozenStep, freeze
from ipu_utils.graph.normalise_rows import normalise_rows
from ipu_utils.model.host import Host
from ipu_utils.model.network import Prepared, heads_of, prepare

if TYPE_CHECKING:
    from ipu_utils.config.run_config import RunConfig


# In this order: identities hide patterns from the other passes, and constants are few once batch norms are gone.
PASSES = (remove_identities, fold_batch_norm, fold_constants, normalise_rows)


def optimise(frozen: FrozenStep) -> FrozenStep:
    """Rewrite a frozen network for a CPU; see the passes for what each of them does."""
    for rewrite in PASSES:
        frozen = rewrite(frozen)
    return frozen


def build_network(config: "RunConfig", hparams: Config, host: Host, header: Header) -> Tuple[Header, Prepared]:
    """Build the network of a run, with its weights: (the header with what is known of them, the network).

    Raises:
      UserError: see `ipu_utils.model.network.prepare`.
    """
    model = prepare(config, hparams, host)
    return with_weights(header, model.weights, model.random), model


def freeze_graph(model: Prepared, hparams: Config, header: Header) -> bytes:
    """A GraphDef of the network; see `named_graph`."""
    heads = functools.partial(heads_of, model.network, hparams, model.precision)
    return named_graph(heads, header).SerializeToString()


def named_graph(heads: Callable, header: Header) -> tf.compat.v1.GraphDef:
    """The network as a graph of constants, whose input and outputs have the names of `ipu_utils.executable.ports`.

    Args:
      heads: a function from images [B, h, w, 3], pixels 0..255, to (class_outputs, box_outputs).
    """

    def step(images: tf.Tensor) -> List[tf.Tensor]:
        class_outputs, box_outputs = heads(images)
        return [*class_outputs, *box_outputs]

    spec = tf.TensorSpec((header.batch_size, *header.image_size, 3), header.input_type, name=INPUT)
    frozen = optimise(freeze(step, [spec]))
    classes, boxes = output_names(header)
    for name, tensor in zip(classes + boxes, frozen.outputs):
        frozen.graph_def.node.append(operation(name, "Identity", [tensor], T=header.output_type))
    return frozen.graph_def
