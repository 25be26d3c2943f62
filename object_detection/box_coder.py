# SPDX-License-Identifier: Apache-2.0
"""From a network's box regressions to corner boxes. One formula for every array type; imports no TensorFlow."""

from typing import Any, Callable, Sequence, Tuple

import numpy as np


def decode_corners(
    rel_codes: Sequence[Any], anchors: Sequence[Any], exp: Callable[[Any], Any] = np.exp
) -> Tuple[Any, Any, Any, Any]:
    """Apply box regressions to anchors.

    Args:
      rel_codes: (ty, tx, th, tw), four arrays of one shape: the shift of the centre in units of the anchor's sides, and
        the logarithm of the growth of each side.
      anchors: (ymin, xmin, ymax, xmax), four arrays that broadcast against them, in pixels.
      exp: the exponential of the array library, `np.exp` or `tf.exp`.

    Returns:
      (ymin, xmin, ymax, xmax) in pixels.

    Source: Girshick et al., R-CNN (arXiv:1311.2524), appendix C, without variances.
    """
    ty, tx, th, tw = rel_codes
    ymin, xmin, ymax, xmax = anchors
    height, width = ymax - ymin, xmax - xmin
    # The order of the operations is part of the result: it decides the last bit, and with it ties in the suppression.
    y_centre, x_centre = ty * height + (ymin + ymax) / 2, tx * width + (xmin + xmax) / 2
    half_height, half_width = exp(th) * height / 2, exp(tw) * width / 2
    return y_centre - half_height, x_centre - half_width, y_centre + half_height, x_centre + half_width
