# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression by the custom operators of NMS/: one interface for the host and for the IPU.

What two readers would guess differently (NMS/nms_core.hpp has all of it):
  * both thresholds are strict: candidates score more than `score_threshold`, a box goes when its IoU with a kept one is
    more than `threshold`; with sigma above 0 the IoU threshold plays no part,
  * equal scores go to the lower index; boxes without area, and scores that are not numbers, take no part,
  * images of a batch do not influence each other,
  * modes: "best-class", each anchor has one class, suppression within a class; "class-agnostic", the same anchors,
    suppression across classes; "multi-class", every class of an anchor is a candidate, suppression within a class.

Shapes: B images, N anchors, C classes, K rows of the result. A library is looked up on first use: importing needs no
build. Where `device` is None it is the IPU inside the scope of an IPU strategy, otherwise the host.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hparams_config import Config
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.nms import libraries
from ipu_utils.nms.libraries import CustomOpsNotFoundException
from nms_np import MODES, UNUSED_CLASS, UNUSED_INDEX
from tf2.anchor_boxes import Anchors
from tf2.candidates import flatten_levels
from tf2.nms_settings import nms_settings
from tf2.postprocess import CLASS_OFFSET, clip_boxes, pre_nms, to_list
from utils import parse_image_size

__all__ = [
    "CustomOpsNotFoundException",
    "NmsOutputs",
    "available",
    "decode",
    "detect",
    "implementation",
    "ipu_nms",
    "ipu_postprocessing",
    "nms_op",
    "operator_files",
    "postprocess_onchip_nms_outputs",
]

IPU_LIBRARIES = {False: libraries.ROOT / "NMS" / "tf" / "build", True: libraries.ROOT / "NMS" / "tf_multi" / "build"}
HOST_TYPES = (tf.float32, tf.float16, tf.bfloat16)


class NmsOutputs(NamedTuple):
    """What the operator returns; rows from `lengths[b]` on hold no detection."""

    indices: tf.Tensor  # int32 [B, K]: anchor, in multi-class mode anchor * C + class; -1 where unused
    scores: tf.Tensor  # [B, K], the type of the scores, best first; 0
    boxes: tf.Tensor  # [B, K, 4], the type of the boxes, as they came in; 0
    classes: tf.Tensor  # int32 [B, K], zero-based; the largest int32
    lengths: tf.Tensor  # int32 [B]


class Detections(NamedTuple):
    """What post-processing on a device returns; rows whose index is -1 hold no detection."""

    boxes: tf.Tensor  # [B, K, 4], clipped and scaled; 0 where unused
    scores: tf.Tensor  # [B, K], best first; 0
    classes: tf.Tensor  # int32 [B, K], one-based; 0
    indices: tf.Tensor  # int32 [B, K], as of NmsOutputs; -1


def available(device: str) -> bool:
    """Can the custom operators be used on "ipu", "host", "cpu" or "gpu"? (On a GPU's host they run on its CPU.)"""
    if device == "ipu":
        return all(path.is_file() for folder in IPU_LIBRARIES.values() for path in _ipu_files(folder))
    return why_not() is None


def why_not() -> Optional[str]:
    """Say why a host's custom operators cannot be used; None when they can."""
    try:
        libraries.load_operators()
    except CustomOpsNotFoundException as error:
        return str(error)
    return None


def implementation(device: str) -> str:
    """Say in a few words what computes NMS on a device."""
    return "custom operator on the IPU" if device == "ipu" else "custom operator on the host's CPU"


