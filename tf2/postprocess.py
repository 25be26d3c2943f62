# SPDX-License-Identifier: Apache-2.0
"""From the heads' outputs to detections, in TensorFlow.

Everywhere: boxes are corners (ymin, xmin, ymax, xmax) in pixels, `params` is a configuration as a dictionary
(`config.as_dict()`), K is its nms_configs.max_output_size, and all arithmetic is float32 whatever type the network has.
"""

from typing import Any, Callable, Dict, List, Optional, Tuple

from ipu_utils.base.keras2 import tf
from tf2 import anchors
from tf2.candidates import (
    Candidates,
    Levels,
    best_logits,
    check_anchor_count,
    flatten_levels,
    image_candidates,
    logit_floor,
    make_anchors,
    top_pairs,
)
from tf2.nms_settings import NmsSettings, nms_settings
from tf2.suppression import suppress, suppress_within_class
from utils import ImageSize, parse_image_size

CLASS_OFFSET = 1  # Class ids of detections start at one, as in COCO; 0 is no class.

Detections = Tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
Params = Dict[str, Any]


def to_list(inputs: Any) -> List[Any]:
    """Return the outputs of a head as a list over levels; a dictionary is ordered by its keys."""
    if isinstance(inputs, dict):
        return [inputs[key] for key in sorted(inputs)]
    return list(inputs)


def clip_boxes(boxes: tf.Tensor, image_size: ImageSize) -> tf.Tensor:
    """Move box corners that lie outside the image onto its border.

    Args:
      boxes: [..., 4], corners in pixels of the network's input, not of the original photo.
      image_size: one number, "WIDTHxHEIGHT" or (height, width).

    Returns:
      [..., 4], same type. Boxes fully outside collapse to zero area; they are not removed.
    """
    limits = tf.constant(parse_image_size(image_size) * 2, dtype=boxes.dtype)
    return tf.clip_by_value(boxes, tf.zeros_like(limits), limits)


def merge_class_box_level_outputs(params: Params, cls_outputs, box_outputs) -> Tuple[tf.Tensor, tf.Tensor]:
    """Concatenate the levels: logits [B, N, C] and box regressions [B, N, 4]."""
    levels = flatten_levels(params, cls_outputs, box_outputs)
    return tf.concat(levels.classes, 1), tf.concat(levels.boxes, 1)


def topk_class_boxes(params: Params, cls_outputs: tf.Tensor, box_outputs: tf.Tensor) -> Tuple[tf.Tensor, ...]:
    """Reduce every anchor to its best class or, with max_nms_inputs above 0, keep that many (anchor, class) pairs.

    Args:
      cls_outputs: logits [B, N, C].
      box_outputs: [B, N, 4].

    Returns:
      (logits [B, M], box regressions [B, M, 4], classes int32 [B, M], anchors int32 [B, M]).
    """
    max_nms_inputs = params["nms_configs"].get("max_nms_inputs") or 0
    if max_nms_inputs > 0:
        indices, classes = top_pairs(cls_outputs, max_nms_inputs)
        logits = tf.gather_nd(cls_outputs, tf.stack([indices, classes], axis=2), batch_dims=1)
        return logits, tf.gather(box_outputs, indices, batch_dims=1), classes, indices
    classes = tf.argmax(cls_outputs, axis=-1, output_type=tf.int32)
    indices = tf.broadcast_to(tf.range(tf.shape(classes)[1]), tf.shape(classes))
    return tf.reduce_max(cls_outputs, axis=-1), box_outputs, classes, indices


