# SPDX-License-Identifier: Apache-2.0
"""COCO's twelve numbers, computed by pycocotools, which is imported when it is needed. No TensorFlow."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Tuple

from ipu_utils.base.errors import UserError
from ipu_utils.outputs.coco_annotations import Id, key_of

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
    """Return pycocotools' (COCO, COCOeval); UserError where it is not installed."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UserError(
            f"--coco-annotations needs pycocotools ({error}): pip install pycocotools, or leave the option out."
        ) from error
    return COCO, COCOeval


def evaluate(annotations: Dict[str, Any], results: List[Dict[str, Any]], image_ids: Iterable[Id]) -> Accuracy:
    """Measure results against annotations.

    Args:
      annotations: `Annotations.dataset`.
      results: the entries of a COCO results file.
      image_ids: the images that ran; one without results counts as all objects missed.

    Raises:
      UserError: pycocotools is not installed, or cannot use the annotations.
    """
    coco, coco_eval = require()
    images, categories = _numbers(annotations["images"]), _numbers(annotations["categories"])
    ran = sorted({images[key_of(image_id)] for image_id in image_ids})
    found = [
        {**one, "image_id": images[key_of(one["image_id"])], "category_id": categories[one["category_id"]]}
        for one in results
        if one["category_id"] in categories
    ]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # It tells each of its steps.
            truth = coco()
            truth.dataset = _numbered(annotations, images, categories)
            truth.createIndex()
            if found:
                detections = truth.loadRes(found)
            else:  # loadRes looks at the first one to learn what they are.
                detections = coco()
                detections.dataset = {**truth.dataset, "annotations": []}
                detections.createIndex()
            evaluation = coco_eval(truth, detections, "bbox")
            evaluation.params.imgIds = ran
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise UserError(f"pycocotools cannot use the annotations: {type(error).__name__} {error}") from error
    return Accuracy(tuple(float(value) for value in evaluation.stats), len(ran))


def _numbers(entries: Iterable[Dict[str, Any]]) -> Dict[Id, int]:
    """Numbers from 1 for ids, in the order in which pycocotools goes through them: it decides between equal scores."""
    keys = sorted((entry["id"] for entry in entries), key=lambda key: (isinstance(key, str), key))
    return {key: number for number, key in enumerate(keys, 1)}


def _numbered(annotations: Dict[str, Any], images: Dict[Id, int], categories: Dict[Id, int]) -> Dict[str, Any]:
    """Number everything: pycocotools takes an object whose id is 0 for none, and NumPy rounds ids of many digits."""
    return {
        "images": [{"id": number} for number in images.values()],
        "annotations": [
            {**one, "id": number, "image_id": images[one["image_id"]], "category_id": categories[one["category_id"]]}
            for number, one in enumerate(annotations["annotations"], 1)
        ],
        "categories": [{"id": number} for number in categories.values()],
    }
