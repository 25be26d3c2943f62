# SPDX-License-Identifier: Apache-2.0
"""What --output-predictions writes: an annotated picture of every image, and all detections as JSON. No TensorFlow.

detections.json is a list with one entry an image, each on its own line, in the order of the source:

    {"file": "street/a.jpg", "annotated": "efficientdet-d0_512_output_b0_img0.jpg", "width": 640, "height": 427,
     "detections": [{"class_id": 3, "name": "car", "score": 0.87, "box": [ymin, xmin, ymax, xmax]}, ...]}

Boxes are in pixels of the original image, class ids one-based. Pictures and file appear complete or not at all.
"""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import IO, Any, Container, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from ipu_utils.base.detections import Detections
from ipu_utils.base.errors import UserError
from ipu_utils.base.files import write_atomically
from ipu_utils.base.printable import file_stem, report_line
from ipu_utils.config.run_options import OutputConfig
from ipu_utils.data.sources import PADDING_ID, ImageSource
from tf2 import label_util
from utils import ImageSize, parse_image_size
from visualize import vis_utils

DETECTIONS_FILE = "detections.json"
JPEG_QUALITY = {"quality": 95, "subsampling": 0}  # Coarser colour would blur thin coloured lines.


def size_label(image_size: ImageSize, asked: bool = False) -> str:
    """Spell an image size for file names as the original does: "512", or WIDTHxHEIGHT.

    Args:
      image_size: any notation of `utils.parse_image_size`.
      asked: it is not the model's own size but --image-size, which gives both sides even of a square.
    """
    height, width = parse_image_size(image_size)
    return str(width) if height == width and not asked else f"{width}x{height}"


def picture_name(model_name: str, size: str, image_id: int, batch_size: int) -> str:
    """Name of an annotated picture: `<model>_<size>_output_b<batch>_img<i>.jpg`, size as `size_label` spells it.

    It tells the place of the image in the first pass over the source: batch id // batch_size, row id % batch_size.
    """
    place = f"b{image_id // batch_size}_img{image_id % batch_size}"
    return f"{file_stem(model_name)}_{size}_output_{place}.jpg"


def picture_names(model_name: str, size: str, count: int, batch_size: int) -> List[str]:
    """Names of the pictures of so many images."""
    return [picture_name(model_name, size, image_id, batch_size) for image_id in range(count)]


