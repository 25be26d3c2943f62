# SPDX-License-Identifier: Apache-2.0
"""COCO results: ids of images, the file as other programs read it, and comparing it with annotations. No TensorFlow.

Results are a JSON array of {"image_id", "category_id", "bbox": [x, y, width, height], "score"}, in pixels of the
original image. The file takes its place when all are written. A run that is stopped before leaves the file that was
there; where there was none, a complete array of the images that it came to.
"""

import contextlib
import errno
import json
import os
import re
import tempfile
from pathlib import Path
from typing import IO, Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.base.errors import UserError
from ipu_utils.base.files import NewFile, cannot_write, check_writable
from ipu_utils.base.printable import report_line, shown
from ipu_utils.data.sources import ImageSource
from ipu_utils.outputs import coco_classes, coco_eval, coco_names
from ipu_utils.outputs.annotated import ImageWriter, clip_to_photograph
from ipu_utils.outputs.coco_annotations import Annotations, Id, key_of
from ipu_utils.outputs.coco_classes import CategoryOf, Classes

UNKNOWN = Classes()
_END = b"\n]\n"
_OPTION = "--coco-results"


def image_ids(source: ImageSource) -> Dict[int, Id]:
    """Return the COCO id of each image of a source, which is the last number in its name, by its id in the source.

    COCO_val2014_000000000042.jpg is 42. Raises UserError where a name has no number, and when two images have one id.
    """
    names = {number: source.name(number) for number in range(source.count)}
    ids = {number: _number_in(name) for number, name in names.items()}
    first: Dict[int, str] = {}
    for number, image_id in ids.items():
        other = first.setdefault(image_id, names[number])
        if other != names[number]:
            raise UserError(
                f"{other} and {names[number]} would both be image {image_id} of the COCO results: rename one, or give "
                "--coco-annotations with their ids."
            )
    return ids


def _number_in(name: str) -> int:
    digits = re.findall(r"[0-9]+", Path(name).stem)
    if not digits:
        raise UserError(
            f"{name} has no number in its name, which is its id in COCO results: rename it, or give "
            "--coco-annotations with the ids."
        )
    return int(digits[-1])


class ResultsFile:
    """A JSON array in the making, beside its place, which is complete after every `append`."""

    def __init__(self, path: Optional[Path]):
        """Find out whether it can be written, else raise UserError; what is there stays until `commit`.

        Args:
          path: of the file; None for one without a name, which nothing has to remove.
        """
        self.path, self.count = path, 0
        self._new: Optional[NewFile] = None
        self._file: Optional[IO[bytes]] = None
        self._end = 0
        if path is not None:
            check_writable(path, _OPTION)

    def _opened(self) -> IO[bytes]:
        """The file: an empty array when it is asked for the first time."""
        if self._file is None:
            # Unbuffered: one `write` is one system call, which a signal does not split.
            try:
                if self.path is None:
                    self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `close`
                else:
                    self._new = NewFile(self.path, _OPTION)
                    self._file = self._new.file
                self._end = self._file.write(b"[")
                self._file.write(_END)
            except OSError as error:
                raise cannot_write(str(self.path), error, _OPTION) from error
        return self._file

    def append(self, entries: Sequence[Dict[str, Any]]) -> None:
        """Write entries over the end of the array, and a new end behind them."""
        if not entries:
            return
        lines = ",\n".join(json.dumps(entry, allow_nan=False) for entry in entries)
        text = ((",\n" if self.count else "\n") + lines).encode()
        file = self._opened()
        try:
            file.seek(self._end)
            if file.write(text + _END) != len(text) + len(_END):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):  # A part of it may be there, over the old end, for which there was room.
                file.seek(self._end)
                file.truncate()
                file.write(_END)
            raise cannot_write(str(self.path), error, _OPTION) from error
        self._end += len(text)
        self.count += len(entries)

    def read(self) -> List[Dict[str, Any]]:
        """All entries so far."""
        file = self._opened()
        file.seek(0)
        return json.loads(file.read())

    def commit(self, complete: bool = True) -> None:
        """Put the array in its place; one that is not complete only where there is no other. It can still be read.

        Raises UserError where that is not possible.
        """
        self._opened()
        if self._new is not None and (complete or not self._new.existed):
            self._new.commit()

    def close(self) -> None:
        """Close the file; one that was not put in its place is gone."""
        if self._new is not None:
            self._new.discard()
        if self._file is not None:
            self._file.close()


