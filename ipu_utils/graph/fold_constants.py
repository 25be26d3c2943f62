# SPDX-License-Identifier: Apache-2.0
"""Compute before deployment what does not depend on the input.

In this network that is the fusion of the BiFPN: each weight goes through a ReLU and is divided by the sum of all plus
1e-4; of that, one constant factor a map is left.
"""

from typing import Dict, List, Set

import numpy as np

from ipu_utils.base.keras2 import tf
from ipu_utils.graph.edit import constant, copy_of, is_control, nodes_by_name, output_index
from ipu_utils.graph.freeze import FrozenStep, as_function, producer, prune

# Operations without state, side effects or randomness, whose result is about as large as their inputs.
PURE = frozenset(
    {
        "Add", "AddN", "AddV2", "Cast", "ConcatV2", "Div", "Exp", "ExpandDims", "Identity", "IdentityN", "Log", "Max",
        "Maximum", "Mean", "Min", "Minimum", "Mul", "Neg", "Pack", "Pow", "Prod", "RealDiv", "Reciprocal", "Relu",
        "Relu6", "Reshape", "Rsqrt", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Square", "Squeeze", "StridedSlice",
        "Sub", "Sum", "Tanh", "Transpose", "Unpack",
    }
)  # fmt: skip


def _foldable(nodes: Dict[str, tf.compat.v1.NodeDef]) -> Set[str]:
    """Names of the nodes that depend on nothing but constants, the constants included."""
    known: Dict[str, bool] = {}
    for name in nodes:
        stack = [name]
        while stack:
            node = nodes[stack[-1]]
            inputs = [producer(edge) for edge in node.input]
            unknown = [name for name in inputs if name not in known]
            if node.op in PURE and inputs and unknown:
                stack.extend(unknown)
                continue
            known[stack.pop()] = node.op == "Const" or (
                node.op in PURE
                and bool(inputs)
                and not any(is_control(edge) for edge in node.input)
                and all(known[name] for name in inputs)
            )
    return {name for name, folds in known.items() if folds}


def fold_constants(frozen: FrozenStep) -> FrozenStep:
    """Return the graph with every tensor that does not depend on the input replaced by its value.

    Outputs of the step that are constant themselves stay as they are.
    """
    graph_def = copy_of(frozen.graph_def)
    nodes = nodes_by_name(graph_def)
    foldable = _foldable(nodes)
    # The edges where constants meet the rest of the graph.
    border: List[str] = []
    for node in graph_def.node:
        if node.name not in foldable:
            border.extend(
                edge
                for edge in node.input
                if not is_control(edge) and producer(edge) in foldable and nodes[producer(edge)].op != "Const"
            )
    border = sorted(set(border))
    if not border:
        return frozen
    tensors = tuple(edge if ":" in edge else edge + ":0" for edge in border)
    values = as_function(prune(FrozenStep(graph_def, (), tensors)))()
    replaced = {}
    for edge, value in zip(border, values):
        name = f"{producer(edge)}/constant_{output_index(edge)}"
        # By way of numpy(): a tensor of one bfloat16 does not become an array by itself.
        graph_def.node.append(constant(name, np.asarray(value.numpy())))
        replaced[edge] = name
    for node in graph_def.node:
        if node.name not in foldable:
            for i, edge in enumerate(node.input):
                node.input[i] = replaced.get(edge, edge)
    return prune(frozen._replace(graph_def=graph_def))
