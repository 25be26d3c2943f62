# SPDX-License-Identifier: Apache-2.0
"""From the heads' outputs to the boxes that take part in NMS, without touching anchors that cannot matter.

All but a few hundred of D0's 49104 anchors score below any useful threshold. Sigmoid is monotonic, so these are told by
their logits; only the others get a class, a score and a box.
"""

import math
from typing import Any, Dict, List, NamedTuple, Tuple

from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from tf2 import anchors

# Rows computed beyond the last candidate: TensorFlow's vector instructions and the scalar code for what is left over
# round exp differently, and a score must not depend on how many other candidates there are.
_VECTOR = 16


class Candidates(NamedTuple):
    """Boxes of one image that may be detections; their order is that of their anchors, then classes."""

    boxes: tf.Tensor  # float32 [M, 4], corners (ymin, xmin, ymax, xmax) in pixels of the network's input
    scores: tf.Tensor  # float32 [M]
    classes: tf.Tensor  # int32 [M], from 0 on


class Levels(NamedTuple):
    """The heads' outputs with anchors in a row, finest level first."""

    classes: List[tf.Tensor]  # logits, [B, n_l, C] each
    boxes: List[tf.Tensor]  # regressions, [B, n_l, 4] each


def make_anchors(params: Dict[str, Any]) -> anchors.Anchors:
    """Generate the anchors of a configuration."""
    keys = ("min_level", "max_level", "num_scales", "aspect_ratios", "anchor_scale", "image_size")
    return anchors.Anchors(*(params[key] for key in keys))


def flatten_levels(params: Dict[str, Any], cls_outputs: List[tf.Tensor], box_outputs: List[tf.Tensor]) -> Levels:
    """Reshape head outputs [B, H, W, anchors * x] ([B, anchors * x, H, W] with data_format channels_first).

    Raises:
      UserError: there are not as many outputs as levels.
    """
    num_levels = params["max_level"] - params["min_level"] + 1
    if len(cls_outputs) != num_levels or len(box_outputs) != num_levels:
        raise UserError(
            f"got {len(cls_outputs)} class and {len(box_outputs)} box outputs, but levels {params['min_level']} to "
            f"{params['max_level']} need {num_levels} of each."
        )

    def flatten(output, width):
        output = tf.convert_to_tensor(output)
        if params.get("data_format") == "channels_first":
            output = tf.transpose(output, [0, 2, 3, 1])
        static = output.shape.as_list()
        batch = tf.shape(output)[0] if static[0] is None else static[0]
        cells = -1 if None in static[1:] else math.prod(static[1:]) // width
        return tf.reshape(output, [batch, cells, width])

    return Levels([flatten(x, params["num_classes"]) for x in cls_outputs], [flatten(x, 4) for x in box_outputs])


def check_anchor_count(levels: Levels, anchor_boxes: Any):
    """Raise UserError when the outputs, as far as their sizes are known, do not belong to these anchors."""
    sizes = [level.shape[1] for level in levels.boxes]
    if None not in sizes and sum(sizes) != len(anchor_boxes):
        raise UserError(
            f"the head outputs hold {sum(sizes)} anchors an image, the configured image size and levels give "
            f"{len(anchor_boxes)}: set image_size to the size the network ran at."
        )


def logit_floor(score_threshold: float) -> float:
    """Return a logit that every score above the threshold exceeds, whatever the rounding of the sigmoid.

    Just below the threshold's own logit: what passes in addition is decided exactly, by its score.
    """
    if score_threshold < 1e-5:
        return -math.inf
    # TensorFlow's sigmoid is off by a few 1e-8 whatever its size, so relative to a small score by quite something.
    lower = min(score_threshold, 1.0) * (1 - 1e-6) - 1e-6
    return math.log(lower / (1 - lower))


def best_logits(levels: Levels) -> List[tf.Tensor]:
    """Return the highest logit of every anchor, [B, n_l] each: one pass over the outputs at the speed of memory."""
    return [tf.reduce_max(logits, axis=-1) for logits in levels.classes]


def image_candidates(
    levels: Levels, best: List[tf.Tensor], anchor_boxes: Any, floor: float, every_class: bool
) -> Candidates:
    """Select and decode the candidates of one image.

    Args:
      levels: outputs of one image, [n_l, C] and [n_l, 4].
      best: [n_l] each, of `best_logits`.
      anchor_boxes: [N, 4].
      floor: logits below are no candidates; NaN neither.
      every_class: every class of an anchor is a candidate; else only the best one, the lower of equals.

    Returns:
      Candidates whose score may still be at or below the threshold. The very first anchor is always among the ones with
      its best class: rows that AutoML's global NMS pads its output with repeat it.
    """
    ids, logits, codes, start = [], [], [], 0
    for level, (all_logits, all_codes, level_best) in enumerate(zip(levels.classes, levels.boxes, best)):
        chosen = level_best >= floor
        if level == 0 and not every_class:
            chosen = chosen | (tf.range(tf.shape(level_best)[0]) == 0)
        rows = tf.cast(tf.where(chosen)[:, 0], tf.int32)
        ids.append(rows + start)
        logits.append(tf.gather(all_logits, rows))
        codes.append(tf.gather(all_codes, rows))
        start += tf.shape(level_best)[0]
    ids, logits, codes = tf.concat(ids, 0), tf.concat(logits, 0), tf.concat(codes, 0)
    boxes = _in_vectors(lambda codes, ids: anchors.decode_box_outputs(codes, tf.gather(anchor_boxes, ids)), codes, ids)
    if not every_class:
        classes = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return Candidates(boxes, _in_vectors(tf.sigmoid, tf.reduce_max(logits, axis=-1)), classes)
    pairs = tf.cast(tf.where(logits >= floor), tf.int32)  # Row by row: by anchor, then by class.
    scores = _in_vectors(tf.sigmoid, tf.gather_nd(logits, pairs))
    return Candidates(tf.gather(boxes, pairs[:, 0]), scores, pairs[:, 1])


def _in_vectors(function, *inputs):
    """Apply an element-wise function to [M, ...] tensors filled up to whole vectors; return the first M rows."""
    count = tf.shape(inputs[0])[0]
    fill = [[0, tf.math.floormod(-count, _VECTOR)]]
    padded = [tf.pad(x, fill + [[0, 0]] * (x.shape.rank - 1)) for x in inputs]
    return function(*padded)[:count]


def top_pairs(logits: tf.Tensor, count: int) -> Tuple[tf.Tensor, tf.Tensor]:
    """Return (anchors, classes), int32 [B, k] each, of the `count` highest logits [B, N, C] of an image, unsorted.

    k is smaller than `count` where there are not so many.
    """
    num_classes = logits.shape[-1]
    flat = tf.reshape(logits, [tf.shape(logits)[0], -1])
    size = tf.shape(flat)[1] if logits.shape[1] is None else logits.shape[1] * num_classes
    k = tf.minimum(count, size) if tf.is_tensor(size) else min(count, size)
    best = tf.math.top_k(flat, k=k, sorted=False).indices
    return best // num_classes, best % num_classes
