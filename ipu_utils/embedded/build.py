# SPDX-License-Identifier: Apache-2.0
"""From a Keras network to a frozen one in a file, which OpenVINO converts. Needs TensorFlow."""

import os
import tempfile
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

from ipu_utils.embedded.convert import Frozen, compile_frozen, read_network
from ipu_utils.embedded.executable import Header
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
    """Convert a frozen network; for the arguments see `ipu_utils.embedded.convert.read_network`."""
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
    """Freeze and compile in one; see `freeze_network` and `ipu_utils.embedded.convert.compile_frozen`."""
    with tempfile.TemporaryDirectory() as folder:
        return compile_frozen(freeze_network(heads, header, folder), header, num_threads)
