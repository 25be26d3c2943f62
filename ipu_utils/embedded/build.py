# SPDX-License-Identifier: Apache-2.0
"""From a Keras network to an executable: freeze, rewrite, convert, compile, export. Needs TensorFlow and OpenVINO."""

import os
import tempfile
from typing import Any, List, Optional, Tuple

from ipu_utils.devices.openvino_api import OPENVINO_TYPES, check_precision, engine_name, import_openvino, properties
from ipu_utils.embedded.executable import Header
from ipu_utils.embedded.runtime import output_names
from ipu_utils.errors import UserError
from ipu_utils.graph.clean_up import remove_identities
from ipu_utils.graph.fold_batch_norm import fold_batch_norm
from ipu_utils.graph.fold_constants import fold_constants
from ipu_utils.graph.freeze import FrozenStep, freeze
from ipu_utils.graph.normalise_rows import normalise_rows
from ipu_utils.keras2 import tf

# In this order: identities hide patterns from the other passes, and constants are few once batch norms are gone.
PASSES = (remove_identities, fold_batch_norm, fold_constants, normalise_rows)


def optimise(frozen: FrozenStep) -> FrozenStep:
    """Rewrite a frozen network for a CPU; see the passes for what each of them does."""
    for rewrite in PASSES:
        frozen = rewrite(frozen)
    return frozen


def to_openvino(frozen: FrozenStep, names: List[str], output_type: Optional[str] = None) -> Any:
    """Convert a frozen network.

    Args:
      frozen: from images to head outputs.
      names: what the outputs are to be called, in the step's order.
      output_type: type name that all outputs are converted to; None leaves them as they are.
    """
    openvino = import_openvino()
    from openvino.preprocess import PrePostProcessor

    with tempfile.TemporaryDirectory() as folder:
        # Not openvino.convert_model: reading the file needs no TensorFlow of a version it knows, and reports to nobody.
        path = os.path.join(folder, "network.pb")
        try:
            with open(path, "wb") as file:
                file.write(frozen.graph_def.SerializeToString())
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}), and the network is passed to OpenVINO through it: "
                "free space, or set TMPDIR to another folder."
            ) from error
        model = openvino.Core().read_model(path)
    for tensor, name in zip(frozen.outputs, names):
        model.output(tensor).get_tensor().set_names({name})
    if output_type is not None:
        steps = PrePostProcessor(model)
        for name in names:
            steps.output(name).tensor().set_element_type(getattr(openvino.Type, OPENVINO_TYPES[output_type]))
        model = steps.build()
    return model


def compile_network(heads: Any, header: Header, num_threads: Optional[int] = None) -> bytes:
    """Compile what `header` describes and return it as OpenVINO exports it.

    Args:
      heads: a function from images [B, h, w, 3], pixels 0..255, to (class_outputs, box_outputs).
      header: what to compile; its engine must be this OpenVINO.
      num_threads: threads that the network is going to run on.
    """
    openvino = import_openvino()
    if header.engine != engine_name(openvino):
        raise ValueError(f"the header asks for {header.engine}, this is {engine_name(openvino)}")
    check_precision(header.precision)

    def step(images: tf.Tensor) -> Tuple[tf.Tensor, ...]:
        class_outputs, box_outputs = heads(images)
        return (*class_outputs, *box_outputs)

    signature = [tf.TensorSpec((header.batch_size, *header.image_size, 3), header.input_type)]
    class_names, box_names = output_names(header)
    model = to_openvino(optimise(freeze(step, signature)), class_names + box_names, header.output_type)
    compiled = openvino.Core().compile_model(model, "CPU", properties(header.precision, num_threads))
    return compiled.export_model().getvalue()
