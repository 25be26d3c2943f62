# SPDX-License-Identifier: Apache-2.0
"""A small set of images with annotations in COCO's format, made from a seed, and detectors that know the answers.

python tests/support/coco_set.py FOLDER writes FOLDER/images and FOLDER/instances.json, to try the scripts on.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np
import reference_formulas
from PIL import Image, ImageDraw

CATEGORIES = {1: "person", 3: "car", 17: "cat", 90: "toothbrush"}


class CocoSet(NamedTuple):
    """Where things are and what they hold."""

    images: Path
    annotations: Path
    dataset: Dict[str, Any]

    def boxes_of(self, file_name: str) -> List[Tuple[int, Tuple[float, float, float, float]]]:
        """(category, (ymin, xmin, ymax, xmax)) of every object of an image, crowds left out."""
        image_id = next(image["id"] for image in self.dataset["images"] if image["file_name"] == file_name)
        return [
            (truth["category_id"], (y, x, y + height, x + width))
            for truth in self.dataset["annotations"]
            if truth["image_id"] == image_id and not truth["iscrowd"]
            for x, y, width, height in [truth["bbox"]]
        ]


def make_set(folder: Path, count: int = 8, seed: int = 0) -> CocoSet:
    """Write images with one to six rectangles, of all three sizes that COCO tells apart, and one crowd."""
    rng = np.random.RandomState(seed)
    images, annotations = [], []
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        height, width = rng.randint(200, 400, 2).tolist()
        picture = Image.fromarray(reference_formulas.photo(height, width, number))
        pen = ImageDraw.Draw(picture)
        # Ids that are not in the order of the names, and not the numbers in them.
        image = {"id": 1000 - 7 * number, "file_name": f"{number:012d}.jpg", "height": height, "width": width}
        images.append(image)
        for index in range(rng.randint(1, 7)):
            side = (20, 60, 140)[index % 3]
            w, h = (side * rng.uniform(0.7, 1.3, 2)).round(2).tolist()
            x, y = round(rng.uniform(0, width - w), 2), round(rng.uniform(0, height - h), 2)
            pen.rectangle([x, y, x + w, y + h], fill=tuple(rng.randint(0, 256, 3).tolist()))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": int(rng.choice(list(CATEGORIES))),
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(number == 0 and index == 1),
                }
            )
        picture.save(str(folder / "images" / image["file_name"]))
    categories = [{"id": category, "name": name} for category, name in CATEGORIES.items()]
    dataset = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "instances.json"
    path.write_text(json.dumps(dataset))
    return CocoSet(folder / "images", path, dataset)


def perfect(coco: CocoSet, file_name: str):
    """(boxes [1, K, 4], scores, classes, lengths) of a detector that finds everything and nothing else."""
    return as_batch([(category, 0.9, box) for category, box in coco.boxes_of(file_name)])


def flawed(coco: CocoSet, file_name: str, seed: int = 0):
    """As `perfect`, but boxes are off, some are missed, some are doubled, and some are made up."""
    rng = np.random.RandomState([seed, *file_name.encode()])
    found = []
    for category, box in coco.boxes_of(file_name):
        for _ in range(rng.randint(0, 3)):
            shifted = tuple(np.array(box) + rng.normal(0, 4, 4))
            found.append((category if rng.rand() < 0.8 else 3, rng.rand(), shifted))
    for _ in range(3):
        y, x = rng.uniform(0, 150, 2)
        found.append((int(rng.choice(list(CATEGORIES))), 0.7 * rng.rand(), (y, x, y + 40, x + 40)))
    return as_batch(found)


def as_batch(found):
    """One image's list of (class, score, box) as a batch with two unused rows."""
    boxes, scores, classes = (
        np.zeros((1, len(found) + 2, 4)),
        np.zeros((1, len(found) + 2)),
        np.zeros((1, len(found) + 2), np.int32),
    )
    for row, (category, score, box) in enumerate(found):
        classes[0, row], scores[0, row], boxes[0, row] = category, score, box
    return boxes.astype(np.float32), scores.astype(np.float32), classes, np.array([len(found)], np.int32)


def by_hand(coco: CocoSet, results: Path, image_ids=None):
    """The twelve numbers, as pycocotools' own example computes them; skips the test where it is not installed."""
    import pytest  # which a user who only makes a set need not have

    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco.annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        if image_ids is not None:
            evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


if __name__ == "__main__":
    make_set(Path(sys.argv[1]))