def nms_op(
    threshold: float,
    score_threshold: float,
    num_detections: int,
    scores: tf.Tensor,
    boxes: tf.Tensor,
    classes: Optional[tf.Tensor] = None,
    multi_nms: bool = False,
    sigma: float = 0.0,
    mode: Optional[str] = None,
    device: Optional[str] = None,
) -> NmsOutputs:
    """Suppress overlapping boxes, image by image.

    Args:
      threshold: of the IoU, 0 to 1.
      score_threshold: minus infinity makes every box a candidate; at least 0 with a sigma.
      num_detections: K.
      scores: [B, N], or [B, N, C] which is reduced to the best class unless the mode is "multi-class".
      boxes: [B, N, 4], opposite corners (y1, x1, y2, x2), the type of the scores: float32, float16, on the host
        bfloat16.
      classes: [B, N] integers from 0 on. None: the best class of scores [B, N, C]; with scores [B, N] all boxes are of
        one class, 0.
      multi_nms: the published way to ask for mode "multi-class".
      sigma: above 0 a kept box multiplies the scores of those it may suppress by exp(-iou^2 / sigma), instead of
        removing them.
      mode: one of "best-class" (the default), "class-agnostic", "multi-class".
      device: "ipu" or "host".

    Raises:
      CustomOpsNotFoundException: the library is missing or does not fit.
      UserError: shapes, types or mode do not fit together.
    """
    mode = _mode(mode, multi_nms)
    scores, boxes = tf.convert_to_tensor(scores), tf.convert_to_tensor(boxes)
    multi = mode == "multi-class"
    if scores.shape.rank not in ((3,) if multi else (2, 3)) or boxes.shape.rank != 3:
        raise UserError(
            f"scores must be {'[B, N, C]' if multi else '[B, N] or [B, N, C]'} in mode {mode} and boxes [B, N, 4], got "
            f"{scores.shape} and {boxes.shape}."
        )
    if scores.dtype != boxes.dtype or scores.dtype not in HOST_TYPES:
        raise UserError(
            f"scores are {scores.dtype.name} and boxes {boxes.dtype.name}: expected both float32, float16 or bfloat16."
        )
    if multi:
        classes = None
    elif scores.shape.rank == 3:
        classes = tf.argmax(scores, -1, output_type=tf.int32) if classes is None else classes
        scores = tf.reduce_max(scores, -1)
    classes = None if classes is None else tf.cast(classes, tf.int32)
    run = _nms_on_ipu if _device(device) == "ipu" else _nms_on_host
    options = {"threshold": threshold, "score_threshold": score_threshold, "sigma": sigma, "rows": num_detections}
    return run(scores, boxes, classes, mode, **options)


def ipu_nms(
    params: Dict[str, Any],
    scores: tf.Tensor,
    boxes: tf.Tensor,
    classes: Optional[tf.Tensor],
    multi_nms: bool = False,
    mode: Optional[str] = None,
    device: Optional[str] = None,
) -> Detections:
    """Suppress by the thresholds, method and number of detections of params["nms_configs"].

    Arguments as of `nms_op`. The boxes of the result are as they came in, the classes one-based. max_nms_inputs plays
    no part: it bounds the cost of TensorFlow's operator, and this one does not look at boxes that cannot matter.
    """
    settings = nms_settings(params["nms_configs"])
    outputs = nms_op(
        threshold=settings.iou_thresh,
        score_threshold=settings.score_thresh,
        num_detections=settings.max_output_size,
        scores=scores,
        boxes=boxes,
        classes=classes,
        multi_nms=multi_nms,
        sigma=settings.sigma,
        mode=mode,
        device=device,
    )
    used = outputs.indices != UNUSED_INDEX
    # Not simply classes + 1: the largest int32 that fills unused rows would wrap.
    classes = tf.minimum(outputs.classes, tf.int32.max - CLASS_OFFSET)  # and so would a class of that number
    kept = tf.where(used, classes, tf.zeros_like(classes) - CLASS_OFFSET) + CLASS_OFFSET
    return Detections(outputs.boxes, outputs.scores, kept, outputs.indices)


