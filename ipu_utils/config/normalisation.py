# SPDX-License-Identifier: Apache-2.0
"""What the network makes of pixels, and what surrounds an image in its input, by its configuration. No TensorFlow.

AutoML normalises an image, then pads it with zeros, and with `scale_range` brings the result from 0..255 to -1..1, the
padding too. Here images travel as uint8 and the device normalises, so the padding must be the colour that becomes those
zeros: `mean_rgb`, rounded to whole numbers. Trained networks know no other surroundings. For AdvProp's weights, whose
mean_rgb is 0, that is black, and -1 in the network's input, as they were trained.

Source: google/automl dataloader.py, `normalize_image`, `resize_and_crop_image` and `dataset_parser`.
"""

from typing import Any, NamedTuple, Sequence, Tuple, Union

import numpy as np

IMAGENET_MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STDDEV_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)
HALF_RANGE = 127.5  # `scale_range` divides by it and takes 1 away

PerChannel = Union[float, Sequence[float]]  # one number for all channels, or one for each
Rgb = Tuple[float, float, float]


class Normalisation(NamedTuple):
    """The network's input is (pixel - mean) / stddev, for red, green and blue pixels 0..255."""

    mean: Rgb
    stddev: Rgb

    @property
    def is_minus_one_to_one(self) -> bool:
        """Do pixels 0..255 become -1..1, as AdvProp's weights and others expect?"""
        return set(self.mean + self.stddev) == {HALF_RANGE}


def rgb(values: PerChannel) -> Rgb:
    """Return one number for each channel; a single one is that of all."""
    red, green, blue = np.broadcast_to(np.asarray(values, np.float64), (3,)).tolist()
    return red, green, blue


def normalisation_of(hparams: Any) -> Normalisation:
    """Return what the network makes of pixels.

    Args:
      hparams: has mean_rgb, stddev_rgb and scale_range, as AutoML means them: (x - mean_rgb) / stddev_rgb,
        which scale_range then divides by 127.5 and lowers by 1.
    """
    mean, stddev = rgb(hparams.mean_rgb), rgb(hparams.stddev_rgb)
    if hparams.scale_range:
        mean = tuple(middle + HALF_RANGE * step for middle, step in zip(mean, stddev))
        stddev = tuple(HALF_RANGE * step for step in stddev)
    return Normalisation(mean, stddev)


def padding_colour(mean_rgb: PerChannel) -> np.ndarray:
    """Return the pixel that surrounds an image in the network's input, uint8 [3], or [] for one number.

    Halves are rounded to even numbers, as pixels are: 127.5 becomes 128. What no pixel can be becomes the nearest.
    """
    return np.clip(np.rint(np.asarray(mean_rgb, np.float64)), 0, 255).astype(np.uint8)
