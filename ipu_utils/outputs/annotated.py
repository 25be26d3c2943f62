# SPDX-License-Identifier: Apache-2.0
"""What --output-predictions writes: an annotated picture of every image, and all detections as JSON. No TensorFlow.

detections.json is a list with one entry an image, each on its own line, in the order of the source:

    {"file": "street/a.png", "annotated": "a.jpg", "width": 640, "height": 427,
     "detections": [{"class_id": 3, "name": "car", "score": 0.87, "box": [ymin, xmin, ymax, xmax]}, ...]}

Boxes are in pixels of the original image, class ids one-based. Pictures and file appear complete or not at all. The
file is written with the first pictures, anew while more come, and at the end, also of a run that is interrupted.
"""

import contextlib
import io
import json
import os
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Collection, Container, Dict, Iterable, Iterator, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from ipu_utils.base.detections import Detections
from ipu_utils.base.errors import UserError
from ipu_utils.base.files import reason_of, write_atomically
from ipu_utils.base.image_folder import DETECTIONS_FILE
from ipu_utils.base.printable import report_line
from ipu_utils.data.sources import PADDING_ID, ImageSource
from tf2 import label_util
from visualize import vis_utils

JPEG_QUALITY = {"quality": 95, "subsampling": 0}  # Coarser colour would blur thin coloured lines.
# The list is written anew when so many seconds have passed, and ten times what writing it took.
LIST_SECONDS, LIST_SHARE = 1.0, 10


class ImageWriter:
    """Takes the detections of each image once, however often the benchmark runs it. A context manager.

    A subclass has `report()`, lines for the report, and the two halves of writing an image: `entry(id, boxes, scores,
    classes)`, see `new_images`, makes of it what JSON can hold; `put(id, entry)` takes that, here or in the instance
    that joins those of all.
    """

    def __init__(self):
        self._seen: Collection[int] = set()

    @property
    def written(self) -> int:
        """Number of images so far."""
        return len(self._seen)

    def write(self, ids: Sequence[int], detections: Sequence[np.ndarray]) -> None:
        """Write the images of a batch that were not written before; padding rows are left out.

        Args:
          ids: int [N], -1 for padding.
          detections: boxes [N, K, 4] (ymin, xmin, ymax, xmax) in pixels of the original images, scores [N, K],
            one-based classes [N, K], lengths [N]: rows from `lengths[i]` on are padding.

        Raises:
          UserError: the output cannot be written to (any more), or the image cannot be read again.
        """
        for image_id, *found in new_images(ids, detections, self._seen):
            self.put(image_id, self.entry(image_id, *found))

    def __enter__(self):
        return self


class PredictionWriter(ImageWriter):
    """Annotates each image in a picture of its own, and lists all detections."""

    def __init__(self, output_dir: Path, source: ImageSource, names: Sequence[str], label_map: Any = None):
        """Say where to write, which `check_folder` tries, and what to call it.

        Args:
          output_dir: folder for pictures and detections.json; made when it does not exist.
          source: names and originals of the images, by the ids that `write` gets.
          names: of the pictures, by the same ids.
          label_map: names of classes as `label_util.get_label_map` takes them; None: COCO.
        """
        self._folder, self._source, self._names = Path(output_dir), source, names
        check_folder(self._folder)
        self._labels = label_util.get_label_map("coco" if label_map is None else label_map)
        # Entries wait on disk to be put in order: a folder of any size costs a few bytes an image.
        self._spool: Optional[IO[bytes]] = None
        self._seen = self._places = {}  # image id -> (offset, length) of its entry
        self._list_due = 0.0  # when to write detections.json anew, by time.monotonic()

    def write(self, ids: Sequence[int], detections: Sequence[np.ndarray]) -> None:
        super().write(ids, detections)
        start = time.monotonic()
        if self._places and start >= self._list_due:
            self._write(DETECTIONS_FILE, self._entries())
            end = time.monotonic()
            self._list_due = end + max(LIST_SECONDS, LIST_SHARE * (end - start))

    def report(self) -> str:
        return report_line("pictures", f"{self.written} annotated images and {DETECTIONS_FILE} in {self._folder}")

    def put(self, image_id: int, entry: Dict[str, Any]) -> None:
        """Take what `entry` has made of an image, here or in another instance, into the list."""
        line = json.dumps(entry, allow_nan=False).encode()
        try:
            if self._spool is None:
                self._spool = tempfile.TemporaryFile(dir=str(self._folder))  # noqa: SIM115 - closed by __exit__
            offset = self._spool.seek(0, os.SEEK_END)
            self._spool.write(line)
            self._places[image_id] = offset, len(line)  # not before: a signal may come between
        except OSError as error:
            raise UserError(
                f"--output-dir {self._folder} cannot be written to ({error.strerror or error}): free space."
            ) from error

    def _entries(self) -> Iterator[bytes]:
        """The file of all entries, in the order of the source."""
        separator = b"[\n"
        for _, line in self._lines():
            yield separator + line
            separator = b",\n"
        yield b"\n]\n" if self._places else b"[\n\n]\n"

    def _lines(self) -> Iterator[Tuple[int, bytes]]:
        """(image id, entry) of all images, in the order of the source."""
        for image_id in sorted(self._places):
            offset, length = self._places[image_id]
            self._spool.seek(offset)
            yield image_id, self._spool.read(length)

    def __exit__(self, kind, error, traceback) -> None:
        try:
            if kind is None:
                self.finish()
            elif self._places:  # else it would replace the list of an earlier run by an empty one
                with contextlib.suppress(UserError):  # The error that ended the run is the one to tell.
                    self._write(DETECTIONS_FILE, self._entries())
        finally:
            if self._spool is not None:
                with contextlib.suppress(OSError):  # On a full disk closing fails, too; what matters has been said.
                    self._spool.close()

    def finish(self) -> None:
        """Write what comes when there are all images; UserError where the folder cannot be written to."""
        self._write(DETECTIONS_FILE, self._entries())

    def entry(self, image_id: int, *found: np.ndarray) -> Dict[str, Any]:
        """Draw and save one image; return its entry of detections.json."""
        image = np.array(self._source.original(image_id))  # A copy: drawing changes it.
        found = on_photograph(image.shape[:2], *found)
        draw(image, *found, self._labels)
        name = self._names[image_id]
        self._write(name, [encoded(Image.fromarray(image), "JPEG")])
        return self._described(image_id, name, image.shape[:2], *found)

    def _described(self, image_id: int, name: str, size: Tuple[int, int], boxes, scores, classes) -> Dict[str, Any]:
        """The entry of detections.json; `name` of the file in which the image is annotated, `size` (height, width)."""
        return {
            "file": self._source.name(image_id),
            "annotated": name,
            "width": size[1],
            "height": size[0],
            "detections": [
                {
                    "class_id": class_id,
                    "name": label_util.class_name(self._labels, class_id),
                    "score": round(score, 4),
                    "box": [round(corner, 2) for corner in box],
                }
                for class_id, score, box in zip(classes.tolist(), scores.tolist(), boxes.tolist())
            ],
        }

    def _write(self, name: str, pieces: Iterable[bytes]) -> None:
        # A folder that was there and is gone has been removed by somebody. Pictures can be made again: no need to wait
        # for the disk.
        write_atomically(self._folder / name, pieces, "--output-dir", folders=False, sync=False)


