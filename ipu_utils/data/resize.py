# SPDX-License-Identifier: Apache-2.0
"""Fit photographs into the network's input with NumPy alone, bit for bit as TensorFlow's bilinear resize does.

The deployment runtime has no TensorFlow, and the benchmark's input pipeline must feed the network what that runtime
feeds it, so both use this module. `ipu_automl_io.preprocess_resize` is its TensorFlow twin; tests hold them together.

Sampling (that of google/automl dataloader.py and `tf.image.resize`): bilinear, half-pixel centres, no antialiasing, in
float32, first along x, then along y, rounded to uint8, halves to even. Every multiplication and addition is a NumPy
operation of its own, so no compiler can fuse two of them and the result is the same on every machine. The resized image
goes to the top left corner; the rest has the model's mean colour (`ipu_utils.config.normalisation`).
"""

from typing import NamedTuple, Tuple

import numpy as np

from ipu_utils.config.normalisation import IMAGENET_MEAN_RGB, PerChannel, padding_colour

BLOCK_ROWS = 32  # Output rows at a time: the float32 rows of one block stay in the L2 cache.


class ScaledSize(NamedTuple):
    """Where an image ends up inside the network's input."""

    height: int  # rows it covers
    width: int  # columns it covers
    scale_to_original: np.float32  # pixels of the original per pixel of the network's input


class FittedImage(NamedTuple):
    """An image of the network's size and the way back to the original."""

    image: np.ndarray  # uint8 [h, w, C]
    scale_to_original: np.float32  # multiply box corners in the network's pixels by this


def scaled_size(height: int, width: int, image_size: Tuple[int, int]) -> ScaledSize:
    """Return the largest size of the same aspect ratio that fits into `image_size` = (height, width).

    The arithmetic is float32 and truncates, as in automl: 333 rows times the float32 ratio 512/333 may come out as 511.
    Differs from automl: a side never becomes 0, so a picture of 1 x 10000 pixels keeps one row.
    """
    scale = min(np.float32(image_size[0]) / np.float32(height), np.float32(image_size[1]) / np.float32(width))
    rows, columns = (max(1, int(np.float32(side) * scale)) for side in (height, width))
    return ScaledSize(rows, columns, np.float32(1) / scale)


def _sampling(size: int, original_size: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `size` output positions: the two source positions and the float32 weight of the second one."""
    step = np.float32(original_size) / np.float32(size)
    centre = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5)
    below = np.floor(centre)
    first = np.maximum(below.astype(np.intp), 0)
    second = np.minimum(np.ceil(centre).astype(np.intp), original_size - 1)
    return first, second, centre - below


def resize_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 [H, W, C] to uint8 [height, width, C]. An image that already has the size is returned as it is."""
    original_height, original_width, channels = image.shape
    if (original_height, original_width) == (height, width):
        return image
    top, bottom, weight_y = _sampling(height, original_height)
    left, right, weight_x = _sampling(width, original_width)
    weight_x, weight_y = np.repeat(weight_x, channels), weight_y[:, None]  # rows are flat: [width * channels]
    resized = np.empty((height, width * channels), np.uint8)
    for start in range(0, height, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, height)
        rows = end - start
        first, last = top[start], bottom[end - 1]
        if last - first < 2 * rows:  # Neighbouring output rows share source rows: interpolate each of them once.
            source, upper, lower = image[first : last + 1], top[start:end] - first, bottom[start:end] - first
        else:  # Rows in between are never looked at.
            source = image[np.concatenate([top[start:end], bottom[start:end]])]
            upper, lower = slice(0, rows), slice(rows, None)
        across = np.take(source, left, axis=1).reshape(len(source), -1).astype(np.float32)
        difference = np.take(source, right, axis=1).reshape(len(source), -1).astype(np.float32)
        difference -= across
        difference *= weight_x
        across += difference
        values = across[lower] - across[upper]
        values *= weight_y[start:end]
        values += across[upper]
        resized[start:end] = np.rint(values, out=values)
    return resized.reshape(height, width, channels)


def fit_image(image: np.ndarray, image_size: Tuple[int, int], mean_rgb: PerChannel = IMAGENET_MEAN_RGB) -> FittedImage:
    """Resize an image with its aspect ratio kept, put it at the top left and fill the rest with the mean colour.

    Args:
      image: uint8 [H, W, C], any size from 1 x 1 up.
      image_size: (height, width) of the result in pixels.
      mean_rgb: the model's, one number or C of them; rounded, it is the padding.

    Raises:
      ValueError: the image is not uint8, not three-dimensional, or empty, or has other channels than the mean.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or not image.size:
        raise ValueError(f"image must be uint8 [H, W, C] with pixels in it, got {image.dtype} {list(image.shape)}.")
    height, width, scale = scaled_size(image.shape[0], image.shape[1], image_size)
    padding = padding_colour(mean_rgb)
    if padding.size not in (1, image.shape[2]):
        raise ValueError(f"image must have the {padding.size} channels of the mean, got {list(image.shape)}.")
    fitted = np.empty((image_size[0], image_size[1], image.shape[2]), np.uint8)
    fitted[height:] = padding
    fitted[:height, width:] = padding
    fitted[:height, :width] = resize_bilinear(image, height, width)
    return FittedImage(fitted, scale)
