# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression of one image with TensorFlow's own operators: the path without a custom one."""

from typing import Tuple

from ipu_utils.base.keras2 import tf
from object_detection.box_list import iou
from tf2.candidates import Candidates
from tf2.nms_settings import NmsSettings

# Candidates compared at a time. One block nearly always yields all detections, and its overlaps take 1 MB.
_BLOCK = 512


def suppress(candidates: Candidates, settings: NmsSettings, padded: bool) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Suppress across classes.

    Returns:
      (indices int32 [K], scores [K], number of detections): with `padded` K is `max_output_size` and rows without a
      detection have index 0 and score 0, else K is the number of detections.
    """
    return tf.raw_ops.NonMaxSuppressionV5(
        boxes=candidates.boxes,
        scores=candidates.scores,
        max_output_size=settings.max_output_size,
        iou_threshold=tf.constant(settings.iou_thresh, candidates.scores.dtype),
        score_threshold=tf.constant(settings.score_thresh, candidates.scores.dtype),
        # The operator's weight is exp(-iou^2 / (2 * sigma)).
        soft_nms_sigma=tf.constant(settings.sigma / 2, candidates.scores.dtype),
        pad_to_max_output_size=padded,
    )


def suppress_within_class(candidates: Candidates, settings: NmsSettings) -> Tuple[tf.Tensor, tf.Tensor]:
    """Suppress only boxes of one class, and keep the best of all classes.

    Exactly what NMS of every class on its own gives. (Moving the boxes of each class to a place of their own and
    suppressing across classes would round coordinates, and with them overlaps close to the threshold.)

    Returns:
      (indices int32 [K], scores [K]), best first, equal scores by index; K is at most `max_output_size`.
    """
    eligible = tf.cast(tf.where(candidates.scores > settings.score_thresh)[:, 0], tf.int32)
    boxes, scores, classes = (tf.gather(values, eligible) for values in candidates)
    if settings.soft:
        indices, scores = _soft_by_class(Candidates(boxes, scores, classes), settings)
    else:
        indices = _hard_by_blocks(Candidates(boxes, scores, classes), settings)
        scores = tf.gather(scores, indices)
    return tf.gather(eligible, indices), scores


def _descending(scores: tf.Tensor) -> tf.Tensor:
    """Return int32 indices of the scores from the highest down; equal ones keep their order."""
    return tf.argsort(scores, direction="DESCENDING", stable=True)


def _hard_by_blocks(candidates: Candidates, settings: NmsSettings) -> tf.Tensor:
    """Return the indices [K] that greedy hard NMS within classes keeps, best first.

    Greedy NMS looks at boxes in the order of their scores, so it can be done a block at a time: drop what boxes kept
    earlier cover, then solve the block from the matrix of its overlaps.
    """
    order = _descending(candidates.scores)
    total, limit = tf.size(order), settings.max_output_size

    def overlaps(first, second):
        """IoU of candidates, [F] and [S] indices to [F, S]; 0 between classes."""
        same = tf.gather(candidates.classes, first)[:, None] == tf.gather(candidates.classes, second)
        ratio = iou(tf.gather(candidates.boxes, first)[:, None], tf.gather(candidates.boxes, second), tf)
        return tf.where(same, ratio, tf.zeros_like(ratio))

    def more(start, kept):
        return (start < total) & (tf.size(kept) < limit)

    def next_block(start, kept):
        block = order[start : start + _BLOCK]
        covered = tf.reduce_any(overlaps(block, kept) > settings.iou_thresh, axis=1)
        block = tf.boolean_mask(block, ~covered)
        chosen = tf.raw_ops.NonMaxSuppressionWithOverlaps(
            overlaps=overlaps(block, block),
            scores=-tf.cast(tf.range(tf.size(block)), tf.float32),  # Their rank: equal scores are already in order.
            max_output_size=limit - tf.size(kept),
            overlap_threshold=tf.constant(settings.iou_thresh, tf.float32),
            score_threshold=tf.constant(float("-inf"), tf.float32),
        )
        return start + _BLOCK, tf.concat([kept, tf.gather(block, chosen)], axis=0)

    empty = tf.zeros([0], tf.int32)
    shapes = [tf.TensorShape([]), tf.TensorShape([None])]
    return tf.while_loop(more, next_block, [tf.constant(0), empty], shape_invariants=shapes)[1]


def _soft_by_class(candidates: Candidates, settings: NmsSettings) -> Tuple[tf.Tensor, tf.Tensor]:
    """Return (indices [K], lowered scores [K]) of soft NMS of every class on its own, best first."""
    present = tf.unique(candidates.classes)[0]

    def next_class(number, indices, scores):
        members = tf.cast(tf.where(candidates.classes == present[number])[:, 0], tf.int32)
        mine = Candidates(*(tf.gather(values, members) for values in candidates))
        chosen, lowered, _ = suppress(mine, settings, padded=False)
        indices = tf.concat([indices, tf.gather(members, chosen)], axis=0)
        return number + 1, indices, tf.concat([scores, lowered], axis=0)

    unknown = tf.TensorShape([None])
    _, indices, scores = tf.while_loop(
        lambda number, *_: number < tf.size(present),
        next_class,
        [tf.constant(0), tf.zeros([0], tf.int32), tf.zeros([0], candidates.scores.dtype)],
        shape_invariants=[tf.TensorShape([]), unknown, unknown],
    )
    # By index first, so that equal scores of different classes come in the order of their indices.
    by_index = tf.argsort(indices, stable=True)
    indices, scores = tf.gather(indices, by_index), tf.gather(scores, by_index)
    best = _descending(scores)[: settings.max_output_size]
    return tf.gather(indices, best), tf.gather(scores, best)
