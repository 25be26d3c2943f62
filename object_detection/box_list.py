# SPDX-License-Identifier: Apache-2.0
"""Arithmetic on corner boxes (ymin, xmin, ymax, xmax) along the last axis, for NumPy and, by `xp`, for TensorFlow.

Corners may come in any order: they are sorted first, as TensorFlow's own operators do. Imports no TensorFlow.
"""

from typing import Any

import numpy as np


def sorted_corners(boxes: Any, xp: Any = np) -> tuple:
    """Return (ymin, xmin, ymax, xmax), each [...], with minima and maxima where they belong."""
    y1, x1, y2, x2 = (boxes[..., i] for i in range(4))
    return xp.minimum(y1, y2), xp.minimum(x1, x2), xp.maximum(y1, y2), xp.maximum(x1, x2)


def area(boxes: Any, xp: Any = np) -> Any:
    """Return the area [...] of boxes [..., 4]; never negative."""
    ymin, xmin, ymax, xmax = sorted_corners(boxes, xp)
    return (ymax - ymin) * (xmax - xmin)


def iou(first: Any, second: Any, xp: Any = np) -> Any:
    """Intersection over union of boxes, which broadcast: [N, 1, 4] and [M, 4] give [N, M].

    Args:
      first, second: [..., 4], one floating-point type. Use float32 or wider: in half precision the area of a box of
        256 x 256 pixels overflows.
      xp: the array library, `numpy` or `tensorflow`.

    Returns:
      [...], 0 to 1, in the type of the boxes. 0 where a box has no area or a corner is not a number.
    """
    ymin_1, xmin_1, ymax_1, xmax_1 = sorted_corners(first, xp)
    ymin_2, xmin_2, ymax_2, xmax_2 = sorted_corners(second, xp)
    height = xp.minimum(ymax_1, ymax_2) - xp.maximum(ymin_1, ymin_2)
    width = xp.minimum(xmax_1, xmax_2) - xp.maximum(xmin_1, xmin_2)
    intersection = height * width
    area_1, area_2 = (ymax_1 - ymin_1) * (xmax_1 - xmin_1), (ymax_2 - ymin_2) * (xmax_2 - xmin_2)
    union = area_1 + area_2 - intersection
    # Also false where both areas are infinite or a corner is not a number: the union is not a number then.
    meet = (height > 0) & (width > 0) & (union > 0)
    return xp.where(meet, intersection / xp.where(meet, union, xp.ones_like(union)), xp.zeros_like(union))