def compared(
    source: ImageSource, annotations: Annotations, classes: Classes
) -> Tuple[Dict[int, Id], CategoryOf, List[str]]:
    """Find out what of a source and of a model is what in the annotations; for errors see the `match` of either.

    Returns:
      COCO ids of the images by their ids in the source, the category of a class, and lines for the report.
    """
    entries, notes = coco_names.match(source, annotations)
    category_of, more_notes = coco_classes.match(annotations, classes)
    lines = [f"note:      {text}" for text in (*annotations.notes, *notes, *more_notes)]
    keys = {key_of(entry.id) for entry in entries.values()}
    if not any(one["image_id"] in keys for one in annotations.dataset["annotations"]):
        lines.append("note:      none of the images has an annotated object: there is nothing to find")
    path = shown(str(annotations.path))
    foreign, without = source.count - len(entries), len(annotations.images) - len(entries)
    if foreign:
        lines.append(f"not used:  {foreign} images that {path} does not know")
    if without:
        lines.append(f"not used:  {without} images of {path} that are not among those here")
    return {number: entry.id for number, entry in entries.items()}, category_of, lines


class CocoWriter(ImageWriter):
    """Writes the detections of each image as COCO's, and measures them against annotations."""

    def __init__(
        self,
        source: ImageSource,
        results: Optional[Path],
        annotations: Optional[Annotations],
        classes: Classes = UNKNOWN,
    ):
        """Say what to write and what to compare with.

        Args:
          source: names and sizes of the images, by the ids that `write` gets.
          results: the file; None: nothing is kept.
          annotations: None: nothing to compare with.
          classes: of the model, which are categories of the annotations.

        Raises:
          UserError: see `image_ids`, `compared` and `ResultsFile`.
        """
        super().__init__()
        self._source, self._annotations = source, annotations
        self.compares = annotations is not None
        if self.compares:
            self._ids, self._category_of, self._lines = compared(source, annotations, classes)
        else:
            self._ids, self._category_of, self._lines = image_ids(source), int, []
        self._file = ResultsFile(results)
        self._accuracy: Optional[coco_eval.Accuracy] = None

    def entry(self, image_id: int, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> List[Dict[str, Any]]:
        """What the file has of an image."""
        if image_id not in self._ids:
            return []
        categories = [self._category_of(number) for number in classes.tolist()]
        return coco_entries(self._ids[image_id], boxes, scores, categories, self._source.size(image_id))

    def put(self, image_id: int, entry: List[Dict[str, Any]]) -> None:
        self._file.append(entry)
        self._accuracy = None
        self._seen.add(image_id)

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self._file.commit()
            return
        with contextlib.suppress(UserError):  # The error that ended the run is the one to tell.
            if self._seen:
                self._file.commit(complete=False)
        self._file.close()

    def report(self) -> str:
        """Lines for the report: what was written, and how good it is where there are annotations. Once, at the end."""
        ran = sum(number in self._ids for number in self._seen)
        lines = []
        if self._file.path is not None:
            lines.append(report_line("results", f"{self._file.count} detections of {ran} images in {self._file.path}"))
        if self.compares:
            lines += [*self._lines, str(self.accuracy())]
        self._file.close()
        return "\n".join(lines)

    def accuracy(self) -> coco_eval.Accuracy:
        """Compare the results of all images that ran with the annotations, once; see `coco_eval.evaluate`."""
        if self._accuracy is None:
            ran = [self._ids[number] for number in self._seen if number in self._ids]
            self._accuracy = coco_eval.evaluate(self._annotations.dataset, self._file.read(), ran)
        return self._accuracy


def coco_entries(
    image_id: Id, boxes: np.ndarray, scores: np.ndarray, categories: Sequence[Optional[int]], size: Sequence[int]
) -> List[Dict[str, Any]]:
    """Detections of one image in COCO's format.

    Args:
      image_id: COCO's.
      boxes: [K, 4] (ymin, xmin, ymax, xmax) in pixels of the original image; cut to it, left out when nothing is left.
      scores: [K]. categories: [K], their ids; None: the class is no category, and the detection is left out.
      size: (height, width) of the original image.
    """
    boxes, inside = clip_to_photograph(boxes, *size)
    return [
        {
            "image_id": image_id,
            "category_id": category,
            "bbox": [round(float(value), 3) for value in (xmin, ymin, xmax - xmin, ymax - ymin)],
            "score": round(float(score), 6),
        }
        for (ymin, xmin, ymax, xmax), score, category, kept in zip(boxes, scores, categories, inside)
        if kept and category is not None
    ]
