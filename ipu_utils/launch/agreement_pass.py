# SPDX-License-Identifier: Apache-2.0
"""Do the combinations of a sweep find the same? Each one keeps what it finds in the run's first images; then compared.

The pass over these images is not timed. No TensorFlow.
"""

import contextlib
import os
from pathlib import Path
from typing import Any, Callable, Dict, Hashable, Mapping, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.base.detections import Detections, ImageDetections
from ipu_utils.config.run_config import Precision
from ipu_utils.data.sources import PADDING_ID, ImageSource
from ipu_utils.launch.requests import batches_of
from ipu_utils.outputs.agreement import pairs

DETECTIONS_VARIABLE = "EFFICIENTDET_DETECTIONS_FILE"  # names a file for them; a sweep asks its cells
KEPT_IMAGES = 16
SAME_OBJECT = 0.5  # IoU above which two boxes of a class are of the same object

Detect = Callable[[np.ndarray, np.ndarray], Optional[Detections]]  # in images [B, h, w, 3] with scales [B]; or None
Kept = Mapping[int, ImageDetections]  # by number of the image in its source


def keep_detections(detect: Detect, source: ImageSource, batch_size: int) -> None:
    """Write what is found in the first images where a sweep asks for it; else, and where nothing can tell, nothing."""
    path = os.environ.get(DETECTIONS_VARIABLE)
    if not path:
        return
    found: Dict[int, ImageDetections] = {}
    for ids, images, scales in batches_of(source, batch_size, source.own[:KEPT_IMAGES]):
        detections = detect(images, scales)
        if detections is None:
            return
        for row, image_id in enumerate(ids):
            if image_id != PADDING_ID:  # copies: the next batch is written where these lie
                found[image_id] = ImageDetections(*map(np.array, detections.of_image(row)))
    if not found:
        return
    parts = {name: np.concatenate(arrays) for name, arrays in zip(ImageDetections._fields, zip(*found.values()))}
    with contextlib.suppress(OSError):  # a disk that is full must not cost the measurement
        np.savez(path, ids=list(found), lengths=[len(one.boxes) for one in found.values()], **parts)


def read_kept(path: Path) -> Kept:
    """Read what `keep_detections` has written; nothing where it has not."""
    if not path.exists():
        return {}
    with np.load(str(path)) as file:
        ends = np.cumsum(file["lengths"])[:-1]
        rows = zip(*(np.split(file[name], ends) for name in ImageDetections._fields))
        return {int(image_id): ImageDetections(*parts) for image_id, parts in zip(file["ids"], rows)}


def compare(found: Sequence[Tuple[Dict[str, Any], Kept]]) -> None:
    """Write into records how much of what the first float one of the same model and size found they found again.

    Args:
      found: records with what was kept of their runs, in the order of the table.
    """
    references: Dict[Hashable, Tuple[Dict[str, Any], Kept]] = {}
    for record, kept in found:
        if kept and record["model"]["precision"] == Precision.FLOAT.value:
            references.setdefault(_kind(record), (record, kept))
    for record, kept in found:
        reference, expected = references.get(_kind(record), ({}, {}))
        images = sorted({*expected} & {*kept})
        if images:
            record["agreement"] = {
                "is_reference": record is reference,
                "reference_engine": reference["configuration"]["engine"],
                "iou_above": SAME_OBJECT,
                "images": len(images),
                "detections": sum(len(expected[number].boxes) for number in images),
                "found_again": sum(len(pairs(expected[number], kept[number], SAME_OBJECT)) for number in images),
            }


def _kind(record: Mapping[str, Any]) -> Hashable:
    """Records of which this is the same have found the same objects, but for the engine and the precision."""
    return record["model"]["name"], tuple(record["model"]["image_size"]), record["nms"]["mode"]