def pre_nms(params: Params, cls_outputs, box_outputs, topk: bool = True) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decode every anchor, for an NMS that wants all of them. Static shapes stay static.

    Args:
      cls_outputs: list over levels, finest first, of logits [B, H, W, anchors * C].
      box_outputs: list over levels of box regressions [B, H, W, anchors * 4].
      topk: reduce as `topk_class_boxes` does. Otherwise scores keep their class axis.

    Returns:
      (boxes [B, M, 4], not clipped, scores [B, M] or, without `topk`, [B, M, C], classes int32 [B, M] from 0 on, the
      best ones), boxes and scores in the types of the outputs.
    """
    return _decode_all(params, flatten_levels(params, to_list(cls_outputs), to_list(box_outputs)), topk)


def _decode_all(params: Params, levels: Levels, topk: bool) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """As `pre_nms`, of flattened outputs."""
    anchor_boxes = make_anchors(params).boxes
    check_anchor_count(levels, anchor_boxes)
    logits, codes = tf.concat(levels.classes, 1), tf.concat(levels.boxes, 1)
    if topk:
        logits, codes, classes, indices = topk_class_boxes(params, logits, codes)
        if params["nms_configs"].get("max_nms_inputs"):
            anchor_boxes = tf.gather(anchor_boxes, indices)
    else:
        classes = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return anchors.decode_box_outputs(codes, anchor_boxes), tf.sigmoid(logits), classes


def nms(params: Params, boxes: tf.Tensor, scores: tf.Tensor, classes: tf.Tensor, padded: bool) -> Detections:
    """Suppress overlapping boxes of one image, whatever their class, by the method of nms_configs.

    Args:
      boxes: [M, 4]. scores: [M]. classes: [M], from 0 on.
      padded: always return K rows; unused ones repeat box and class of the first candidate, with a score of 0.

    Returns:
      (boxes [K, 4], scores [K], classes [K] from 1 on in the type of the boxes, number of detections), best first.

    Raises:
      ConfigError: nms_configs cannot be used.
    """
    candidates = Candidates(tf.cast(boxes, tf.float32), tf.cast(scores, tf.float32), classes)
    indices, kept_scores, valid_len = suppress(candidates, nms_settings(params["nms_configs"]), padded)
    kept_classes = tf.cast(tf.gather(classes, indices) + CLASS_OFFSET, boxes.dtype)
    return tf.gather(boxes, indices), tf.cast(kept_scores, scores.dtype), kept_classes, valid_len


def _rows_across_classes(candidates: Candidates, settings: NmsSettings) -> Detections:
    """Suppress across classes; return K rows, unused ones as AutoML leaves them: the first candidate, score 0."""
    indices, scores, valid_len = suppress(candidates, settings, padded=True)
    classes = tf.cast(tf.gather(candidates.classes, indices) + CLASS_OFFSET, tf.float32)
    return tf.gather(candidates.boxes, indices), scores, classes, valid_len


def _rows_within_class(candidates: Candidates, settings: NmsSettings) -> Detections:
    """Suppress within classes; return K rows, unused ones 0."""
    indices, scores = suppress_within_class(candidates, settings)
    count = tf.size(indices)
    fill = [[0, settings.max_output_size - count]]
    classes = tf.cast(tf.gather(candidates.classes, indices) + CLASS_OFFSET, tf.float32)
    boxes = tf.pad(tf.gather(candidates.boxes, indices), fill + [[0, 0]])
    return boxes, tf.pad(scores, fill), tf.pad(classes, fill), count


def _rows_by_class(candidates: Candidates, settings: NmsSettings) -> Detections:
    """As `_rows_within_class`, but equal scores go to the lower class: AutoML handles one class after the other."""
    by_class = tf.argsort(candidates.classes, stable=True)
    return _rows_within_class(Candidates(*(tf.gather(values, by_class) for values in candidates)), settings)


def _map_images(function: Callable[..., Detections], max_output_size: int, *tensors: tf.Tensor) -> Detections:
    """Apply a function of one image's tensors to every image and stack the K rows it returns."""
    batch = tensors[0].shape[0]
    if batch:
        outputs = [tf.stack(rows) for rows in zip(*(function(*(x[i] for x in tensors)) for i in range(batch)))]
    else:
        types = (tf.float32, tf.float32, tf.float32, tf.int32)
        outputs = tf.map_fn(lambda image: tuple(function(*image)), tensors, fn_output_signature=types)
    shapes = ([batch, max_output_size, 4], [batch, max_output_size], [batch, max_output_size], [batch])
    return tuple(tf.ensure_shape(rows, shape) for rows, shape in zip(outputs, shapes))


def _detect(
    params: Params, cls_outputs, box_outputs, settings: NmsSettings, rows: Callable, every_class: bool = False
) -> Detections:
    """Select candidates by their logits, then apply `rows(candidates, settings)` to each image."""
    levels = flatten_levels(params, to_list(cls_outputs), to_list(box_outputs))
    levels = Levels(*([tf.cast(level, tf.float32) for level in part] for part in levels))
    if settings.max_nms_inputs > 0:
        every = _decode_all(params, levels, topk=True)
        return _map_images(lambda *image: rows(Candidates(*image), settings), settings.max_output_size, *every)
    anchor_boxes = make_anchors(params).boxes
    check_anchor_count(levels, anchor_boxes)
    count = len(levels.classes)
    floor = logit_floor(settings.score_thresh)

    def image_rows(*tensors):
        image, best = Levels(tensors[:count], tensors[count : 2 * count]), tensors[2 * count :]
        return rows(image_candidates(image, best, anchor_boxes, floor, every_class), settings)

    tensors = levels.classes + levels.boxes + best_logits(levels)
    return _map_images(image_rows, settings.max_output_size, *tensors)


def _to_original(boxes: tf.Tensor, image_scales: Optional[Any]) -> tf.Tensor:
    """Multiply the boxes [B, K, 4] of every image by its scale [B], if there are scales."""
    if image_scales is None:
        return boxes
    return boxes * tf.cast(image_scales, boxes.dtype)[:, None, None]


