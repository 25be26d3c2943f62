# SPDX-License-Identifier: Apache-2.0
"""--contact-sheet: the first images of a run, annotated, side by side in one picture. No TensorFlow."""

from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from PIL import Image

from ipu_utils.base.errors import UserError
from ipu_utils.base.files import check_writable, write_atomically
from ipu_utils.base.printable import report_line
from ipu_utils.data.sources import ImageSource
from ipu_utils.outputs.annotated import ImageWriter, draw, encoded, on_photograph
from tf2 import label_util
from visualize.labels import fit_text, text_mask

COLUMNS, ROWS = 4, 5
CELL = (320, 240)  # (width, height) of a picture's place in pixels; labels are drawn at this size, to stay readable
CAPTION, GAP, LETTERS = 22, 10, 14  # height of the line below a picture, space around it, size of letters; pixels
PAPER, INK = (24, 26, 30), (222, 224, 228)
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


class ContactSheet(ImageWriter):
    """Collects the images of the lowest ids, and writes the sheet at the end. Use it as a context manager."""

    def __init__(self, path: Path, source: ImageSource, label_map: Any = None):
        """Say where to write and what to call the classes.

        Args:
          path: of the sheet, .jpg or .png. source: the images, by the ids that `write` gets.
          label_map: as `label_util.get_label_map` takes it; None: COCO.

        Raises:
          UserError: the name ends otherwise, or the file cannot be written.
        """
        super().__init__()
        self._path, self._source = Path(path), source
        if self._path.suffix.lower() not in FORMATS:
            raise UserError(f"--contact-sheet {path} must end in one of {', '.join(FORMATS)}.")
        check_writable(self._path, "--contact-sheet")
        self._labels = label_util.get_label_map("coco" if label_map is None else label_map)
        self._cells: Dict[int, Image.Image] = {}

    def entry(self, image_id: int, *found: np.ndarray) -> List[List]:
        return [part.tolist() for part in found]

    def put(self, image_id: int, entry: Sequence) -> None:
        """Draw an image if it is one of the first so far."""
        self._seen.add(image_id)
        if len(self._cells) < COLUMNS * ROWS or image_id < max(self._cells):
            self._cells[image_id] = self._draw(image_id, *map(np.asarray, entry))
        if len(self._cells) > COLUMNS * ROWS:
            del self._cells[max(self._cells)]

    def _draw(self, image_id: int, *found: np.ndarray) -> Image.Image:
        original = self._source.original(image_id)
        boxes, scores, classes = on_photograph(original.shape[:2], *found)
        share = min(CELL[0] / original.shape[1], CELL[1] / original.shape[0])
        size = tuple(max(1, round(side * share)) for side in original.shape[1::-1])
        image = np.array(Image.fromarray(original).resize(size, Image.LANCZOS if share < 1 else Image.BICUBIC))
        scale = np.array([size[1], size[0]] * 2) / np.array([*original.shape[:2]] * 2)
        draw(image, boxes * scale, scores, classes, self._labels)
        return Image.fromarray(image)

    def __exit__(self, kind, error, traceback) -> None:
        if kind is not None or not self._cells:  # A run that failed half way leaves the sheet that was there.
            return
        pictures = [(self._cells[image_id], self._source.name(image_id)) for image_id in sorted(self._cells)]
        content = encoded(lay_out(pictures), FORMATS[self._path.suffix.lower()])
        write_atomically(self._path, (content,), "--contact-sheet")

    def report(self) -> str:
        return report_line("sheet", f"{len(self._cells)} of {self.written} images in {self._path}")


def lay_out(pictures: Sequence[Tuple[Image.Image, str]]) -> Image.Image:
    """Put pictures of at most CELL, one or more, with their captions into rows, each in the middle of its cell."""
    columns, rows = min(COLUMNS, len(pictures)), -(-len(pictures) // COLUMNS)
    step_x, step_y = CELL[0] + GAP, CELL[1] + CAPTION + GAP
    sheet = Image.new("RGB", (columns * step_x + GAP, rows * step_y + GAP), PAPER)
    for number, (picture, caption) in enumerate(pictures):
        row, column = divmod(number, COLUMNS)
        left, top = GAP + column * step_x, GAP + row * step_y
        sheet.paste(picture, (left + (CELL[0] - picture.width) // 2, top + (CELL[1] - picture.height) // 2))
        mask = text_mask(*fit_text(caption, "", LETTERS, CELL[0]))
        sheet.paste(INK, (left + (CELL[0] - mask.width) // 2, top + CELL[1] + (CAPTION - mask.height) // 2), mask)
    return sheet
