# SPDX-License-Identifier: Apache-2.0
"""Fold inference-mode batch normalisation into the convolution before it.

TensorFlow's own optimiser folds neither a batch norm behind convolution + bias nor one behind a depthwise convolution,
which is every batch norm of the BiFPN and of the heads. The heads share their convolutions between levels while each
level has its own batch norm; in a frozen graph each level is a node of its own, so each gets its own folded weights.
"""

from typing import Dict, List, NamedTuple, Optional

import numpy as np

from ipu_utils.base.keras2 import tf
from ipu_utils.graph.freeze import FrozenStep, producer, prune

BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


class _Graph:
    """Look-ups over a GraphDef's nodes by name and by consumer."""

    def __init__(self, graph_def: tf.compat.v1.GraphDef):
        self.nodes = {node.name: node for node in graph_def.node}
        self.consumers: Dict[str, List[str]] = {}
        for node in graph_def.node:
            for edge in node.input:
                self.consumers.setdefault(producer(edge), []).append(node.name)

    def constant(self, edge: str) -> Optional[np.ndarray]:
        """Value behind `edge` as float32 when it is a constant (through identities and casts), else None."""
        node = self.nodes[producer(edge)]
        while node.op in ("Identity", "Cast"):
            node = self.nodes[producer(node.input[0])]
        return tf.make_ndarray(node.attr["value"].tensor).astype(np.float32) if node.op == "Const" else None

    def only_consumer(self, name: str) -> bool:
        return len(self.consumers.get(name, ())) == 1


class _Match(NamedTuple):
    convolution: tf.compat.v1.NodeDef
    kernel: np.ndarray
    bias: np.ndarray  # zeros where the convolution has none


def _match(graph: _Graph, batch_norm: tf.compat.v1.NodeDef, channels: int) -> Optional[_Match]:
    """Find the convolution (with or without bias) that feeds `batch_norm` alone."""
    node = graph.nodes[producer(batch_norm.input[0])]
    bias: Optional[np.ndarray] = np.zeros(channels, np.float32)
    if node.op == "BiasAdd" and graph.only_consumer(node.name):
        bias = graph.constant(node.input[1])
        node = graph.nodes[producer(node.input[0])]
    if bias is None or node.op not in CONVOLUTIONS or not graph.only_consumer(node.name):
        return None
    kernel = graph.constant(node.input[1])
    return None if kernel is None else _Match(node, kernel, bias)


def fold_batch_norm(frozen: FrozenStep) -> FrozenStep:
    """Return the graph with each batch norm merged into its convolution, or turned into multiply and add elsewhere.

    The arithmetic is done in float32 and rounded once to the graph's type. Batch norms in training mode, with
    statistics that are not constant or in a layout other than NHWC are left as they are.
    """
    source = tf.compat.v1.GraphDef()
    source.CopyFrom(frozen.graph_def)
    graph = _Graph(source)
    added: List[tf.compat.v1.NodeDef] = []

    def constant(name: str, value: np.ndarray, dtype: tf.DType) -> str:
        node = tf.compat.v1.NodeDef(name=name, op="Const")
        node.attr["dtype"].type = dtype.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.astype(dtype.as_numpy_dtype)))
        added.append(node)
        return name

    for node in source.node:
        if node.op not in BATCH_NORMS or node.attr["is_training"].b or node.attr["data_format"].s == b"NCHW":
            continue
        statistics = [graph.constant(edge) for edge in node.input[1:5]]
        if any(value is None for value in statistics):
            continue
        gamma, beta, mean, variance = statistics
        scale = gamma / np.sqrt(variance + node.attr["epsilon"].f)
        shift = beta - mean * scale
        dtype = tf.as_dtype(node.attr["T"].type)
        match = _match(graph, node, len(scale))
        folded = tf.compat.v1.NodeDef()
        if match is None:
            folded.CopyFrom(tf.compat.v1.NodeDef(name=node.name + "/scaled", op="Mul"))
            folded.input.extend([node.input[0], constant(node.name + "/scale", scale, dtype)])
        else:
            # [h, w, in, out] of a convolution scales its last axis; [h, w, channels, multiplier] its last two together.
            factor = scale if match.convolution.op == "Conv2D" else scale.reshape(match.kernel.shape[2:])
            shift = shift + match.bias * scale
            folded.CopyFrom(match.convolution)
            folded.name = node.name + "/folded"
            folded.input[1] = constant(node.name + "/kernel", match.kernel * factor, dtype)
        folded.attr["T"].type = dtype.as_datatype_enum
        added.append(folded)
        # The last node takes the batch norm's name, so that nothing behind it has to change.
        last = tf.compat.v1.NodeDef(name=node.name, op="BiasAdd")
        last.input.extend([folded.name, constant(node.name + "/shift", shift, dtype)])
        last.attr["T"].type = dtype.as_datatype_enum
        last.attr["data_format"].s = b"NHWC"
        node.CopyFrom(last)

    source.node.extend(added)
    return prune(frozen._replace(graph_def=source))
