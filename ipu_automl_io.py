# SPDX-License-Identifier: Apache-2.0
"""The model's edges: images in, detections out, and pictures of them.

Resizing happens on the host and normalising on the device, so that uint8 travels between them: a quarter of float32.
"""

import io
import logging
import os
from typing import Any, List, Optional, Sequence

import numpy as np
from PIL import Image

import dataloader
from ipu_utils.base.errors import ConfigError, UserError
from ipu_utils.base.files import write_atomically
from ipu_utils.base.keras2 import tf
from ipu_utils.base.printable import file_stem
from ipu_utils.config.normalisation import IMAGENET_MEAN_RGB, IMAGENET_STDDEV_RGB, PerChannel, padding_colour
from ipu_utils.outputs.picture_names import size_label
from tf2 import label_util, postprocess
from tf2.nms_settings import nms_settings
from utils import ImageSize, parse_image_size
from visualize import vis_utils

_MODES = {
    "global": postprocess.postprocess_global,
    "per_class": postprocess.postprocess_per_class,
    "best-class": postprocess.postprocess_best_class,
    "class-agnostic": postprocess.postprocess_class_agnostic,
    "multi-class": postprocess.postprocess_multi_class,
}


def preprocess_resize(imgs: Any, image_size: ImageSize, mean_rgb: PerChannel = IMAGENET_MEAN_RGB) -> List[tf.Tensor]:
    """Scale images with their aspect ratio kept, put them at the top left and fill up with the model's mean colour.

    Args:
      imgs: [B, H, W, 3], values 0..255 of any number type, a batch of unknown size too; or a list of images [H, W, 3]
        of different sizes.
      image_size: one number, "WIDTHxHEIGHT" or (height, width), of the network's input.
      mean_rgb: the model's, one number or one per channel; rounded, it is the padding, which normalising makes zeros.

    Returns:
      [images uint8 [B, height, width, 3], rounded, halves to even; scales back to the original float32 [B]].

    Raises:
      UserError: there is no image, or one is not [H, W, 3].
    """
    size, padding = parse_image_size(image_size), tf.constant(padding_colour(mean_rgb))

    def resize(image):
        image = tf.convert_to_tensor(image)
        if image.shape.rank not in (None, 3, 4) or image.shape[-1] not in (None, 3):
            raise UserError(f"an image must be [height, width, 3], got {image.shape.as_list()}: convert it to RGB.")
        processor = dataloader.DetectionInputProcessor(image, size)
        processor.set_scale_factors_to_output_size()
        resized = tf.cast(tf.round(processor.resize_and_crop_image()), tf.uint8)
        # Differs from automl, which normalises first and then pads with zeros: here the device normalises.
        return tf.where(processor.inside_image(), resized, padding), processor.image_scale_to_original

    if isinstance(imgs, (list, tuple)):
        if not imgs:
            raise UserError("got an empty list of images: expected at least one image [height, width, 3].")
        images, scales = zip(*(resize(image) for image in imgs))
        return [tf.stack(images), tf.stack(scales)]
    imgs = tf.convert_to_tensor(imgs)
    if imgs.shape.rank not in (None, 4):
        raise UserError(f"images must be [batch, height, width, 3], got {imgs.shape.as_list()}: put one into a list.")
    images, scale = resize(imgs)
    return [images, tf.fill(tf.shape(images)[:1] if images.shape[0] is None else images.shape[:1], scale)]


def preprocess_normalize_image(
    img: tf.Tensor,
    img_dtype: tf.DType,
    mean_rgb: PerChannel = IMAGENET_MEAN_RGB,
    stddev_rgb: PerChannel = IMAGENET_STDDEV_RGB,
) -> tf.Tensor:
    """Bring pixels to zero mean and unit deviation.

    Args:
      img: [..., 3], values 0..255, uint8 or any floating-point type.
      img_dtype: type of the result, which the network computes in.
      mean_rgb, stddev_rgb: one number or one per channel, in the unit of the pixels: 127 and 128 for the lite models.

    Returns:
      [..., 3] of `img_dtype`.

    Differs from automl: computed in float32 and rounded once. Half precision would round the pixel divided by 255, the
    mean, their difference and the quotient, and the first of these has a step of a quarter of a grey level near white.
    """
    mean, stddev = tf.constant(mean_rgb, tf.float32), tf.constant(stddev_rgb, tf.float32)
    return tf.cast((tf.cast(img, tf.float32) - mean) / stddev, img_dtype)


