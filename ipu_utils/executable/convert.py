# SPDX-License-Identifier: Apache-2.0
"""From a frozen network in a file to an executable: convert, compile, export. Needs OpenVINO, not TensorFlow."""

from pathlib import Path
from typing import Any, Iterable, List, NamedTuple, Optional, Tuple

import numpy as np

from ipu_utils.base.openvino_api import (
    OPENVINO_TYPES,
    check_precision,
    core_of,
    engine_name,
    import_openvino,
    properties,
)
from ipu_utils.executable.file import Header
from ipu_utils.executable.ports import output_names
from ipu_utils.executable.quantise_openvino import quantise


class Frozen(NamedTuple):
    """A network of constants in a file, as `ipu_utils.executable.freeze` writes it."""

    path: Path  # a GraphDef
    outputs: Tuple[str, ...]  # names of tensors


def read_network(frozen: Frozen, names: List[str], output_type: Optional[str] = None) -> Any:
    """Convert a frozen network.

    Args:
      frozen: from images to head outputs.
      names: what the outputs are to be called, in the step's order.
      output_type: type name that all outputs are converted to; None leaves them as they are.
    """
    openvino = import_openvino()
    from openvino.preprocess import PrePostProcessor

    # Not openvino.convert_model: reading the file needs no TensorFlow of a version it knows, and reports to nobody.
    model = core_of(openvino).read_model(str(frozen.path))
    for tensor, name in zip(frozen.outputs, names):
        model.output(tensor).get_tensor().set_names({name})
    if output_type is not None:
        steps = PrePostProcessor(model)
        for name in names:
            steps.output(name).tensor().set_element_type(getattr(openvino.Type, OPENVINO_TYPES[output_type]))
        model = steps.build()
    return model


def compile_frozen(
    frozen: Frozen,
    header: Header,
    num_threads: Optional[int] = None,
    calibration: Optional[Iterable[np.ndarray]] = None,
) -> bytes:
    """Compile what `header` describes and return it as OpenVINO exports it.

    Args:
      frozen: from images [B, h, w, 3], pixels 0..255, to the class outputs and behind them the box outputs.
      header: what to compile; its engine must be this OpenVINO.
      num_threads: threads that the network is going to run on.
      calibration: batches of images, uint8 [B, h, w, 3], for a network in int8.
    """
    openvino = import_openvino()
    if header.engine != engine_name(openvino):
        raise ValueError(f"the header asks for {header.engine}, this is {engine_name(openvino)}")
    check_precision(header.precision)
    class_names, box_names = output_names(header)
    model = read_network(frozen, class_names + box_names, header.output_type)
    if header.precision == "int8":
        model = quantise(model, (batch.astype(header.input_type) for batch in calibration))
    compiled = core_of(openvino).compile_model(model, "CPU", properties(header.precision, num_threads))
    return compiled.export_model().getvalue()
