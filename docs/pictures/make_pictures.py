#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw the README's picture of annotated photographs: the project's own drawing, boxes and scores placed by hand.

Run it from the project's root: python docs/pictures/make_pictures.py
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tf2 import label_util  # noqa: E402
from visualize import vis_utils  # noqa: E402

HEIGHT = 300  # of each photograph in the picture, pixels
# File -> (class id, score, [ymin, xmin, ymax, xmax] in pixels of the photograph).
BOXES = {
    "astronaut.png": [(1, 0.97, [12, 20, 510, 362])],
    "chelsea.png": [(17, 0.93, [0, 2, 299, 400])],
    "coffee.png": [(47, 0.91, [17, 172, 311, 408]), (50, 0.72, [66, 325, 327, 424]), (67, 0.55, [2, 2, 398, 598])],
}


def annotated(name: str) -> Image.Image:
    image = np.array(Image.open(ROOT / "tests" / "data" / "images" / name).convert("RGB"))
    classes, scores, boxes = (np.array(column) for column in zip(*BOXES[name]))
    names = label_util.get_label_map("coco")
    vis_utils.visualize_boxes_and_labels_on_image_array(
        image,
        boxes.astype(float),
        classes,
        scores,
        {k: {"id": k, "name": v} for k, v in names.items()},
        line_thickness=2,
    )
    picture = Image.fromarray(image)
    return picture.resize((picture.width * HEIGHT // picture.height, HEIGHT), Image.LANCZOS)


def main() -> None:
    pictures = [annotated(name) for name in BOXES]
    strip = Image.new("RGB", (sum(picture.width for picture in pictures), HEIGHT))
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width
    strip.save(ROOT / "docs" / "pictures" / "annotated.jpg", quality=88)


if __name__ == "__main__":
    main()
