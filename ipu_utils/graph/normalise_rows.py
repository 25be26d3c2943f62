# SPDX-License-Identifier: Apache-2.0
"""Normalise uint8 images in one pass over rows of pixels, at the speed of memory.

Three numbers a channel applied to [N, H, W, 3] use three lanes of a vector unit, and a compiler that prefers channels
first moves its transposition in front of them, onto the uint8 image, where it is slow. Here an image is [N, H, W * 3]
while it is cast, shifted and scaled; the reshapes cost nothing, and no transposition passes through them.

Where a convolution follows, its weights take the scale, so that a network in integers rounds the pixels once. To fold
the shift as well leaves the cast as a pass of its own, which is what costs; and because 'same' padding pads zeros after
normalisation, it is exact at the border only with an explicit padding by the mean, one more pass. Measured, that is
slower: see docs/EMBEDDED.md.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from ipu_utils.base.keras2 import tf
from ipu_utils.graph.edit import constant, constant_value, consumers, copy_of, nodes_by_name, operation
from ipu_utils.graph.freeze import FrozenStep, producer, prune

ARITHMETIC = ("Add", "AddV2", "Sub", "Mul", "Div", "RealDiv")


class _Chain(NamedTuple):
    """What happens to an image before anything but channel-wise arithmetic does."""

    shape: Tuple[int, int, int, int]  # [N, H, W, C], N -1 when unknown
    source: tf.DType
    target: tf.DType
    scale: np.ndarray  # [C]: value = pixel * scale + shift
    shift: np.ndarray
    last: tf.compat.v1.NodeDef


def _per_channel(value: Optional[np.ndarray], channels: int) -> Optional[np.ndarray]:
    """A constant as float64 [C] when it is one number or one a channel, else None."""
    if value is None or value.dtype.kind not in "fV" or value.size not in (1, channels):
        return None
    if value.ndim and value.shape[-1] != value.size:
        return None
    return np.broadcast_to(value.astype(np.float64).reshape(-1), (channels,))


def _advance(
    node: tf.compat.v1.NodeDef, before: str, nodes: Dict, scale: np.ndarray, shift: np.ndarray
) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Scale and shift behind `node`, or None when it is not channel-wise arithmetic with a constant."""
    if node.op not in ARITHMETIC:
        return None
    on_left = producer(node.input[0]) == before
    value = _per_channel(constant_value(nodes[producer(node.input[1 if on_left else 0])]), len(scale))
    if value is None or (not on_left and node.op in ("Div", "RealDiv")):
        return None
    if node.op in ("Add", "AddV2"):
        return scale, shift + value
    if node.op == "Sub":
        return (scale, shift - value) if on_left else (-scale, value - shift)
    if node.op == "Mul":
        return scale * value, shift * value
    return scale / value, shift / value


def _follow(start: tf.compat.v1.NodeDef, nodes: Dict, readers: Dict) -> Optional[_Chain]:
    """Follow the image from its placeholder as far as it is only cast, scaled and shifted."""
    shape = [dim.size for dim in start.attr["shape"].shape.dim]
    if len(shape) != 4 or min(shape[1:]) < 1:
        return None
    scale, shift = np.ones(shape[3]), np.zeros(shape[3])
    source = target = tf.as_dtype(start.attr["dtype"].type)
    last, steps = start, 0
    while len(readers.get(last.name, ())) == 1:
        (node,) = readers[last.name]
        if node.op == "Cast" and tf.as_dtype(node.attr["DstT"].type).is_floating:
            target = tf.as_dtype(node.attr["DstT"].type)
        else:
            values = _advance(node, last.name, nodes, scale, shift)
            if values is None:
                break
            (scale, shift), steps = values, steps + 1
        last = node
    if not steps:
        return None
    return _Chain(tuple(shape), source, target, scale, shift, last)


def _scale_kernels(chain: _Chain, nodes: Dict, readers: Dict) -> List[tf.compat.v1.NodeDef]:
    """Let the one convolution that reads an image scale it, too: its new kernel; none where something else reads it."""
    (node, *others) = readers[chain.last.name]
    kernel = constant_value(nodes[producer(node.input[1])]) if node.op == "Conv2D" and not others else None
    if kernel is None or producer(node.input[0]) != chain.last.name:
        return []
    scaled = (kernel.astype(np.float64) * chain.scale[:, None]).astype(kernel.dtype)
    node.input[1] = node.name + "/scaled_kernel"
    return [constant(node.input[1], scaled)]


def normalise_rows(frozen: FrozenStep) -> FrozenStep:
    """Return the graph with the normalisation of each image input done on rows, in float32 and rounded once.

    Inputs that are not [N, H, W, C] of known size, that nothing scales or shifts, or of which a channel is lost (times
    zero), stay as they are.
    """
    graph_def = copy_of(frozen.graph_def)
    nodes, readers = nodes_by_name(graph_def), consumers(graph_def)
    added: List[tf.compat.v1.NodeDef] = []
    for name in map(producer, frozen.inputs):
        chain = _follow(nodes[name], nodes, readers)
        if chain is None or chain.last.name in map(producer, frozen.outputs) or not chain.scale.all():
            continue
        count, height, width, channels = chain.shape
        end, prefix, float32 = chain.last.name, name + "/rows", tf.float32
        rows = np.array([count, height, width * channels], np.int32)
        kernels = _scale_kernels(chain, nodes, readers)
        added += [
            *kernels,
            constant(prefix + "/shape", rows),
            constant(prefix + "/shift", np.tile(chain.shift / chain.scale, width).astype(np.float32)),
            constant(prefix + "/scale", np.tile(chain.scale, width).astype(np.float32)),
            constant(prefix + "/image_shape", np.array(chain.shape, np.int32)),
            operation(prefix, "Reshape", [name, prefix + "/shape"], T=chain.source, Tshape=tf.int32),
            operation(prefix + "/pixels", "Cast", [prefix], SrcT=chain.source, DstT=float32),
            operation(prefix + "/shifted", "AddV2", [prefix + "/pixels", prefix + "/shift"], T=float32),
            operation(prefix + "/scaled", "Mul", [prefix + "/shifted", prefix + "/scale"], T=float32),
            operation(
                prefix + "/rounded",
                "Cast",
                [prefix + ("/shifted" if kernels else "/scaled")],
                SrcT=float32,
                DstT=chain.target,
            ),
        ]
        # The last node takes the name of the old one, so that nothing behind it has to change.
        chain.last.CopyFrom(
            operation(end, "Reshape", [prefix + "/rounded", prefix + "/image_shape"], T=chain.target, Tshape=tf.int32)
        )
    if not added:
        return frozen
    graph_def.node.extend(added)
    return prune(frozen._replace(graph_def=graph_def))
