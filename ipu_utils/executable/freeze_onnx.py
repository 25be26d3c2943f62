# SPDX-License-Identifier: Apache-2.0
"""From a run to its network in Keras, and from there to the ONNX file that ONNX Runtime runs, by tf2onnx.

What this module imports is what such a file is known by: see `ipu_utils.executable.sources`.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Tuple

from ipu_utils.base.onnx_api import import_converter
from ipu_utils.executable.convert import Frozen
from ipu_utils.executable.file import Header
from ipu_utils.executable.freeze import build_heads
from ipu_utils.executable.freeze_graph import named_graph
from ipu_utils.executable.ports import INPUT, output_names
from ipu_utils.graph.freeze import FrozenStep
from ipu_utils.graph.gather_nearest import gather_nearest

if TYPE_CHECKING:
    from ipu_utils.config.run_config import RunConfig

OPSET = 17  # of 2022: what is measured needs nothing newer, and older runtimes read it


def build_network(config: "RunConfig", header: Header) -> Tuple[Header, Callable[[str], Frozen]]:
    """See `ipu_utils.executable.freeze.build_network`; the file in the folder is ONNX."""
    header, heads = build_heads(config, header)
    return header, functools.partial(freeze_network, heads, header)


def freeze_network(heads: Callable, header: Header, folder: str) -> Frozen:
    """Convert what `header` describes and write it into a folder; for `heads` see `ipu_utils.executable.freeze`.

    Input and outputs have the names of `ipu_utils.executable.ports`.
    """
    classes, boxes = output_names(header)
    names = classes + boxes
    tensors = {f"{name}:0": name for name in (INPUT, *names)}
    inputs, *outputs = tensors
    frozen = gather_nearest(FrozenStep(named_graph(heads, header), (inputs,), tuple(outputs)))
    model, _ = import_converter().from_graph_def(
        frozen.graph_def,
        name=header.model_name,
        input_names=[inputs],
        output_names=outputs,
        opset=OPSET,
        tensors_to_rename=tensors,
    )
    path = Path(folder, "network.onnx")
    path.write_bytes(model.SerializeToString())
    return Frozen(path, tuple(names))
