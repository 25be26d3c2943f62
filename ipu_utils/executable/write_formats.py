# SPDX-License-Identifier: Apache-2.0
"""From a network in Keras to a file of each format of `ipu_utils.executable.formats`. Needs TensorFlow.

Input and outputs have the names of `ipu_utils.executable.ports` in all of them, and the passes are those of the engine
that runs the format here.
"""

from pathlib import Path
from typing import Any, Callable, List, Optional

from ipu_utils.base.keras2 import tf
from ipu_utils.base.openvino_api import import_openvino
from ipu_utils.executable import freeze, freeze_lite, freeze_onnx
from ipu_utils.executable.calibration import Calibration
from ipu_utils.executable.convert import read_network
from ipu_utils.executable.file import Header
from ipu_utils.executable.freeze import build_heads
from ipu_utils.executable.freeze_graph import named_graph
from ipu_utils.executable.ports import INPUT, output_names
from ipu_utils.executable.quantise_openvino import quantise
from ipu_utils.graph.freeze import FrozenStep, as_function

__all__ = ["build_heads", "write_format"]


def write_format(
    suffix: str, heads: Callable, header: Header, folder: str, calibration: Optional[Calibration] = None
) -> List[Path]:
    """Write a network into a folder, in a format of `ipu_utils.executable.formats.FORMATS`.

    Args:
      suffix: of the format.
      heads: a function from images [B, h, w, 3], pixels 0..255, to (class_outputs, box_outputs).
      header: what to write; its `precision` is that of the weights in the file.
      calibration: images for int8.

    Returns:
      What was written: files that differ in their suffix, the one that names the others last; or one folder.
    """
    if header.precision == "int8":
        return QUANTISED[suffix](heads, header, folder, calibration)
    return WRITERS[suffix](heads, header, folder)


def _tflite(heads: Callable, header: Header, folder: str, calibration: Optional[Calibration] = None) -> List[Path]:
    return [freeze_lite.freeze_network(heads, header, folder, calibration).path]


def _onnx(heads: Callable, header: Header, folder: str) -> List[Path]:
    return [freeze_onnx.freeze_network(heads, header, folder).path]


def _openvino(heads: Callable, header: Header, folder: str, calibration: Optional[Calibration] = None) -> List[Path]:
    classes, boxes = output_names(header)
    model = read_network(freeze.freeze_network(heads, header, folder), classes + boxes, header.output_type)
    model.input(0).get_tensor().set_names({INPUT})
    if calibration is not None:
        model = quantise(model, calibration.batches(header.batch_size))
    path = Path(folder, "network.xml")
    import_openvino().save_model(model, str(path), compress_to_fp16=header.precision == "float16")
    return [path.with_suffix(".bin"), path]


def _frozen(heads: Callable, header: Header, folder: str) -> List[Path]:
    path = Path(folder, "network.pb")
    path.write_bytes(named_graph(heads, header).SerializeToString())
    return [path]


def _saved_model(heads: Callable, header: Header, folder: str) -> List[Path]:
    classes, boxes = output_names(header)
    names = classes + boxes
    graph = FrozenStep(named_graph(heads, header), (f"{INPUT}:0",), tuple(f"{name}:0" for name in names))
    function = as_function(graph)
    spec = tf.TensorSpec((header.batch_size, *header.image_size, 3), header.input_type, name=INPUT)

    def named(images: tf.Tensor) -> Any:
        return dict(zip(names, function(images)))

    signature = tf.function(named, input_signature=[spec]).get_concrete_function()
    path = Path(folder, "network")
    tf.saved_model.save(tf.Module(), str(path), signatures=signature)
    return [path]


QUANTISED = {".tflite": _tflite, ".xml": _openvino}
WRITERS = {".tflite": _tflite, ".onnx": _onnx, ".xml": _openvino, ".pb": _frozen, "": _saved_model}
