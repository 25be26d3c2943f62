# SPDX-License-Identifier: Apache-2.0
"""Enlarge by repeating pixels instead of resizing, where the factor is a whole number.

XLA makes a convolution of a nearest-neighbour resize, and some releases refuse it unless corners are aligned. To repeat
is a broadcast between two reshapes: on an IPU nothing is computed and nothing moves until the consumer reads.
"""

from typing import List

import numpy as np

from ipu_utils.base.keras2 import tf
from ipu_utils.graph.edit import constant, copy_of, nearest_resizes, operation
from ipu_utils.graph.freeze import FrozenStep


def repeat_nearest(frozen: FrozenStep) -> FrozenStep:
    """Return the graph with nearest-neighbour enlargements by whole factors turned into broadcasts.

    Others, and those of maps without a static shape, stay as they are.
    """
    graph_def = copy_of(frozen.graph_def)
    added: List[tf.compat.v1.NodeDef] = []
    for node, resize in nearest_resizes(graph_def):
        before, after = resize.inputs[0].shape, resize.outputs[0].shape
        if node.attr["align_corners"].b or not (before.is_fully_defined() and after.is_fully_defined()):
            continue
        (batch, height, width, channels), (rows, columns) = before.as_list(), after.as_list()[1:3]
        if rows % height or columns % width:
            continue
        dtype, name = resize.inputs[0].dtype, node.name
        spread = [batch, height, 1, width, 1, channels]
        repeated = [batch, height, rows // height, width, columns // width, channels]
        shapes = {"spread": spread, "repeated": repeated, "joined": after.as_list()}
        added.extend(constant(f"{name}/{key}", np.array(shape, np.int32)) for key, shape in shapes.items())
        added.append(operation(f"{name}/apart", "Reshape", [node.input[0], f"{name}/spread"], T=dtype, Tshape=tf.int32))
        added.append(
            operation(f"{name}/repeat", "BroadcastTo", [f"{name}/apart", f"{name}/repeated"], T=dtype, Tidx=tf.int32)
        )
        # The last node takes the resize's name, so that nothing behind it has to change.
        node.CopyFrom(operation(name, "Reshape", [f"{name}/repeat", f"{name}/joined"], T=dtype, Tshape=tf.int32))
    graph_def.node.extend(added)
    return frozen._replace(graph_def=graph_def)
