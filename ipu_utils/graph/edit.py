# SPDX-License-Identifier: Apache-2.0
"""What the graph passes share: look-ups over a GraphDef, and new nodes."""

from typing import Dict, List, Optional, Tuple

import numpy as np

from ipu_utils.base.keras2 import tf
from ipu_utils.graph.freeze import producer


def nodes_by_name(graph_def: tf.compat.v1.GraphDef) -> Dict[str, tf.compat.v1.NodeDef]:
    """The nodes themselves, not copies."""
    return {node.name: node for node in graph_def.node}


def consumers(graph_def: tf.compat.v1.GraphDef) -> Dict[str, List[tf.compat.v1.NodeDef]]:
    """Node name -> the nodes that read any of its outputs or wait for it, once an edge."""
    found: Dict[str, List[tf.compat.v1.NodeDef]] = {}
    for node in graph_def.node:
        for edge in node.input:
            found.setdefault(producer(edge), []).append(node)
    return found


def is_control(edge: str) -> bool:
    """Does this input string only order two nodes, without passing a tensor?"""
    return edge.startswith("^")


def output_index(edge: str) -> int:
    """Which output of its producer an input string refers to."""
    return int(edge.split(":")[1]) if ":" in edge else 0


def constant_value(node: tf.compat.v1.NodeDef) -> Optional[np.ndarray]:
    """Value of a Const node, None for any other."""
    return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None


def constant(name: str, value: np.ndarray) -> tf.compat.v1.NodeDef:
    """A Const node of the value's own type."""
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return node


def operation(name: str, op: str, inputs: List[str], **types: tf.DType) -> tf.compat.v1.NodeDef:
    """A node whose attributes are types only: `operation("y", "Cast", ["x"], SrcT=tf.uint8, DstT=tf.float32)`."""
    node = tf.compat.v1.NodeDef(name=name, op=op)
    node.input.extend(inputs)
    for key, dtype in types.items():
        node.attr[key].type = tf.as_dtype(dtype).as_datatype_enum
    return node


def copy_of(graph_def: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """A graph that a pass may change."""
    copied = tf.compat.v1.GraphDef()
    copied.CopyFrom(graph_def)
    return copied


def nearest_resizes(graph_def: tf.compat.v1.GraphDef) -> List[Tuple[tf.compat.v1.NodeDef, tf.Operation]]:
    """The nearest-neighbour resizes of a graph: nodes to be changed, and operations that know their shapes."""
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    nodes = [node for node in graph_def.node if node.op == "ResizeNearestNeighbor"]
    return [(node, graph.get_operation_by_name(node.name)) for node in nodes]