class PredictionWriter:
    """Writes the detections of each image once, however often the benchmark runs it. Use it as a context manager."""

    def __init__(
        self,
        output_dir: Path,
        model_name: str,
        image_size: ImageSize,
        source: ImageSource,
        batch_size: int,
        label_map: Any = None,
        size_asked: bool = False,
    ):
        """Say where to write and what to call it.

        Args:
          output_dir: folder for pictures and detections.json; made when it does not exist.
          model_name, image_size, size_asked: for file names, see `size_label`.
          source: names and originals of the images, by the ids that `write` gets.
          batch_size: images per batch.
          label_map: names of classes as `label_util.get_label_map` takes them; None: COCO.
        """
        self._folder = Path(output_dir)
        self._model_name, self._size = model_name, size_label(image_size, size_asked)
        self._source, self._batch_size = source, batch_size
        self._labels = label_util.get_label_map("coco" if label_map is None else label_map)
        self._categories = {class_id: {"id": class_id, "name": name} for class_id, name in self._labels.items()}
        # Entries wait on disk for close(), which puts them in order: a folder of any size costs a few bytes an image.
        self._spool: Optional[IO[bytes]] = None
        self._places: Dict[int, Tuple[int, int]] = {}  # image id -> (offset, length) of its entry

    @property
    def written(self) -> int:
        """Number of images written so far."""
        return len(self._places)

    def prepare(self) -> None:
        """Make the folder and try to write into it, before time is spent on measuring.

        Raises:
          UserError: there is a file of that name, or no permission.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=str(self._folder)):
                pass
        except OSError as error:
            raise UserError(
                f"--output-dir {self._folder} cannot be written to ({error.strerror}): name a folder of your own."
            ) from error

    def write(self, ids: Sequence[int], detections: Sequence[np.ndarray]) -> None:
        """Write pictures of the images of a batch that were not written before; padding rows are left out.

        Args:
          ids: int [N], -1 for padding.
          detections: boxes [N, K, 4] (ymin, xmin, ymax, xmax) in pixels of the original images, scores [N, K],
            one-based classes [N, K], lengths [N]: rows from `lengths[i]` on are padding.

        Raises:
          UserError: the folder cannot be written to (any more), or the image cannot be read again.
        """
        for image_id, boxes, scores, classes in new_images(ids, detections, self._places):
            self._keep(image_id, self._write_one(image_id, boxes, scores, classes))

    def report(self) -> str:
        """A line for the report."""
        return report_line("pictures", f"{self.written} annotated images and {DETECTIONS_FILE} in {self._folder}")

    def close(self) -> None:
        """Write detections.json.

        Raises:
          UserError: the folder cannot be written to.
        """
        try:
            self._write(DETECTIONS_FILE, self._entries())
        finally:
            self._drop_spool()

    def _keep(self, image_id: int, entry: Dict[str, Any]) -> None:
        line = json.dumps(entry, allow_nan=False).encode()
        try:
            if self._spool is None:
                self._spool = tempfile.TemporaryFile(dir=str(self._folder))  # noqa: SIM115 - closed by _drop_spool
            self._places[image_id] = self._spool.seek(0, os.SEEK_END), len(line)
            self._spool.write(line)
        except OSError as error:
            raise UserError(
                f"--output-dir {self._folder} cannot be written to ({error.strerror or error}): free space."
            ) from error

    def _entries(self) -> Iterator[bytes]:
        """The list of all entries, in the order of the source."""
        separator = b"[\n"
        for image_id in sorted(self._places):
            offset, length = self._places[image_id]
            self._spool.seek(offset)
            yield separator + self._spool.read(length)
            separator = b",\n"
        yield b"\n]\n" if self._places else b"[\n\n]\n"

    def _drop_spool(self) -> None:
        if self._spool is not None:
            with contextlib.suppress(OSError):  # On a full disk closing fails, too; what matters has been said by then.
                self._spool.close()
            self._spool = None

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:  # A run that failed half way has no complete list of detections.
            self.close()
        else:
            self._drop_spool()

    def _write_one(self, image_id: int, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Dict[str, Any]:
        """Draw and save one image; return its entry of detections.json."""
        image = np.array(self._source.original(image_id))  # A copy: drawing changes it.
        height, width = image.shape[:2]
        boxes, inside = clip_to_photograph(boxes, height, width)
        boxes, scores, classes = boxes[inside], scores[inside].astype(float), classes[inside].astype(int)
        vis_utils.visualize_boxes_and_labels_on_image_array(
            image,
            boxes,
            classes,
            scores,
            self._categories,
            max_boxes_to_draw=None,
            min_score_thresh=-1,  # Post-processing has applied the threshold.
            line_thickness=2,
        )
        name = picture_name(self._model_name, self._size, image_id, self._batch_size)
        self._write(name, [encoded(Image.fromarray(image), "JPEG")])
        return {
            "file": self._source.name(image_id),
            "annotated": name,
            "width": width,
            "height": height,
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
      ids, detections: see `PredictionWriter.write`.
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


def open_writer(
    output: OutputConfig, model_name: str, hparams: Any, batches: Any, size_asked: bool = False
) -> Optional[PredictionWriter]:
    """Return a writer that is ready to write, or None without --output-predictions.

    Args:
      output: output_predictions, output_dir.
      model_name: for the names of the pictures.
      hparams: image_size and label_map of the model.
      batches: `ImageBatches`, or whatever else has `source` and `batch_size`.
      size_asked: was --image-size given? The names of the pictures tell.

    Raises:
      UserError: the folder cannot be written to.
    """
    if not output.output_predictions:
        return None
    writer = PredictionWriter(
        output.output_dir,
        model_name,
        hparams.image_size,
        batches.source,
        batches.batch_size,
        hparams.label_map,
        size_asked,
    )
    writer.prepare()
    return writer
