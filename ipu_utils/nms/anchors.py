# SPDX-License-Identifier: Apache-2.0
"""Anchor boxes of all pyramid levels in NumPy. Imports no TensorFlow: a deployed model needs anchors too."""

from typing import Any, List, Sequence, Tuple, Union

import numpy as np

from ipu_utils.base.errors import ConfigError
from ipu_utils.base.image_size import ImageSize, get_feat_sizes, parse_image_size

# Arguments of `Anchors` but the image size: keys of a model configuration, and of an executable's header.
ANCHOR_KEYS = ("min_level", "max_level", "num_scales", "aspect_ratios", "anchor_scale")
MAX_LEVEL, MAX_SCALES, MAX_RATIOS, MAX_FACTOR = 12, 32, 32, 1e6  # far beyond what detectors use: memory is bounded
AspectRatio = Union[float, Sequence[float]]


class Anchors:
    """The boxes that the heads' outputs are relative to, one for every output cell, octave scale and aspect ratio.

    Attributes:
      boxes: float32 [N, 4], corners (ymin, xmin, ymax, xmax) in pixels of the network's input; anchors of the border
        reach beyond it. Order: level (finest first), row, column, octave scale, aspect ratio, which is the order of the
        heads' outputs reshaped to [N, ...].
      image_size: (height, width) in pixels.
      feat_sizes: {"height", "width"} of every level's feature map, from level 0, the image.

    Source: Tan et al., EfficientDet (arXiv:1911.09070); google/automl tf2/anchors.py. Differs from automl: `boxes` is a
    NumPy array, which every TensorFlow function takes as a constant.
    """

    def __init__(
        self,
        min_level: int,
        max_level: int,
        num_scales: int,
        aspect_ratios: Sequence[AspectRatio],
        anchor_scale: Union[float, Sequence[float]],
        image_size: ImageSize,
    ):
        """Generate the boxes.

        Args:
          min_level, max_level: finest and coarsest level; a cell of level l covers 2^l pixels, more where the image
            size is not a multiple of it.
          num_scales: octave scales per level, 2^(0 / num_scales) to 2^((num_scales - 1) / num_scales).
          aspect_ratios: width / height of the boxes at constant area, or pairs (factor of width, factor of height).
          anchor_scale: side of the smallest square box in cells; one number, or one for every level.
          image_size: one number, "WIDTHxHEIGHT" or (height, width).

        Raises:
          ConfigError: a list of anchor scales does not have one entry per level, or a value cannot be one.
        """
        for name, number, least in (("min_level", min_level, 0), ("max_level", max_level, min_level)):
            if type(number) is not int or not least <= number <= MAX_LEVEL:
                raise ConfigError(f"{name} is {number!r}: expected a whole number from {least} to {MAX_LEVEL}.")
        if type(num_scales) is not int or not 1 <= num_scales <= MAX_SCALES:
            raise ConfigError(f"num_scales is {num_scales!r}: expected a whole number from 1 to {MAX_SCALES}.")
        if not isinstance(aspect_ratios, (list, tuple)) or not 1 <= len(aspect_ratios) <= MAX_RATIOS:
            raise ConfigError(f"aspect_ratios is {aspect_ratios!r}: expected a list of 1 to {MAX_RATIOS} ratios.")
        self.min_level, self.max_level = min_level, max_level
        self.num_scales, self.aspect_ratios = num_scales, aspect_ratios
        levels = max_level - min_level + 1
        scales = list(anchor_scale) if isinstance(anchor_scale, (list, tuple)) else [anchor_scale] * levels
        if len(scales) != levels:
            raise ConfigError(
                f"anchor_scale has {len(scales)} entries for {levels} levels ({min_level} to {max_level}): "
                "give one number, or one for every level."
            )
        for scale in scales:
            if not _is_positive(scale):
                raise ConfigError(f"anchor_scale has {scale!r}: expected a number above 0.")
        self.anchor_scales = scales
        self.image_size = parse_image_size(image_size)
        self.feat_sizes = get_feat_sizes(self.image_size, max_level)
        self.boxes = np.concatenate([self._level_boxes(level) for level in range(min_level, max_level + 1)])

    def get_anchors_per_location(self) -> int:
        """Return how many boxes share a cell."""
        return self.num_scales * len(self.aspect_ratios)

    def _level_boxes(self, level: int) -> np.ndarray:
        """Return float32 [rows * columns * anchors per location, 4]."""
        strides, centres = [], []
        for axis in ("height", "width"):
            cells = self.feat_sizes[level][axis]
            stride = self.feat_sizes[0][axis] / float(cells)
            strides.append(stride)
            centres.append(stride / 2 + stride * np.arange(cells))
        half = self._half_sides(level, strides)  # [A, 2], (y, x)
        grid = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)[:, :, None]  # [rows, columns, 1, 2]
        corners = np.concatenate([grid - half, grid + half], axis=-1)  # [rows, columns, A, 4]
        return corners.reshape(-1, 4).astype(np.float32)

    def _half_sides(self, level: int, strides: Sequence[float]) -> np.ndarray:
        """Return float64 [anchors per location, 2]: half the height and half the width of each box in pixels."""
        scale = self.anchor_scales[level - self.min_level]
        halves: List[Tuple[float, float]] = []
        for octave in range(self.num_scales):
            size = scale * 2 ** (octave / float(self.num_scales))
            for aspect in self.aspect_ratios:
                width_factor, height_factor = _factors(aspect)
                halves.append((size * strides[0] * height_factor / 2, size * strides[1] * width_factor / 2))
        return np.array(halves)


def _factors(aspect: AspectRatio) -> Tuple[float, float]:
    """Return by how much a square box is widened and heightened."""
    if isinstance(aspect, (list, tuple)):
        if len(aspect) != 2 or not all(_is_positive(factor) for factor in aspect):
            raise ConfigError(f"aspect ratio {aspect!r}: expected a number, or a pair (width, height), above 0.")
        return float(aspect[0]), float(aspect[1])
    if not _is_positive(aspect):
        raise ConfigError(f"aspect ratio {aspect!r}: expected a positive number, width divided by height.")
    width_factor = np.sqrt(aspect)
    return width_factor, 1.0 / width_factor


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and 0 < value < MAX_FACTOR
