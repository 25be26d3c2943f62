# SPDX-License-Identifier: Apache-2.0
"""What the IPU device can hold in a program: types, static shapes, operations with a kernel."""

import tensorflow as tf

GENERAL = {tf.int32, tf.int64, tf.float32, tf.float16, tf.bool}
# Eight-bit integers travel, they do not compute.
BYTES = {tf.uint8, tf.int8}
BYTE_OPS = {
    "Cast",
    "Identity",
    "IdentityN",
    "ExpandDims",
    "Reshape",
    "BroadcastTo",
    "Const",
    "Placeholder",
    "ReadVariableOp",
    "While",
    "StatelessWhile",
    "PartitionedCall",
    "StatefulPartitionedCall",
}
HANDLES = {tf.resource, tf.variant}
FEED_ATTRIBUTE = "_ipu_feed"  # marks what stands for an infeed or an outfeed
USER_OP_ATTRIBUTE = "_ipu_user_op"  # marks what stands for a custom operation
HOST_ONLY = {
    "PyFunc",
    "PyFuncStateless",
    "EagerPyFunc",
    "NonMaxSuppression",
    "NonMaxSuppressionV2",
    "NonMaxSuppressionV3",
    "NonMaxSuppressionV4",
    "NonMaxSuppressionV5",
    "CombinedNonMaxSuppression",
    "Where",
    "Unique",
    "UniqueV2",
    "IteratorGetNext",
    "DecodeImage",
    "DecodeJpeg",
    "DecodePng",
    "ReadFile",
    "PrintV2",
    "TensorArrayV3",
    "LookupTableFindV2",
}


def _attribute(op, name):
    try:
        return op.get_attr(name)
    except ValueError:
        return None


def _bodies(op, graph):
    """Graphs of the functions that `op` calls."""
    for name in ("body", "cond", "f", "then_branch", "else_branch"):
        value = _attribute(op, name)
        if value is None or not hasattr(value, "name"):
            continue
        owner = graph
        while owner is not None and not _has_function(owner, value.name):
            owner = getattr(owner, "outer_graph", None)
        if owner is not None:
            function = owner._get_function(value.name)
            if getattr(function, "graph", None) is not None:
                yield function.graph


def _has_function(graph, name):
    try:
        return graph._get_function(name) is not None
    except (KeyError, ValueError):
        return False


def _check_op(op):
    if _attribute(op, FEED_ATTRIBUTE) is not None or _attribute(op, USER_OP_ATTRIBUTE) is not None:
        return
    if op.device and "IPU" not in op.device and op.type != "Placeholder":
        raise tf.errors.InvalidArgumentError(
            None, op, f"{op.name} ({op.type}) is placed on {op.device}, not on the IPU"
        )
    if op.type in HOST_ONLY:
        raise tf.errors.InvalidArgumentError(None, op, f"{op.name}: {op.type} has no kernel on the IPU")
    for dtype in _types(op) - HANDLES:
        if dtype == tf.float64:
            raise TypeError(f"{op.name} ({op.type}): Unsupported data type float64")
        if dtype in BYTES and op.type not in BYTE_OPS:
            raise tf.errors.InvalidArgumentError(None, op, f"{op.name}: {op.type} is not available for {dtype.name}")
        if dtype not in GENERAL and dtype not in BYTES:
            raise tf.errors.InvalidArgumentError(None, op, f"{op.name} ({op.type}): {dtype.name} is not on the IPU")
    for tensor in op.outputs:
        # What enters a loop's or a branch's graph was checked where it comes from.
        if op.type != "Placeholder" and tensor.dtype not in HANDLES and not tensor.shape.is_fully_defined():
            raise tf.errors.InvalidArgumentError(
                None, op, f"{op.name} ({op.type}): {tensor.name} has no static shape, got {tensor.shape}"
            )


def _types(op):
    """Every type that the operation takes or gives, as its attributes and outputs tell."""
    found = {tensor.dtype.base_dtype for tensor in op.outputs}
    for value in op.node_def.attr.values():
        kind = value.WhichOneof("value")
        numbers = [value.type] if kind == "type" else value.list.type if kind == "list" else []
        found.update(tf.as_dtype(number).base_dtype for number in numbers)
    return found


def check(graph):
    """Raise for the first operation of `graph`, or of a graph it calls, that could not run on the IPU."""
    for op in graph.get_operations():
        _check_op(op)
        for body in _bodies(op, graph):
            check(body)
