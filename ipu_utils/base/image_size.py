# SPDX-License-Identifier: Apache-2.0
"""Sizes of images and of the feature maps that a network makes of them."""

import numbers
import re
from typing import Dict, List, Tuple, Union

from ipu_utils.base.errors import ConfigError

ImageSize = Union[int, str, Tuple[int, int]]


def parse_image_size(image_size: ImageSize) -> Tuple[int, int]:
    """Return (height, width) in pixels from any notation of an image size.

    Args:
      image_size: one number for a square image, the text "WIDTHxHEIGHT" (width first, as on the command line) or
        "NUMBER", or a pair (height, width).

    Raises:
      ConfigError: it is none of these, or a side is not a positive whole number.
    """
    if isinstance(image_size, str):
        sides = [
            int(side) if re.fullmatch("[0-9]{1,9}", side.strip()) else None for side in image_size.lower().split("x")
        ][::-1]
    else:
        sides = image_size if isinstance(image_size, (tuple, list)) else [image_size]
        sides = [side if isinstance(side, numbers.Integral) and not isinstance(side, bool) else None for side in sides]
    if not 1 <= len(sides) <= 2 or any(side is None or side < 1 for side in sides):
        raise ConfigError(
            f"image_size {image_size!r}: expected a positive whole number such as 512, a text WIDTHxHEIGHT such as "
            "640x384, or a pair (height, width)."
        )
    return int(sides[0]), int(sides[-1])


def get_feat_sizes(image_size: ImageSize, max_level: int) -> List[Dict[str, int]]:
    """Return {"height", "width"} of the feature map of every level from 0 (the image) to `max_level`.

    Each level is half the one before, rounded up, which is what strided convolutions with padding 'same' give.
    """
    height, width = parse_image_size(image_size)
    sizes = [{"height": height, "width": width}]
    for _ in range(max_level):
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append({"height": height, "width": width})
    return sizes