def postprocess_global(params: Params, cls_outputs, box_outputs, image_scales=None) -> Detections:
    """Detect with one class per anchor and suppression across classes.

    Args:
      cls_outputs: list over levels, finest first, of logits [B, H, W, anchors * C].
      box_outputs: list over levels of box regressions [B, H, W, anchors * 4].
      image_scales: [B], factors from the network's input to the original image. None: boxes stay as they are.

    Returns:
      (boxes [B, K, 4], clipped to the network's input, scores [B, K], classes float32 [B, K] from 1 on, valid_len int32
      [B]), best first. Rows from valid_len on have a score of 0 and repeat the first candidate.

    Source: google/automl tf2/postprocess.py.
    """
    settings = nms_settings(params["nms_configs"])
    boxes, *others = _detect(params, cls_outputs, box_outputs, settings, _rows_across_classes)
    return (_to_original(clip_boxes(boxes, params["image_size"]), image_scales), *others)


def per_class_nms(params: Params, boxes, scores, classes, image_scales=None) -> Detections:
    """Suppress within classes and keep the best K detections of all classes.

    Args:
      boxes: [B, M, 4]. scores: [B, M]. classes: int [B, M], from 0 on.
      image_scales: as of `postprocess_global`.

    Returns:
      As `postprocess_per_class`.
    """
    settings = nms_settings(params["nms_configs"])
    tensors = tf.cast(boxes, tf.float32), tf.cast(scores, tf.float32), tf.cast(classes, tf.int32)
    kept, *others = _map_images(
        lambda *image: _rows_by_class(Candidates(*image), settings), settings.max_output_size, *tensors
    )
    return (_to_original(kept, image_scales), *others)


def postprocess_per_class(params: Params, cls_outputs, box_outputs, image_scales=None) -> Detections:
    """Detect with one class per anchor (with max_nms_inputs: the best pairs) and suppression within a class.

    Arguments and result as of `postprocess_global`, but as in AutoML boxes are not clipped, unused rows are 0, and
    equal scores go to the lower class, then to the lower anchor.
    """
    settings = nms_settings(params["nms_configs"])
    boxes, *others = _detect(params, cls_outputs, box_outputs, settings, _rows_by_class)
    return (_to_original(boxes, image_scales), *others)


def _postprocess_mode(params, cls_outputs, box_outputs, image_scales, rows, every_class=False) -> Detections:
    """Detect without a limit on candidates; clip, scale, and leave unused rows 0."""
    settings = nms_settings(params["nms_configs"])._replace(max_nms_inputs=0)
    boxes, scores, classes, valid_len = _detect(params, cls_outputs, box_outputs, settings, rows, every_class)
    boxes = _to_original(clip_boxes(boxes, params["image_size"]), image_scales)
    used = tf.sequence_mask(valid_len, settings.max_output_size)
    boxes = tf.where(used[..., None], boxes, tf.zeros_like(boxes))
    return boxes, scores, tf.where(used, classes, tf.zeros_like(classes)), valid_len


def postprocess_best_class(params: Params, cls_outputs, box_outputs, image_scales=None) -> Detections:
    """Detect by NMS mode "best-class": each anchor keeps its best class, suppression within a class.

    Arguments and result as of `postprocess_global`, but unused rows are 0. Equal scores go to the lower anchor.
    max_nms_inputs plays no part in this and the following modes, nor does it on a device.
    """
    return _postprocess_mode(params, cls_outputs, box_outputs, image_scales, _rows_within_class)


def postprocess_class_agnostic(params: Params, cls_outputs, box_outputs, image_scales=None) -> Detections:
    """Detect by NMS mode "class-agnostic": each anchor keeps its best class, suppression across classes."""
    return _postprocess_mode(params, cls_outputs, box_outputs, image_scales, _rows_across_classes)


def postprocess_multi_class(params: Params, cls_outputs, box_outputs, image_scales=None) -> Detections:
    """Detect by NMS mode "multi-class": every class of an anchor is a candidate, suppression within a class.

    Equal scores go to the lower anchor, then to the lower class.
    """
    return _postprocess_mode(params, cls_outputs, box_outputs, image_scales, _rows_within_class, every_class=True)


def postprocess_combined(params: Params, cls_outputs, box_outputs, image_scales=None) -> Detections:
    """Detect as `postprocess_multi_class`, hard NMS only, by TensorFlow's combined operator: slow on a CPU."""
    settings = nms_settings(params["nms_configs"])
    boxes, scores, _ = pre_nms(params, cls_outputs, box_outputs, topk=False)
    kept, scores, classes, valid_len = tf.image.combined_non_max_suppression(
        tf.cast(boxes, tf.float32)[:, :, None],
        tf.cast(scores, tf.float32),
        settings.max_output_size,
        settings.max_output_size,
        iou_threshold=settings.iou_thresh,
        score_threshold=settings.score_thresh,
        clip_boxes=False,
    )
    kept = _to_original(clip_boxes(kept, params["image_size"]), image_scales)
    return kept, scores, classes + CLASS_OFFSET, valid_len
