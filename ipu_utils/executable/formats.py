# SPDX-License-Identifier: Apache-2.0
"""The formats that a network can be exported in, and what is told beside the file. No TensorFlow."""

import os
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Tuple

from ipu_utils.base.errors import ConfigError
from ipu_utils.base.onnx_api import check_converter
from ipu_utils.base.openvino_api import import_openvino
from ipu_utils.config.model_options import Precision
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.executable.file import Header, calibration_in
from ipu_utils.executable.ports import Port, described

FLOAT, HALF, INT8 = Precision.FLOAT, Precision.HALF, Precision.INT8


class Format(NamedTuple):
    """One of them."""

    title: str
    precisions: Tuple[Precision, ...]  # of the weights in the file, the default first
    check: Callable[[], Any]  # raises UserError where a package is missing that makes it


FOLDER = ""  # the suffix of a folder
FORMATS: Dict[str, Format] = {  # by the suffix of the file
    ".tflite": Format("TensorFlow Lite", (FLOAT, HALF, INT8), lambda: None),
    ".onnx": Format("ONNX", (FLOAT,), check_converter),
    ".xml": Format("OpenVINO IR", (FLOAT, HALF, INT8), import_openvino),
    ".pb": Format("frozen TensorFlow graph", (FLOAT,), lambda: None),
    FOLDER: Format("TensorFlow SavedModel", (FLOAT,), lambda: None),
}


def suffix_of(path: str) -> str:
    """The key of FORMATS that a path asks for: a folder ends in a slash, or has no suffix.

    Raises:
      ConfigError: no format has its suffix.
    """
    suffix = FOLDER if path.endswith((os.sep, "/")) else os.path.splitext(path)[1].lower()
    if suffix not in FORMATS or not Path(path).name:
        known = ", ".join(name for name in FORMATS if name)
        raise ConfigError(
            f"--to {path}: expected a file that ends in one of {known}, or a folder for a SavedModel, which ends in / "
            "or has no suffix."
        )
    return suffix


def describe(header: Header, hparams: Any, suffix: str) -> Dict[str, Any]:
    """What a program needs to know to use the file, in JSON types.

    Args:
      header: of the network that was written; its `precision` is that of the weights in the file.
      hparams: its model configuration.
    """
    image, outputs = described(header)
    normalisation = normalisation_of(hparams)
    return {
        "model": header.model_name,
        "format": FORMATS[suffix].title,
        "precision": header.precision,
        "calibration": calibration_in(header),
        "weights": {
            "origin": header.weights,
            "sha256": header.fingerprint["weights"],
            "random": header.random_weights,
        },
        "input": {**_port(image), "layout": "NHWC", "channels": "RGB", "padding_rgb": list(header.mean_rgb)},
        "normalisation": {"in_network": True, "mean_rgb": normalisation.mean, "stddev_rgb": normalisation.stddev},
        "outputs": [_port(port) for port in outputs],
        "anchors": dict(header.anchors),
        "num_classes": header.num_classes,
        "labels": {str(number): name for number, name in header.label_map.items()},
        "nms": {"mode": header.nms_mode, **header.nms_configs},
        "versions": dict(header.versions),
    }


def _port(port: Port) -> Dict[str, Any]:
    return {"name": port.names[0], "shape": list(port.shape), "type": port.type_name}
