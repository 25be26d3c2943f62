# SPDX-License-Identifier: Apache-2.0
"""From a run to its network in Keras, and from there to a frozen one in a file, which OpenVINO converts.

Needs TensorFlow. What this module imports is what a CPU's executable is known by: see `ipu_utils.executable.sources`.
"""

import dataclasses
import functools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Tuple

from ipu_utils.base import hardware
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.config.model_options import Precision
from ipu_utils.config.run_hparams import hparams_of_run
from ipu_utils.executable.convert import Frozen, compile_frozen, read_network
from ipu_utils.executable.file import Header, with_weights
from ipu_utils.executable.freeze_graph import optimise
from ipu_utils.graph.freeze import FrozenStep, freeze
from ipu_utils.model.host import Host
from ipu_utils.model.network import heads_of, prepare

if TYPE_CHECKING:
    from ipu_utils.config.run_config import RunConfig


def build_network(config: "RunConfig", header: Header) -> Tuple[Header, Callable[[str], Frozen]]:
    """Build the network of a run, with its weights.

    Returns:
      (the header with what is known of the weights, a function that freezes the network into a folder).

    Raises:
      UserError: see `ipu_utils.model.network.prepare`.
    """
    header, heads = build_heads(config, header)
    return header, functools.partial(freeze_network, heads, header)


def build_heads(config: "RunConfig", header: Header) -> Tuple[Header, Callable]:
    """As `build_network`, but the function goes from images to (class_outputs, box_outputs), float32."""
    hparams = hparams_of_run(config)
    device = Host("cpu", hardware.usable_cores())
    # Engines bring the network to its precision; what they convert is float32.
    float_model = dataclasses.replace(config.model, model_precision=Precision.FLOAT)
    model = prepare(dataclasses.replace(config, model=float_model), hparams, device)
    header = with_weights(header, model.weights, model.random)
    return header, functools.partial(heads_of, model.network, hparams, model.precision)


def write_network(frozen: FrozenStep, folder: str) -> Frozen:
    """Write a frozen network into a folder.

    Raises:
      UserError: it cannot be written there.
    """
    path = os.path.join(folder, "network.pb")
    try:
        with open(path, "wb") as file:
            file.write(frozen.graph_def.SerializeToString())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}), and the network is passed to OpenVINO through it: "
            "free space, or set TMPDIR to another folder."
        ) from error
    return Frozen(Path(path), frozen.outputs)


def to_openvino(frozen: FrozenStep, names: List[str], output_type: Optional[str] = None) -> Any:
    """Convert a frozen network; for the arguments see `ipu_utils.executable.convert.read_network`."""
    with tempfile.TemporaryDirectory() as folder:
        return read_network(write_network(frozen, folder), names, output_type)


def freeze_network(heads: Callable, header: Header, folder: str) -> Frozen:
    """Freeze what `header` describes, rewrite it for a CPU and write it into a folder.

    Args:
      heads: a function from images [B, h, w, 3], pixels 0..255, to (class_outputs, box_outputs).
    """

    def step(images: tf.Tensor) -> Tuple[tf.Tensor, ...]:
        class_outputs, box_outputs = heads(images)
        return (*class_outputs, *box_outputs)

    signature = [tf.TensorSpec((header.batch_size, *header.image_size, 3), header.input_type)]
    return write_network(optimise(freeze(step, signature)), folder)


def compile_network(heads: Callable, header: Header, num_threads: Optional[int] = None) -> bytes:
    """Freeze and compile in one; see `freeze_network` and `ipu_utils.executable.convert.compile_frozen`."""
    with tempfile.TemporaryDirectory() as folder:
        return compile_frozen(freeze_network(heads, header, folder), header, num_threads)
