# SPDX-License-Identifier: Apache-2.0
"""COCO's formats: ids of images, results as other programs read them, annotations to measure against. No TensorFlow.

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
from typing import IO, Any, Dict, List, Optional, Sequence, Set

import numpy as np

from ipu_utils import coco_eval
from ipu_utils.errors import UserError
from ipu_utils.files import NewFile, cannot_write, check_writable
from ipu_utils.image_sources import ImageSource
from ipu_utils.names import report_line
from ipu_utils.predictions import clip_to_photograph, new_images

_END = b"\n]\n"
_OPTION = "--coco-results"


class Annotations:
    """What is known about a set of images: the parsed file, checked as far as evaluating needs it."""

    def __init__(self, path: Path):
        """Read the file.

        Raises:
          UserError: it cannot be read, or holds something else than annotated boxes.
        """
        self.path = Path(path)
        try:
            self.dataset: Dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"--coco-annotations {path} cannot be read: {error}") from error
        self._require("images", ("id", "file_name"))
        self._require("annotations", ("id", "image_id", "category_id", "bbox", "area", "iscrowd"))
        self._require("categories", ("id",))
        self.ids: Dict[str, int] = {image["file_name"]: image["id"] for image in self.dataset["images"]}

    def _require(self, part: str, keys: Sequence[str]) -> None:
        found = self.dataset.get(part) if isinstance(self.dataset, dict) else None
        wanted = f"a list `{part}` whose entries have {', '.join(keys)}, as in COCO's instances_val2017.json"
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise UserError(f"--coco-annotations {self.path}: expected {wanted}.")
        for entry in found:
            lacking = [key for key in keys if key not in entry]
            if lacking:
                raise UserError(f"--coco-annotations {self.path}: an entry of `{part}` lacks {lacking[0]}: "
                                f"expected {wanted}.")  # fmt: skip

    @property
    def categories(self) -> Set[int]:
        return {category["id"] for category in self.dataset["categories"]}


def image_ids(source: ImageSource, annotations: Optional[Annotations]) -> Dict[int, int]:
    """Return the COCO id of each image of a source, by its id in the source.

    With annotations that is the id of the same file name, of the path below the folder or of its last part, and images
    without one are left out; without, it is the last number in the file name: COCO_val2014_000000000042.jpg is 42.

    Raises:
      UserError: no image is in the annotations; a name without a number, or two images of one id.
    """
    names = {number: source.name(number) for number in range(source.count)}
    if annotations is not None:
        known = annotations.ids
        found = {number: known.get(name, known.get(Path(name).name)) for number, name in names.items()}
        ids = {number: image_id for number, image_id in found.items() if image_id is not None}
        if not ids:
            raise UserError(
                f"--coco-annotations {annotations.path} knows none of the {len(names)} images, such as {names[0]}: "
                f"it is of another folder (it knows {', '.join(list(known)[:2]) or 'no image'})."
            )
    else:
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
        """Find out whether it can be written; what is there stays until `commit`.

        Args:
          path: of the file; None for one without a name, which nothing has to remove.

        Raises:
          UserError: the file cannot be written.
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

        Raises:
          UserError: that is not possible.
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


class CocoWriter:
    """Writes the detections of each image once, and measures them against annotations. A context manager."""

    def __init__(self, source: ImageSource, results: Optional[Path], annotations: Optional[Annotations]):
        """Say what to write and what to compare with.

        Args:
          source: names and sizes of the images, by the ids that `write` gets.
          results: the file; None: nothing is kept.
          annotations: None: nothing to compare with.

        Raises:
          UserError: see `image_ids` and `ResultsFile`.
        """
        self._source, self._annotations, self._kept = source, annotations, results is not None
        self._ids = image_ids(source, annotations)
        self._file = ResultsFile(results)
        self._seen: Set[int] = set()

    @property
    def written(self) -> int:
        """Number of images seen so far."""
        return len(self._seen)

    def write(self, ids: Sequence[int], detections: Sequence[np.ndarray]) -> None:
        """Append the detections of images that were not seen before; see `PredictionWriter.write` for the arguments."""
        entries: List[Dict[str, Any]] = []
        for image_id, boxes, scores, classes in new_images(ids, detections, self._seen):
            if image_id in self._ids:
                entries += coco_entries(self._ids[image_id], boxes, scores, classes, self._source.size(image_id))
        self._file.append(entries)
        self._seen.update(int(image_id) for image_id in ids if image_id >= 0)

    def __enter__(self) -> "CocoWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self._file.commit()
            return
        with contextlib.suppress(UserError):  # The error that ended the run is the one to tell.
            if self._seen:
                self._file.commit(complete=False)
        self._file.close()

    def report(self) -> str:
        """Lines for the report: what was written, and how good it is where there are annotations. Once, at the end.

        Raises:
          UserError: pycocotools is not installed or cannot use the annotations.
        """
        ran = sorted(self._ids[number] for number in self._seen if number in self._ids)
        lines = []
        if self._kept:
            what = f"{self._file.count} detections of {len(ran)} images in {self._file.path}"
            lines.append(report_line("results", what))
        if self._annotations is not None:
            foreign = len(self._seen) - len(ran)
            if foreign:
                lines.append(report_line("not used", f"{foreign} images that {self._annotations.path} does not know"))
            lines.append(str(self.accuracy()))
        self._file.close()
        return "\n".join(lines)

    def accuracy(self) -> coco_eval.Accuracy:
        """Compare the results of all images that ran with the annotations."""
        ran = [self._ids[number] for number in self._seen if number in self._ids]
        return coco_eval.evaluate(self._annotations.dataset, self._file.read(), ran)


def coco_entries(
    image_id: int, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, size: Sequence[int]
) -> List[Dict[str, Any]]:
    """Detections of one image in COCO's format.

    Args:
      image_id: COCO's.
      boxes: [K, 4] (ymin, xmin, ymax, xmax) in pixels of the original image; cut to it, left out when nothing is left.
      scores: [K]. classes: [K], the categories' ids.
      size: (height, width) of the original image.
    """
    boxes, inside = clip_to_photograph(boxes, *size)
    entries = []
    for (ymin, xmin, ymax, xmax), score, category in zip(boxes[inside], scores[inside], classes[inside]):
        entries.append(
            {
                "image_id": image_id,
                "category_id": int(category),
                "bbox": [round(float(value), 3) for value in (xmin, ymin, xmax - xmin, ymax - ymin)],
                "score": round(float(score), 6),
            }
        )
    return entries