def ipu_postprocessing(
    config: Config,
    step_outputs: Sequence[Sequence[tf.Tensor]],
    image_scales: Optional[tf.Tensor] = None,
    multi_nms: bool = False,
    mode: Optional[str] = None,
    device: Optional[str] = None,
) -> Detections:
    """Turn the outputs of the heads into detections in the pixels of the original images.

    Args:
      config: image_size, levels and anchors, num_classes, nms_configs.
      step_outputs: (class_outputs, box_outputs), two lists over levels, finest first: [B, H, W, anchors * C] logits and
        [B, H, W, anchors * 4] regressions.
      image_scales: [B], factors from the network's input to the original image. None: boxes stay in the input's pixels.
      multi_nms, mode, device: as of `nms_op`.

    Returns:
      Detections; scores have the type of the outputs, and so have boxes on a host: half-precision boxes have steps of a
      pixel from 1024 pixels on, bfloat16 ones of 4 from 512 on. `detect` keeps float32, and on an IPU the boxes that
      were found are float32 too, so that clipping and scaling do not round again.
    """
    class_outputs, box_outputs = (to_list(outputs) for outputs in step_outputs)
    if _device(device) != "ipu":
        dtype = tf.convert_to_tensor(class_outputs[0]).dtype
        found = detect(config, class_outputs, box_outputs, image_scales, _mode(mode, multi_nms))
        return found._replace(boxes=tf.cast(found.boxes, dtype), scores=tf.cast(found.scores, dtype))
    mode = _mode(mode, multi_nms)
    params = config.as_dict()
    params["nms_configs"] = {**params["nms_configs"], "max_nms_inputs": 0}
    boxes, scores, classes = pre_nms(params, class_outputs, box_outputs, topk=mode != "multi-class")
    found = ipu_nms(params, scores, boxes, classes, mode=mode, device="ipu")
    boxes = clip_boxes(tf.cast(found.boxes, tf.float32), config.image_size)
    if image_scales is not None:
        boxes *= tf.cast(image_scales, tf.float32)[:, None, None]
    return found._replace(boxes=boxes)


def detect(
    config: Config,
    class_outputs: Sequence[tf.Tensor],
    box_outputs: Sequence[tf.Tensor],
    image_scales: Optional[tf.Tensor] = None,
    mode: Optional[str] = None,
) -> Detections:
    """Detect on the host with the fused operator: one pass over the logits, and work for candidates only.

    Arguments as of `ipu_postprocessing`; float32, float16 or bfloat16 outputs. Bit for bit what `decode`, `nms_op`,
    clipping and scaling give, one after the other.

    Returns:
      Detections, float32 whatever the type of the outputs.
    """
    settings, heads = nms_settings(config.nms_configs), _heads(config, class_outputs, box_outputs)
    height, width = parse_image_size(config.image_size)
    scales = np.zeros([0], np.float32) if image_scales is None else image_scales
    boxes, scores, classes, indices, _ = libraries.load_operators().host_detect(
        **heads,
        image_scales=tf.cast(scales, tf.float32),
        image_height=height,
        image_width=width,
        mode=_mode(mode, False),
        **_attributes(settings.iou_thresh, settings.score_thresh, settings.sigma, settings.max_output_size),
    )
    return Detections(boxes, scores, classes, indices)


def decode(
    config: Config, class_outputs: Sequence[tf.Tensor], box_outputs: Sequence[tf.Tensor], mode: Optional[str] = None
) -> Tuple[tf.Tensor, tf.Tensor, Optional[tf.Tensor]]:
    """Decode all anchors on the host, by the arithmetic of `detect`.

    Returns:
      (scores float32 [B, N], boxes float32 [B, N, 4], not clipped, classes int32 [B, N]); in mode "multi-class" scores
      are [B, N, C] and classes None.
    """
    mode = _mode(mode, False)
    heads = _heads(config, class_outputs, box_outputs)
    scores, boxes, classes = libraries.load_operators().host_decode(**heads, mode=mode)
    return scores, boxes, None if mode == "multi-class" else classes


def postprocess_onchip_nms_outputs(config: Config, det_outputs: Sequence[Any]) -> List[np.ndarray]:
    """Turn the outputs of `ipu_postprocessing`, in host memory, into [boxes, scores, classes, valid_len].

    valid_len, int32 [B], counts the rows before the first unused one. `config` is not read: the number of rows is that
    of the outputs, wherever they come from.
    """
    boxes, scores, classes, indices = (np.asarray(output) for output in det_outputs)
    unused = np.cumsum(indices == UNUSED_INDEX, axis=1) > 0
    return [boxes, scores, classes, np.sum(~unused, axis=1, dtype=np.int32)]


def _mode(mode: Optional[str], multi_nms: bool) -> str:
    if mode is None:
        return "multi-class" if multi_nms else "best-class"
    if mode not in MODES:
        raise UserError(f"NMS mode {mode!r}: expected one of {', '.join(MODES)}.")
    if multi_nms and mode != "multi-class":
        raise UserError(f"multi_nms asks for mode multi-class, mode for {mode}: give one of them.")
    return mode


