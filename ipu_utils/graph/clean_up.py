# SPDX-License-Identifier: Apache-2.0
"""Remove nodes that only pass a tensor on, or only wait: half of a frozen network's nodes."""

from ipu_utils.graph.edit import copy_of, is_control, nodes_by_name, output_index
from ipu_utils.graph.freeze import FrozenStep, producer, prune

PASS_ON = ("Identity", "IdentityN", "StopGradient", "PreventGradient", "Snapshot")


def remove_identities(frozen: FrozenStep) -> FrozenStep:
    """Return the graph without nodes whose outputs are their inputs.

    The step's outputs keep their order, not their names. Control edges go too: they ordered reads of variables, and a
    frozen step has none. Assertions that hang on control edges alone go with them.
    """
    graph_def = copy_of(frozen.graph_def)
    nodes = nodes_by_name(graph_def)

    def source(edge: str) -> str:
        """The edge that brings the same tensor without the detours."""
        while nodes[producer(edge)].op in PASS_ON:
            edge = nodes[producer(edge)].input[output_index(edge)]
        return edge

    for node in graph_def.node:
        # Hints to place two operations together name nodes that may be gone.
        node.attr.pop("_class", None)
        inputs = [source(edge) for edge in node.input if not is_control(edge)]
        del node.input[:]
        node.input.extend(inputs)
    outputs = tuple(source(name) for name in frozen.outputs)
    # The name of a tensor carries its output's number, an edge leaves out zero.
    outputs = tuple(name if ":" in name else name + ":0" for name in outputs)
    return prune(frozen._replace(graph_def=graph_def, outputs=outputs))
