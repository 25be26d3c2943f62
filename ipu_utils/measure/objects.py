# SPDX-License-Identifier: Apache-2.0
"""How much work suppression had: candidates before it, detections behind it."""

from typing import NamedTuple, Optional, Sequence

import numpy as np


class Objects(NamedTuple):
    """Means an image."""

    candidates: Optional[float]  # None where the outputs of the heads do not reach the host
    detections: float
    images: int  # over which the means were taken


def mean_objects(candidates: Optional[float], lengths: Sequence[int]) -> Objects:
    """Objects of images with so many detections each; of none where there are no outputs."""
    return Objects(candidates, float(np.mean(lengths)) if len(lengths) else 0.0, len(lengths))


def mean_candidates(
    class_outputs: Sequence[np.ndarray], num_classes: int, threshold: Optional[float], every_class: bool
) -> float:
    """Mean number an image of anchors, or with `every_class` of pairs of anchor and class, above a score.

    Args:
      class_outputs: logits of each level, float32 [B, H, W, anchors * num_classes].
      threshold: None counts all.
    """
    total = 0
    for output in class_outputs:
        logits = output.reshape(-1, num_classes)
        with np.errstate(over="ignore"):  # what overflows is a score of 0
            scores = 1 / (1 + np.exp(-(logits if every_class else logits.max(1))))
        total += scores.size if threshold is None else int(np.count_nonzero(scores > threshold))
    return total / len(class_outputs[0])
