# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression in NumPy: the reference that every other implementation is tested against.

Slow and obvious on purpose. `non_max_suppression`, `multi_class_nms` and `batched_nms` define what this project means
by
NMS: a box goes when its IoU with a kept one is strictly greater than the threshold, candidates score strictly more than
theirs, equal scores go to the lower index. `nms` and `per_class_nms` keep the published interface and arithmetic of
google/automl's evaluation, where a box from pixel 3 to pixel 5 is three pixels wide. Imports no TensorFlow.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from ipu_utils.base.errors import ConfigError
from object_detection.box_coder import decode_corners
from object_detection.box_list import iou
from tf2.nms_settings import IOU_THRESH, MAX_DETECTIONS, SIGMA, SOFT_SCORE_THRESH

MODES = ("best-class", "class-agnostic", "multi-class")
UNUSED_INDEX = -1
UNUSED_CLASS = np.iinfo(np.int32).max
DUMMY_DETECTION_SCORE = -1e5  # of the rows that fill up the result of `per_class_nms`


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), without overflow at large negative values."""
    x = np.asarray(x)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype, copy=False)


def decode_box_outputs_np(rel_codes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Turn box regressions [4, N] (ty, tx, th, tw) and anchors [4, N] into boxes [N, 4], all corners in pixels."""
    return np.column_stack(decode_corners(rel_codes, anchors))


