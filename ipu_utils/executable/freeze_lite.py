# SPDX-License-Identifier: Apache-2.0
"""From a run to its network in Keras, and from there to the flatbuffer that LiteRT runs, by TensorFlow's converter.

What this module imports is what such a file is known by: see `ipu_utils.executable.sources`.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional, Tuple

import numpy as np

from ipu_utils.base import start_notices
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_hparams import hparams_of_run
from ipu_utils.executable.calibration import Calibration, calibration_of
from ipu_utils.executable.convert import Frozen
from ipu_utils.executable.file import Header
from ipu_utils.executable.freeze import build_heads
from ipu_utils.executable.freeze_graph import optimise
from ipu_utils.executable.ports import INPUT, output_names
from ipu_utils.graph.freeze import as_function, freeze

if TYPE_CHECKING:
    from ipu_utils.config.run_config import RunConfig


def build_network(config: "RunConfig", header: Header) -> Tuple[Header, Callable[[str], Frozen]]:
    """See `ipu_utils.executable.freeze.build_network`; the file in the folder is LiteRT's."""
    header, heads = build_heads(config, header)
    calibration = None
    if header.precision == "int8":
        hparams = hparams_of_run(config)
        calibration = calibration_of(config, hparams, header.random_weights)
    return header, functools.partial(freeze_network, heads, header, calibration=calibration, shifted_pixels=True)


def freeze_network(
    heads: Callable,
    header: Header,
    folder: str,
    calibration: Optional[Calibration] = None,
    shifted_pixels: bool = False,
) -> Frozen:
    """Convert what `header` describes and write it into a folder; for `heads` see `ipu_utils.executable.freeze`.

    The names of the signature are those of `ipu_utils.executable.ports`.

    Args:
      calibration: images for a network in int8.
      shifted_pixels: where a network in int8 takes uint8 pixels, it takes them less 128, as int8: a pass less in it.
    """
    is_quantised = header.precision == "int8"
    # Of int8 the converter makes the input's type, whose integers are pixels: see `_quantise`.
    input_type = "float32" if is_quantised else header.input_type

    def step(images: tf.Tensor) -> Tuple[tf.Tensor, ...]:
        class_outputs, box_outputs = heads(images)
        return (*class_outputs, *box_outputs)

    signature = [tf.TensorSpec((header.batch_size, *header.image_size, 3), input_type, name=INPUT)]
    function = as_function(optimise(freeze(step, signature)))
    classes, boxes = output_names(header)
    names = classes + boxes

    @functools.partial(tf.function, input_signature=signature)
    def named(images: tf.Tensor) -> dict:
        return dict(zip(names, function(images)))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([named.get_concrete_function()], tf.Module())
    if is_quantised:
        pixels = "int8" if shifted_pixels and header.input_type == "uint8" else header.input_type
        _quantise(converter, header, calibration, pixels)
    elif header.precision == "float16":  # of the weights; what runs the file brings them to its own type
        converter.optimizations, converter.target_spec.supported_types = [tf.lite.Optimize.DEFAULT], [tf.float16]
    path = Path(folder, "network.tflite")
    with start_notices.held_back():
        content = converter.convert()
    path.write_bytes(content)
    return Frozen(path, tuple(names))


def _quantise(converter: Any, header: Header, calibration: Calibration, input_type: str) -> None:
    """Have all of the network computed in integers, from pixels as they are to quantised outputs."""

    def batches() -> Iterator[List[np.ndarray]]:
        for batch in calibration.batches(header.batch_size):
            images = batch.astype(np.float32)
            # With both ends of the range among its values, the input's integers are the pixels themselves.
            images[:, 0, 0, :], images[:, 0, 1, :] = 0, 255
            yield [images]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = batches
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.as_dtype(input_type)
    converter.inference_output_type = tf.as_dtype(header.output_type)
