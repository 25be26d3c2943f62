# SPDX-License-Identifier: Apache-2.0
"""Anchors and the decoding of box regressions in TensorFlow."""

from ipu_utils.base.keras2 import tf
from object_detection.box_coder import decode_corners
from tf2.anchor_boxes import Anchors

__all__ = ["Anchors", "decode_box_outputs"]


def decode_box_outputs(pred_boxes, anchor_boxes) -> tf.Tensor:
    """Turn box regressions into boxes.

    Args:
      pred_boxes: [..., N, 4], (ty, tx, th, tw) relative to the anchors, any floating-point type.
      anchor_boxes: [N, 4] or [..., N, 4], corners (ymin, xmin, ymax, xmax) in pixels.

    Returns:
      [..., N, 4], corners (ymin, xmin, ymax, xmax) in pixels, in the type of `pred_boxes`. Not clipped to the image.

    Differs from automl: computed in float32 and rounded once, because half precision has steps of half a pixel from 512
    pixels on and every intermediate result would take such a step.
    """
    pred_boxes = tf.convert_to_tensor(pred_boxes)
    codes = tf.unstack(tf.cast(pred_boxes, tf.float32), num=4, axis=-1)
    anchors = tf.unstack(tf.cast(anchor_boxes, tf.float32), num=4, axis=-1)
    return tf.cast(tf.stack(decode_corners(codes, anchors, tf.exp), axis=-1), pred_boxes.dtype)