def best_class(scores: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Reduce scores [..., N, C] to the best score [..., N] and its class [..., N] int32, the lower one of equals."""
    return scores.max(-1), scores.argmax(-1).astype(np.int32)


def non_max_suppression(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: Optional[np.ndarray] = None,
    max_output_size: int = MAX_DETECTIONS,
    iou_threshold: float = IOU_THRESH,
    score_threshold: float = -np.inf,
    sigma: float = 0.0,
) -> Tuple[np.ndarray, np.ndarray]:
    """Select boxes of one image greedily, best score first, in float32.

    Args:
      boxes: [N, 4], opposite corners (y1, x1, y2, x2); a box without area overlaps nothing.
      scores: [N]; a score that is not a number is never selected.
      classes: [N], then only boxes of one class suppress each other; None: all do.
      max_output_size: most boxes to select.
      iou_threshold: with sigma 0, a box goes when its IoU with a selected one is strictly greater.
      score_threshold: candidates score strictly more, also after being lowered.
      sigma: above 0, a selected box multiplies the scores of the others by exp(-iou^2 / sigma), and `iou_threshold`
        plays no part.

    Returns:
      (indices [K] int32, scores [K] float32) in the order of selection. Equal scores: the lower index first.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.array(scores, np.float32)
    classes = np.zeros(len(scores), np.int32) if classes is None else np.asarray(classes)
    left = scores > np.float32(score_threshold)
    kept: List[int] = []
    while left.any() and len(kept) < max_output_size:
        candidates = np.flatnonzero(left)
        best = candidates[np.argmax(scores[candidates])]  # argmax takes the first of equals
        kept.append(best)
        left[best] = False
        overlap = np.where(classes == classes[best], iou(boxes[best], boxes), np.float32(0))
        if sigma > 0:
            weight = np.exp(np.float32(-1 / sigma) * overlap * overlap)
            scores = np.where(left, scores * weight, scores)
            left &= scores > np.float32(score_threshold)
        else:
            left &= ~(overlap > np.float32(iou_threshold))
    indices = np.array(kept, np.int32)
    return indices, scores[indices]


def multi_class_nms(boxes: np.ndarray, scores: np.ndarray, **options) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Select (anchor, class) pairs of one image: every class of an anchor is a candidate, suppression is within a
    class.

    Args:
      boxes: [N, 4], shared by all classes.
      scores: [N, C].
      **options: as of `non_max_suppression`.

    Returns:
      (anchors [K] int32, classes [K] int32, scores [K] float32). Equal scores: lower anchor first, then lower class.
    """
    num_boxes, num_classes = scores.shape
    pairs, kept_scores = non_max_suppression(
        np.repeat(boxes, num_classes, axis=0), scores.reshape(-1), np.tile(np.arange(num_classes), num_boxes), **options
    )
    return pairs // num_classes, pairs % num_classes, kept_scores


class NmsOutputs(NamedTuple):
    """Outputs of the NMS operator: K rows an image, unused ones filled with -1, 0, 0 and the largest int32."""

    indices: np.ndarray  # int32 [B, K], of the anchor
    scores: np.ndarray  # [B, K]
    boxes: np.ndarray  # [B, K, 4]
    classes: np.ndarray  # int32 [B, K], zero-based
    lengths: np.ndarray  # int32 [B], used rows


def batched_nms(
    scores: np.ndarray,
    boxes: np.ndarray,
    classes: Optional[np.ndarray] = None,
    mode: str = "best-class",
    threshold: float = 0.5,
    score_threshold: float = -np.inf,
    num_detections: int = 100,
    sigma: float = 0.0,
) -> NmsOutputs:
    """Compute what the NMS operator returns, image by image.

    Args:
      scores: [B, N, C], or [B, N] with the best score of every anchor ("best-class" and "class-agnostic").
      boxes: [B, N, 4], corners.
      classes: [B, N], the class of scores [B, N]; ignored with [B, N, C]. None: all 0.
      mode: "best-class": each anchor keeps its best class, suppression within a class. "class-agnostic": the same
        anchors, suppression across classes. "multi-class": every class of an anchor, suppression within a class.
      threshold, score_threshold, num_detections (K), sigma: as of `non_max_suppression`.
    """
    if mode not in MODES:
        raise ConfigError(f"NMS mode {mode!r}: expected one of {', '.join(MODES)}.")
    if mode != "multi-class":
        if scores.ndim == 3:
            scores, classes = best_class(scores)
        classes = np.zeros(scores.shape, np.int32) if classes is None else classes
    batch, options = len(scores), {"max_output_size": num_detections, "iou_threshold": threshold}
    options.update(score_threshold=score_threshold, sigma=sigma)
    outputs = NmsOutputs(
        np.full((batch, num_detections), UNUSED_INDEX, np.int32),
        np.zeros((batch, num_detections), np.float32),
        np.zeros((batch, num_detections, 4), np.float32),
        np.full((batch, num_detections), UNUSED_CLASS, np.int32),
        np.zeros(batch, np.int32),
    )
    for i in range(batch):
        if mode == "multi-class":
            indices, kept_classes, kept_scores = multi_class_nms(boxes[i], scores[i], **options)
        else:
            suppress = classes[i] if mode == "best-class" else None
            indices, kept_scores = non_max_suppression(boxes[i], scores[i], suppress, **options)
            kept_classes = classes[i][indices]
        rows = slice(0, len(indices))
        outputs.indices[i, rows], outputs.scores[i, rows] = indices, kept_scores
        outputs.boxes[i, rows], outputs.classes[i, rows] = boxes[i][indices], kept_classes
        outputs.lengths[i] = len(indices)
    return outputs


def nms(dets: np.ndarray, nms_configs: Optional[Dict[str, Any]] = None) -> np.ndarray:
    """Suppress overlapping detections of one class, sides of boxes counted in whole pixels (maximum - minimum + 1).

    Args:
      dets: [N, 5], (x1, y1, x2, y2, score). Not changed.
      nms_configs: method "hard" (the default), "diou", "linear" or "gaussian", with iou_thresh (hard, diou 0.5; linear
        0.3), sigma (gaussian; 0.5) and score_thresh (linear, gaussian: scores lowered below it drop out; 0.001). "diou"
        is hard suppression by the IoU less the squared distance of the centres over the squared diagonal of both boxes'
        hull.

    Returns:
      [K, 5] in the order of selection, scores as lowered. Equal scores: the lower index first.

    Source: Bodla et al., Soft-NMS (arXiv:1704.04503); Zheng et al., Distance-IoU Loss (arXiv:1911.08287).
    """
    configs = nms_configs or {}
    method = configs.get("method") or "hard"
    if method not in ("hard", "diou", "linear", "gaussian"):
        raise ConfigError(f"NMS method {method!r}: expected hard, diou, linear or gaussian.")

    def value(key, default):
        return default if configs.get(key) is None else configs[key]

    iou_thresh = value("iou_thresh", 0.3 if method == "linear" else IOU_THRESH)
    sigma, score_thresh = value("sigma", SIGMA), value("score_thresh", SOFT_SCORE_THRESH)
    left, kept = np.array(dets), []
    while len(left):
        best = int(np.argmax(left[:, 4]))
        row, left = left[best], np.delete(left, best, axis=0)
        kept.append(row)
        overlap = _pixel_iou(row, left)
        if method in ("hard", "diou"):
            penalty = _centre_penalty(row, left) if method == "diou" else 0
            left = left[overlap - penalty <= iou_thresh]
        else:
            linear = np.where(overlap > iou_thresh, 1 - overlap, 1)
            left[:, 4] *= linear if method == "linear" else np.exp(-(overlap * overlap) / sigma)
            left = left[left[:, 4] >= score_thresh]
    return np.array(kept, dtype=left.dtype).reshape(-1, 5)


def hard_nms(dets: np.ndarray, iou_thresh: Optional[float] = None) -> np.ndarray:
    """Apply `nms` with method "hard"."""
    return nms(dets, {"method": "hard", "iou_thresh": iou_thresh})


def diou_nms(dets: np.ndarray, iou_thresh: Optional[float] = None) -> np.ndarray:
    """Apply `nms` with method "diou"."""
    return nms(dets, {"method": "diou", "iou_thresh": iou_thresh})


def soft_nms(dets: np.ndarray, nms_configs: Dict[str, Any]) -> np.ndarray:
    """Apply `nms` with the soft method of `nms_configs`, "gaussian" where it names none."""
    return nms(dets, {**nms_configs, "method": nms_configs.get("method") or "gaussian"})


def _pixel_iou(row: np.ndarray, dets: np.ndarray) -> np.ndarray:
    """Return the IoU [N] of one detection with others, where the last pixel of a box belongs to it."""
    grow = np.array([0, 0, 1, 1])
    return iou(row[:4] + grow, dets[:, :4] + grow)


def _centre_penalty(row: np.ndarray, dets: np.ndarray) -> np.ndarray:
    """Return the squared distance [N] of the centres, relative to the squared diagonal of the hull of both boxes."""
    between = (row[:2] + row[2:4]) / 2 - (dets[:, :2] + dets[:, 2:4]) / 2
    hull = np.maximum(row[2:4], dets[:, 2:4]) - np.minimum(row[:2], dets[:, :2])
    return (between**2).sum(-1) / ((hull**2).sum(-1) + 1e-10)  # 1e-10: two equal boxes of one point


def per_class_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    image_id: Any,
    image_scale: Any,
    num_classes: int,
    max_boxes_to_draw: int,
    nms_configs: Dict[str, Any],
) -> np.ndarray:
    """Apply `nms` to every class of an image and keep the best detections.

    Args:
      boxes: [N, 4], (ymin, xmin, ymax, xmax). scores: [N]. classes: [N], zero-based.
      image_id, image_scale: a number, or an array of one; boxes are multiplied by the scale.
      num_classes, max_boxes_to_draw: classes looked at; rows returned.
      nms_configs: as of `nms`.

    Returns:
      float32 [max_boxes_to_draw, 7]: image id, x1, y1, x2, y2, score, class from one on; best first. Rows without a
      detection are zero but for the image id and a score of -100000.
    """
    detections = np.zeros((max_boxes_to_draw, 7), np.float32)
    detections[:, 0], detections[:, 5] = np.ravel(image_id)[0], DUMMY_DETECTION_SCORE
    found = []
    for class_id in range(num_classes):
        mine = classes == class_id
        kept = nms(np.column_stack([boxes[mine][:, [1, 0, 3, 2]], scores[mine]]), nms_configs)
        found.append(np.column_stack([kept, np.full(len(kept), class_id + 1)]))
    rows = np.concatenate(found)
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][:max_boxes_to_draw]
    detections[: len(rows), 1:] = rows
    detections[:, 1:5] *= np.ravel(image_scale)[0]
    return detections
