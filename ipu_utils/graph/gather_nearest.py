# SPDX-License-Identifier: Apache-2.0
"""Enlarge by picking rows and columns instead of resizing, where the factor is not a whole number.

A format that has a resize's factor and not its size (ONNX, as tf2onnx writes it) gets 5 / 3 as a number that times 3
may be 4.99: a map of another size than the one it is added to.
"""

from typing import List

import numpy as np

from ipu_utils.base.keras2 import tf
from ipu_utils.graph.edit import constant, copy_of, nearest_resizes, operation
from ipu_utils.graph.freeze import FrozenStep


def gather_nearest(frozen: FrozenStep) -> FrozenStep:
    """Return the graph with nearest-neighbour resizes by factors that are not whole turned into two gathers.

    Others, and those of maps without a static shape, stay as they are.
    """
    graph_def = copy_of(frozen.graph_def)
    added: List[tf.compat.v1.NodeDef] = []
    for node, resize in nearest_resizes(graph_def):
        before, after = resize.inputs[0].shape, resize.outputs[0].shape
        if not (before[1:3].is_fully_defined() and after[1:3].is_fully_defined()):
            continue
        (height, width), (rows, columns) = before.as_list()[1:3], after.as_list()[1:3]
        if rows % height == 0 and columns % width == 0:
            continue
        dtype, name = resize.inputs[0].dtype, node.name
        corners, centres = node.attr["align_corners"].b, node.attr["half_pixel_centers"].b
        added += [
            constant(f"{name}/rows", _sources(height, rows, corners, centres)),
            constant(f"{name}/columns", _sources(width, columns, corners, centres)),
            constant(f"{name}/row_axis", np.array(1, np.int32)),
            constant(f"{name}/column_axis", np.array(2, np.int32)),
            _gather(f"{name}/picked_rows", [node.input[0], f"{name}/rows", f"{name}/row_axis"], dtype),
        ]
        # The last node takes the resize's name, so that nothing behind it has to change.
        node.CopyFrom(_gather(name, [f"{name}/picked_rows", f"{name}/columns", f"{name}/column_axis"], dtype))
    graph_def.node.extend(added)
    return frozen._replace(graph_def=graph_def)


def _gather(name: str, inputs: List[str], dtype: tf.DType) -> tf.compat.v1.NodeDef:
    return operation(name, "GatherV2", inputs, Tparams=dtype, Tindices=tf.int32, Taxis=tf.int32)


def _sources(before: int, after: int, align_corners: bool, half_pixel_centers: bool) -> np.ndarray:
    """Which of `before` rows each of `after` rows is taken from, int32 [after]: the operation itself says it."""
    numbers = np.arange(before, dtype=np.float32).reshape(1, before, 1, 1)
    resized = tf.raw_ops.ResizeNearestNeighbor(
        images=numbers, size=[after, 1], align_corners=align_corners, half_pixel_centers=half_pixel_centers
    )
    return resized.numpy().reshape(after).astype(np.int32)
