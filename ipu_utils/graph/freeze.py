# SPDX-License-Identifier: Apache-2.0
"""Turn a traced step into one graph of constants, and a graph back into a callable."""

from typing import Any, Callable, NamedTuple, Sequence, Tuple

from ipu_utils.base.keras2 import tf


class FrozenStep(NamedTuple):
    """A graph without variables, with the names of its ends."""

    graph_def: tf.compat.v1.GraphDef
    inputs: Tuple[str, ...]  # tensor names, in the order of the step's arguments
    outputs: Tuple[str, ...]  # tensor names, in the order of the step's results


def freeze(step: Callable[..., Sequence[tf.Tensor]], signature: Sequence[tf.TensorSpec]) -> FrozenStep:
    """Trace `step` for `signature` and replace every variable by its present value.

    Args:
      step: a function of tensors that returns a flat tuple of tensors.
      signature: one spec an argument, in order; static shapes give the optimiser most to work with.
    """
    # Without autograph: no step decides by a tensor in Python, and looking through Keras for it doubles the time.
    concrete = tf.function(lambda *args: tuple(step(*args)), autograph=False).get_concrete_function(*signature)
    graph_def = concrete.graph.as_graph_def()
    _read_captured(graph_def, concrete)
    arguments = concrete.inputs[: len(concrete.inputs) - len(concrete.captured_inputs)]
    inputs, outputs = (tuple(tensor.name for tensor in ends) for ends in (arguments, concrete.outputs))
    return prune(FrozenStep(graph_def, inputs, outputs))


def _read_captured(graph_def: tf.compat.v1.GraphDef, concrete: Any) -> None:
    """Put their values in the place of the nodes that read variables, or that stand for tensors of outside.

    TensorFlow's own way, convert_variables_to_constants_v2, copies the graph several times: twice the time and 170 MB
    more for EfficientDet-D0. It is needed only where a variable is handed on to another function.
    """
    captured = concrete.captured_inputs
    inputs = concrete.inputs[len(concrete.inputs) - len(captured) :]
    outside = {tensor.op.name: value for tensor, value in zip(inputs, captured)}
    for node in graph_def.node:
        if node.name in outside and outside[node.name].dtype != tf.resource:
            _become_constant(node, outside[node.name])
        elif node.op == "ReadVariableOp":
            dtype = tf.as_dtype(node.attr["dtype"].type)
            _become_constant(node, tf.raw_ops.ReadVariableOp(resource=outside[producer(node.input[0])], dtype=dtype))
        else:
            handed_on = [edge for edge in node.input if getattr(outside.get(producer(edge)), "dtype", 0) == tf.resource]
            if handed_on and node.op != "NoOp":
                raise ValueError(f"{node.name} ({node.op}) does more with the variable {handed_on[0]} than to read it")


def _become_constant(node: tf.compat.v1.NodeDef, value: tf.Tensor) -> None:
    name = node.name
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = value.dtype.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.numpy()))


def as_function(frozen: FrozenStep) -> Callable[..., Sequence[tf.Tensor]]:
    """Return a callable that runs the graph: tensors in the order of `inputs` -> list in the order of `outputs`."""
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(frozen.graph_def, name=""), [])
    graph = imported.graph
    return imported.prune(
        [graph.get_tensor_by_name(name) for name in frozen.inputs],
        [graph.get_tensor_by_name(name) for name in frozen.outputs],
    )


def producer(edge: str) -> str:
    """Name of the node that an input string of a NodeDef refers to: without output number and control mark."""
    return edge.lstrip("^").split(":")[0]


def prune(frozen: FrozenStep) -> FrozenStep:
    """Drop every node that neither an output nor an input of the step depends on."""
    nodes = {node.name: node for node in frozen.graph_def.node}
    wanted, open_ends = set(), [producer(name) for name in frozen.inputs + frozen.outputs]
    while open_ends:
        name = open_ends.pop()
        if name not in wanted:
            wanted.add(name)
            open_ends.extend(producer(edge) for edge in nodes[name].input)
    kept = tf.compat.v1.GraphDef(versions=frozen.graph_def.versions, library=frozen.graph_def.library)
    kept.node.extend(node for node in frozen.graph_def.node if node.name in wanted)
    return frozen._replace(graph_def=kept)
