# SPDX-License-Identifier: Apache-2.0
"""Turn a traced step into one graph of constants, and a graph back into a callable."""

from typing import Callable, NamedTuple, Sequence, Tuple

from ipu_utils.keras2 import tf


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
    # Not a public symbol in any release, yet the documented way to freeze in TensorFlow 2 and unmoved since 2.2.
    from tensorflow.python.framework import convert_to_constants

    concrete = tf.function(lambda *args: tuple(step(*args))).get_concrete_function(*signature)
    frozen = convert_to_constants.convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    kept = {tensor.name.split(":")[0] for tensor in frozen.inputs}
    lost = [spec.name for spec, tensor in zip(signature, concrete.inputs) if tensor.name.split(":")[0] not in kept]
    if lost:
        raise ValueError(f"the step does not use its arguments {lost}")
    return FrozenStep(
        frozen.graph.as_graph_def(),
        tuple(tensor.name for tensor in frozen.inputs),
        tuple(tensor.name for tensor in frozen.outputs),
    )


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