def postprocess_predictions(config: Any, cls_outputs, box_outputs, scales, mode: Optional[str] = "global"):
    """Turn the heads' outputs into detections.

    Args:
      config: `Config` or dictionary with the anchors' keys, image_size, num_classes and nms_configs.
      cls_outputs, box_outputs: lists over levels, finest first, of [B, H, W, anchors * C] logits and
        [B, H, W, anchors * 4] box regressions, any floating-point type.
      scales: [B], from the network's input to the original image, or None.
      mode: "global" or "per_class" (AutoML's), or "best-class", "class-agnostic", "multi-class" (--nms-mode). None or
        "": nothing is done.

    Returns:
      (boxes float32 [B, K, 4] in pixels of the original image, scores [B, K], classes float32 [B, K] from 1 on,
      valid_len int32 [B]); see `tf2.postprocess` for what the modes do with unused rows. Without a mode (cls_outputs,
      box_outputs).

    Raises:
      ConfigError: the mode is unknown, or nms_configs cannot be used.
    """
    if not mode:
        return cls_outputs, box_outputs
    if mode not in _MODES:
        raise ConfigError(f"post-processing mode {mode!r}: expected one of {', '.join(_MODES)}.")
    params = config.as_dict() if hasattr(config, "as_dict") else config
    # Half precision measures neither boxes nor overlaps: one box of 256 x 256 pixels is beyond its largest number.
    cls_outputs, box_outputs = (
        [tf.cast(output, tf.float32) for output in postprocess.to_list(outputs)]
        for outputs in (cls_outputs, box_outputs)
    )
    return _MODES[mode](params, cls_outputs, box_outputs, scales)


def visualize_image(
    image: Any,
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    label_map: Any = None,
    min_score_thresh: float = 0.01,
    max_boxes_to_draw: Optional[int] = 1000,
    line_thickness: int = 2,
    **kwargs,
) -> np.ndarray:
    """Draw detections into a copy of an image.

    Args:
      image: uint8 [H, W, 3].
      boxes: [N, 4], corners (ymin, xmin, ymax, xmax) in pixels of the image. classes: [N], from 1 on. scores: [N].
      label_map: names by class, as `label_util.get_label_map` takes them. None: COCO.
      min_score_thresh: scores must be greater. max_boxes_to_draw: first boxes to draw, None for all.
      line_thickness: least thickness of the lines in pixels; grows with the image.
      **kwargs: passed on to `vis_utils.visualize_boxes_and_labels_on_image_array`.

    Returns:
      uint8 [H, W, 3].
    """
    label_map = label_util.get_label_map("coco" if label_map is None else label_map)
    return vis_utils.visualize_boxes_and_labels_on_image_array(
        np.array(image, np.uint8),
        np.asarray(boxes),
        np.asarray(classes),
        np.asarray(scores),
        category_index={class_id: {"id": class_id, "name": name} for class_id, name in label_map.items()},
        min_score_thresh=min_score_thresh,
        max_boxes_to_draw=max_boxes_to_draw,
        line_thickness=line_thickness,
        **kwargs,
    )


def visualise_detections(
    args: Any, config: Any, imgs: Sequence[Any], inputs: Optional[Any], det_outputs: Sequence[Any], batch_num: int = 0
) -> List[str]:
    """Write one annotated image for every image of a batch.

    Args:
      args: has output_dir, model_name, micro_batch_size and, where one was asked for, image_size.
      config: `Config`: image_size, label_map, nms_configs.
      imgs: all original images in order, uint8 [H, W, 3] each, of any sizes; batch b shows those from
        b * micro_batch_size on. The last batch may have fewer than micro_batch_size.
      inputs: the batch of the network's inputs, uint8 [B, h, w, 3], to be written too; or None.
      det_outputs: (boxes [B, K, 4] in pixels of the originals, scores [B, K], classes [B, K] from 1 on, valid_len [B]),
        tensors or arrays.
      batch_num: number of the batch, from 0 on.

    Returns:
      Paths of the annotated files, `<model>_<size>_output_b<batch>_img<i>.jpg` in args.output_dir, which is made when
      there are images to write.

    Raises:
      ConfigError: a file cannot be written.
    """
    settings = nms_settings(config.nms_configs)
    boxes, scores, classes, valid_len = (np.asarray(output) for output in det_outputs)
    asked = getattr(args, "image_size", None) is not None or isinstance(config.image_size, str)
    size = size_label(config.image_size, asked)
    start = batch_num * args.micro_batch_size
    paths = []
    for i, img in enumerate(imgs[start : start + args.micro_batch_size]):
        used = slice(0, int(valid_len[i]))
        annotated = visualize_image(
            img,
            boxes[i][used],
            classes[i][used].astype(np.int32),
            scores[i][used],
            label_map=config.label_map,
            min_score_thresh=settings.score_thresh,
            max_boxes_to_draw=settings.max_output_size,
        )
        stem, end = f"{file_stem(args.model_name)}_{size}", f"b{batch_num}_img{i}.jpg"
        paths.append(os.path.join(args.output_dir, f"{stem}_output_{end}"))
        _save(annotated, paths[-1])
        if inputs is not None:
            _save(np.asarray(inputs[i]).astype(np.uint8), os.path.join(args.output_dir, f"{stem}_input_{end}"))
        logging.getLogger(__name__).info("Writing annotated image to %s", paths[-1])
    return paths


def _save(image: np.ndarray, path: str) -> None:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG")
    write_atomically(path, (file.getvalue(),), "output_dir", sync=False)
