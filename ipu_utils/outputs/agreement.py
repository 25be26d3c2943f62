# SPDX-License-Identifier: Apache-2.0
"""How far two computations of the same network are apart: head outputs and detections. NumPy only."""

from dataclasses import dataclass, field
from typing import Dict, List, Sequence, Tuple

import numpy as np

from ipu_utils.base.detections import ImageDetections
from object_detection.box_list import iou

SAME_BOX = 0.9  # IoU above which two boxes of a class count as the same
OVERLAPS = (0.5, 0.75, SAME_BOX)
SAME_PIXELS = 1.0  # and boxes without area when no corner is further away


def pairs(reference: ImageDetections, ours: ImageDetections, least: float = SAME_BOX) -> List[Tuple[int, int]]:
    """Match detections: same class, almost the same box, each at most once, the reference's best first.

    Args:
      least: IoU above which two boxes are of the same object.

    Returns:
      Pairs of row numbers (reference, ours).
    """
    matched, free = [], np.ones(len(ours.boxes), bool)
    for row, (box, number) in enumerate(zip(reference.boxes, reference.classes)):
        overlap = iou(box, ours.boxes)
        near = (overlap > least) | (np.abs(ours.boxes - box).max(1, initial=0) < SAME_PIXELS)
        candidates = np.nonzero(near & free & (ours.classes == number))[0]
        if len(candidates):
            best = int(candidates[np.argmax(overlap[candidates])])
            free[best] = False
            matched.append((row, best))
    return matched


@dataclass
class Agreement:
    """Collects differences image by image."""

    class_rms: float = 0.0  # of the worst output and image, in standard deviations of the reference's output
    class_largest: float = 0.0
    box_rms: float = 0.0
    box_largest: float = 0.0
    not_finite: int = 0  # numbers that overflowed, which the above leave out
    expected: int = 0  # detections of the reference
    found: int = 0  # detections of ours
    same: Dict[float, int] = field(default_factory=lambda: dict.fromkeys(OVERLAPS, 0))  # that both have, by IoU
    score_difference: float = 0.0  # the largest among those

    def add_heads(self, reference: Sequence[np.ndarray], ours: Sequence[np.ndarray]) -> None:
        """Compare the outputs of one image: class outputs of all levels, then as many box outputs, in float32."""
        for number, (expected, output) in enumerate(zip(reference, ours)):
            error = (output - expected) / max(float(expected.std()), 1e-12)
            finite = error[np.isfinite(error)]
            self.not_finite += int(error.size - finite.size)
            rms, largest = float(np.sqrt(np.sum(finite**2) / max(1, finite.size))), float(np.abs(finite).max(initial=0))
            if number < len(reference) // 2:
                self.class_rms, self.class_largest = max(self.class_rms, rms), max(self.class_largest, largest)
            else:
                self.box_rms, self.box_largest = max(self.box_rms, rms), max(self.box_largest, largest)

    def add_detections(self, reference: ImageDetections, ours: ImageDetections) -> None:
        """Compare the detections of one image."""
        for least in OVERLAPS:
            matched = pairs(reference, ours, least)  # those of the last are the same boxes
            self.same[least] += len(matched)
        self.expected += len(reference.boxes)
        self.found += len(ours.boxes)
        for row, other in matched:
            self.score_difference = max(self.score_difference, abs(float(reference.scores[row] - ours.scores[other])))

    HEADER = (
        f"{'':20}   class outputs         box outputs\n"
        f"{'':20} {'rms':>9} {'largest':>9} {'rms':>9} {'largest':>9}   "
        f"detections at IoU {', '.join(map(str, OVERLAPS))}"
    )

    def row(self, name: str) -> str:
        """One line below HEADER."""
        numbers = (self.class_rms, self.class_largest, self.box_rms, self.box_largest)
        text = f"{name:20} {' '.join(f'{number:9.2e}' for number in numbers)}   "
        again = ", ".join(map(str, self.same.values()))
        text += f"{again} of {self.expected} found again, {self.found - self.same[OVERLAPS[0]]} new"
        text += f"; scores within {self.score_difference:.3f}" if self.same[SAME_BOX] else ""
        return text + (f"; {self.not_finite} outputs overflowed" if self.not_finite else "")
