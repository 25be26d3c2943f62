# SPDX-License-Identifier: Apache-2.0
"""Detections, wherever they were computed. NumPy only."""

from typing import NamedTuple, Optional

import numpy as np


class ImageDetections(NamedTuple):
    """What was found in one image, best first."""

    boxes: np.ndarray  # float32 [n, 4]: ymin, xmin, ymax, xmax in pixels of the original image
    scores: np.ndarray  # float32 [n]
    classes: np.ndarray  # int32 [n], one-based: keys of the label map


class Detections(NamedTuple):
    """Detections of a batch, best first.

    Rows from `lengths[i]` on hold no detection: box 0, score 0, class 0, index -1.
    """

    boxes: np.ndarray  # float32 [N, K, 4]: ymin, xmin, ymax, xmax in pixels of the original image
    scores: np.ndarray  # float32 [N, K]
    classes: np.ndarray  # int32 [N, K], one-based
    lengths: np.ndarray  # int32 [N]
    indices: Optional[np.ndarray] = None  # int32 [N, K]: anchor, in mode "multi-class" anchor * classes + class

    def of_image(self, number: int) -> ImageDetections:
        """Those of one image, without the unused rows."""
        rows = slice(self.lengths[number])
        return ImageDetections(self.boxes[number, rows], self.scores[number, rows], self.classes[number, rows])
