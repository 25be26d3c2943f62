# SPDX-License-Identifier: Apache-2.0
"""Bring images of any size to the network's input size in TensorFlow: scaled, aspect ratio kept, then padded."""

from typing import Any

from ipu_utils.base.keras2 import tf
from ipu_utils.config.normalisation import IMAGENET_MEAN_RGB, IMAGENET_STDDEV_RGB
from utils import ImageSize, parse_image_size


class InputProcessor:
    """Steps from a decoded image to an input of the network, called one after the other.

    Source: google/automl dataloader.py, what inference needs of it. Differs from automl: a batch of images of one size
    is taken as well, and an image is never scaled to nothing.
    """

    def __init__(self, image: Any, output_size: ImageSize):
        """Take an image [H, W, 3] or images [B, H, W, 3] of any number type, and the size to bring it to."""
        self._image = tf.convert_to_tensor(image)
        self._output_size = parse_image_size(output_size)
        self._image_scale = tf.constant(1.0)
        size = tf.shape(self._image)
        self._scaled_height, self._scaled_width = size[-3], size[-2]

    def normalize_image(self, mean_rgb: Any = IMAGENET_MEAN_RGB, stddev_rgb: Any = IMAGENET_STDDEV_RGB):
        """Make values 0..255 float32 of zero mean and unit deviation; both are one number or one per channel."""
        image = tf.cast(self._image, tf.float32)
        self._image = (image - tf.constant(mean_rgb, tf.float32)) / tf.constant(stddev_rgb, tf.float32)

    def set_scale_factors_to_output_size(self):
        """Choose the largest scale at which the whole image fits."""
        size = tf.shape(self._image)
        height, width = tf.cast(size[-3], tf.float32), tf.cast(size[-2], tf.float32)
        out_height, out_width = self._output_size
        self._image_scale = tf.minimum(out_width / width, out_height / height)
        # Float32 and rounding down as in AutoML: one more or one less row of pixels would be another input.
        self._scaled_height = tf.maximum(tf.cast(height * self._image_scale, tf.int32), 1)
        self._scaled_width = tf.maximum(tf.cast(width * self._image_scale, tf.int32), 1)

    def resize_and_crop_image(self, method: str = tf.image.ResizeMethod.BILINEAR) -> tf.Tensor:
        """Return the image scaled, at the top left of zeros: float32 [..., height, width, 3]."""
        height, width = self._output_size
        scaled = tf.image.resize(self._image, [self._scaled_height, self._scaled_width], method=method)
        scaled = scaled[..., :height, :width, :]
        return tf.image.pad_to_bounding_box(scaled, 0, 0, height, width)

    def inside_image(self) -> tf.Tensor:
        """Which pixels of the output hold the image and not what surrounds it: bool [height, width, 1]."""
        height, width = self._output_size
        rows = tf.range(height)[:, tf.newaxis] < self._scaled_height
        columns = tf.range(width)[tf.newaxis] < self._scaled_width
        return tf.logical_and(rows, columns)[..., tf.newaxis]

    @property
    def image_scale(self) -> tf.Tensor:
        """Factor from the original image to the scaled one, float32 []."""
        return self._image_scale

    @property
    def image_scale_to_original(self) -> tf.Tensor:
        """Factor from the scaled image to the original one, float32 []."""
        return 1.0 / self._image_scale


class DetectionInputProcessor(InputProcessor):
    """The processor of detection; boxes and classes of training images are not handled here."""