def check_folder(folder: Path) -> None:
    """Make a folder for pictures and try to write into it, before time is spent on measuring.

    Raises UserError where there is a file of that name, or no permission.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=str(folder)):
            pass
    except OSError as error:
        raise UserError(
            f"--output-dir {folder} cannot be written to ({reason_of(folder, error)}): name a folder of your own."
        ) from error


def encoded(image: Image.Image, how: str) -> bytes:
    """Return the bytes of a picture's file. Pillow itself, writing to a full disk, takes the part that fits for all."""
    file = io.BytesIO()
    image.save(file, format=how, **(JPEG_QUALITY if how == "JPEG" else {}))
    return file.getvalue()


def new_images(
    ids: Sequence[int], detections: Sequence[np.ndarray], known: Container[int]
) -> Iterator[Tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (id, boxes, scores, classes) of the images of a batch that are not known yet, without unused rows.

    Args:
      ids, detections: see `ImageWriter.write`.
      known: ids to leave out. Each id is yielded once, whether or not it gets known meanwhile.
    """
    yielded = set()
    found = map(np.asarray, Detections(*detections)[:4])
    for image_id, boxes, scores, classes, length in zip(np.asarray(ids).tolist(), *found):
        if image_id != PADDING_ID and image_id not in known and image_id not in yielded:
            yielded.add(image_id)
            used = slice(0, int(length))
            yield image_id, boxes[used], scores[used], classes[used]


def clip_to_photograph(boxes: np.ndarray, height: int, width: int) -> Tuple[np.ndarray, np.ndarray]:
    """Cut boxes to the photograph, which covers only part of the network's input.

    Args:
      boxes: [K, 4] (ymin, xmin, ymax, xmax) in pixels of the original image, which is `height` x `width`.

    Returns:
      boxes float64 [K, 4], and bool [K]: does any of the box lie inside? Not when it is in the padding beside the
      photograph, where an untrained network finds things too, or when it is not finite.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    finite = np.isfinite(boxes).all(axis=1)
    boxes = np.clip(np.where(finite[:, None], boxes, 0), 0, [height, width, height, width])
    return boxes, finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def on_photograph(
    size: Tuple[int, int], boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What of an image's detections is to be drawn: boxes cut to its (height, width), scores and classes as numbers."""
    boxes, inside = clip_to_photograph(boxes, *size)
    return boxes[inside], scores[inside].astype(float), classes[inside].astype(int)


def draw(image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, labels: Dict[int, str]) -> None:
    """Draw what `on_photograph` has given into an image, uint8 [H, W, 3]."""
    vis_utils.visualize_boxes_and_labels_on_image_array(
        image,
        boxes,
        classes,
        scores,
        {class_id: {"name": name} for class_id, name in labels.items()},
        max_boxes_to_draw=None,
        min_score_thresh=-1,  # Post-processing has applied the threshold.
        line_thickness=2,
    )
