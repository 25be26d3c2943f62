# SPDX-License-Identifier: Apache-2.0
"""COCO's twelve numbers, computed by pycocotools, which is imported when it is needed. No TensorFlow."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Tuple

from ipu_utils.errors import UserError

# Name, IoU threshold, area of the objects and most detections an image, in pycocotools' order.
METRICS = (
    ("AP", "0.50:0.95", "all", 100),
    ("AP50", "0.50", "all", 100),
    ("AP75", "0.75", "all", 100),
    ("APs", "0.50:0.95", "small", 100),
    ("APm", "0.50:0.95", "medium", 100),
    ("APl", "0.50:0.95", "large", 100),
    ("AR1", "0.50:0.95", "all", 1),
    ("AR10", "0.50:0.95", "all", 10),
    ("AR100", "0.50:0.95", "all", 100),
    ("ARs", "0.50:0.95", "small", 100),
    ("ARm", "0.50:0.95", "medium", 100),
    ("ARl", "0.50:0.95", "large", 100),
)


@dataclass(frozen=True)
class Accuracy:
    """What an evaluation found."""

    values: Tuple[float, ...]  # in the order of METRICS, 0 to 1; -1 where there is no such object
    images: int  # over which it was taken

    def as_dict(self) -> Dict[str, float]:
        """Values by name."""
        return {name: value for (name, *_), value in zip(METRICS, self.values)}

    def __str__(self) -> str:
        lines = [f"accuracy:  over all {self.images} annotated images that ran (COCO, boxes)"]
        for (name, iou, area, most), value in zip(METRICS, self.values):
            shown = "  none" if value < 0 else f"{value:6.4f}"
            lines.append(f"\t{name:5} = {shown}  IoU {iou:9}  {area:6} objects, at most {most} detections an image")
        return "\n".join(lines)


def require() -> Tuple[Any, Any]:
    """Return pycocotools' (COCO, COCOeval).

    Raises:
      UserError: it is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UserError(
            f"--coco-annotations needs pycocotools ({error}): pip install pycocotools, or leave the option out."
        ) from error
    return COCO, COCOeval


def evaluate(annotations: Dict[str, Any], results: List[Dict[str, Any]], image_ids: Iterable[int]) -> Accuracy:
    """Measure results against annotations.

    Args:
      annotations: a parsed annotation file.
      results: the entries of a COCO results file.
      image_ids: the images that ran; one without results counts as all objects missed.

    Raises:
      UserError: pycocotools is not installed, or cannot use the annotations.
    """
    coco, coco_eval = require()
    image_ids = sorted(image_ids)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # It tells each of its steps.
            truth = coco()
            truth.dataset = annotations
            truth.createIndex()
            if results:
                detections = truth.loadRes(results)
            else:  # loadRes looks at the first one to learn what they are.
                detections = coco()
                detections.dataset = {**annotations, "annotations": []}
                detections.createIndex()
            evaluation = coco_eval(truth, detections, "bbox")
            evaluation.params.imgIds = image_ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise UserError(f"pycocotools cannot use the annotations: {type(error).__name__} {error}") from error
    return Accuracy(tuple(float(value) for value in evaluation.stats), len(image_ids))