def _device(device: Optional[str]) -> str:
    """Where to compute: what was asked for, or what the strategy in whose scope the caller is runs on."""
    if device is not None:
        return device
    kinds = type(tf.distribute.get_strategy()).__mro__
    return "ipu" if any(kind.__module__.startswith("tensorflow.python.ipu") for kind in kinds) else "host"


def _attributes(threshold: float, score_threshold: float, sigma: float, rows: int) -> Dict[str, Any]:
    """What the host's operators call these options."""
    return {
        "iou_threshold": threshold,
        "score_threshold": score_threshold,
        "sigma": sigma,
        "num_detections": rows,
    }


def _heads(config: Config, class_outputs: Any, box_outputs: Any) -> Dict[str, Any]:
    """Inputs and attributes that the host's operators on head outputs share."""
    levels = flatten_levels(config.as_dict(), to_list(class_outputs), to_list(box_outputs))
    types = {output.dtype for part in levels for output in part}
    if len(types) != 1 or not types.issubset(HOST_TYPES):
        names = ", ".join(sorted(dtype.name for dtype in types))
        raise UserError(f"the head outputs are {names}: expected one type, float32, float16 or bfloat16.")
    key = [config[name] for name in ("min_level", "max_level", "num_scales", "aspect_ratios", "anchor_scale")]
    return {
        "class_outputs": levels.classes,
        "box_outputs": levels.boxes,
        "anchors": tf.constant(_anchor_boxes(*map(_hashable, key), parse_image_size(config.image_size))),
        "num_classes": config.num_classes,
    }


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


@functools.lru_cache(maxsize=8)
def _anchor_boxes(*key: Any) -> np.ndarray:
    return Anchors(*key).boxes


def _nms_on_host(scores, boxes, classes, mode, **options) -> NmsOutputs:
    if classes is None:
        classes = tf.zeros([tf.shape(scores)[0], 0], tf.int32)
    return NmsOutputs(*libraries.load_operators().host_nms(scores, boxes, classes, mode=mode, **_attributes(**options)))


def _nms_on_ipu(scores, boxes, classes, mode, threshold, score_threshold, sigma, rows) -> NmsOutputs:
    from ipu_utils.backends.ipu import custom_op

    library, codelets = _ipu_files(IPU_LIBRARIES[mode == "multi-class"])
    for path in (library, codelets):
        if not path.is_file():
            raise libraries.missing(path)
    attributes = {
        "threshold": float(threshold),
        # JSON has no infinity, and no score is below the least float.
        "scoreThreshold": max(float(score_threshold), float(np.finfo(np.float32).min)),
        "sigma": float(sigma),
        "numDetections": int(rows),
        "classAgnostic": mode == "class-agnostic",
        # Executables are cached under a hash of the graph. This makes a rebuilt library another graph.
        "buildId": _digest(*((path, path.stat().st_mtime_ns) for path in (library, codelets))),
    }
    batch = scores.shape[0]
    outputs = [
        (tf.int32, [batch, rows]),
        (scores.dtype, [batch, rows]),
        (boxes.dtype, [batch, rows, 4]),
        (tf.int32, [batch, rows]),
        (tf.int32, [batch]),
    ]
    if classes is None and mode != "multi-class":  # Without classes there are none to return.
        del outputs[3]
    inputs = [scores, boxes] if classes is None else [scores, boxes, classes]
    results = custom_op(inputs, library, json.dumps(attributes), outputs, codelets=codelets, name="Nms")
    if len(results) == 4:
        indices = results[0]
        unused = tf.fill(tf.shape(indices), tf.constant(UNUSED_CLASS, tf.int32))
        results.insert(3, tf.where(indices == UNUSED_INDEX, unused, tf.zeros_like(indices)))
    return NmsOutputs(*results)


def operator_files(mode: str) -> List[Path]:
    """Library and codelets that become a part of a program for the IPU in a mode; those that are built."""
    return [path for path in _ipu_files(IPU_LIBRARIES[mode == "multi-class"]) if path.is_file()]


def _ipu_files(folder: Path) -> Tuple[Path, Path]:
    """Library and codelets of the IPU's operator."""
    return folder / "nms_custom_op.so", folder / "codelet.gp"


@functools.lru_cache(maxsize=8)
def _digest(*files: Tuple[Path, int]) -> str:
    """Digest of the files' content; their times are in the key so that a rebuilt file is read again."""
    digest = hashlib.sha256()
    for path, _ in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
