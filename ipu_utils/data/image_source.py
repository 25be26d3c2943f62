# SPDX-License-Identifier: Apache-2.0
"""Images addressed by id: what every source of them has. No TensorFlow.

Ids run from 0 to count - 1 in a fixed order, which is the same for all instances of a run; each takes those in `own`.
`name` and `original` serve reports and annotated pictures, `fitted` and `try_fitted` serve the network.
"""

import contextlib
import hashlib
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.base.errors import UserError
from ipu_utils.base.image_folder import LeftOut
from ipu_utils.config.normalisation import IMAGENET_MEAN_RGB, PerChannel, padding_colour
from ipu_utils.data.resize import FittedImage, fit_image

PADDING_ID = -1  # the id of a row that holds no image


def numbers_of(count: int, share: Tuple[int, int]) -> Sequence[int]:
    """The ids below `count` that an instance takes; with fewer than instances some take the same one.

    Args:
      share: (index, n) of the instance, which takes every n-th.
    """
    index, instances = share
    return range(index, count, instances) or range(count)[index % max(1, count) :][:1]


class ImageSource:
    """Images by id. Subclasses say what they are called and how to make them.

    Attributes:
      count: number of ids. own: those of this instance, in order, without files that are no images.
      image_size: (height, width) of the network's input. mean_rgb: the model's mean colour.
      skipped: why files are left out, by name; grows while a run comes across damaged ones.
      left_out: what of a folder does not look like an image.
      files: the image files that the source was made from, readable or not, those of other instances too.
      pictures_left_out: number of files that are no photographs, but what runs have written.
    """

    files: Sequence[Path] = ()
    pictures_left_out = 0

    def __init__(self, count: int, image_size: Tuple[int, int], mean_rgb: PerChannel = IMAGENET_MEAN_RGB):
        """Take the number of images, the size, (height, width), of the network's input, and what surrounds images."""
        self.count, self.image_size, self.mean_rgb = count, tuple(image_size), mean_rgb
        self.own: Sequence[int] = range(count)
        self.skipped: Dict[str, str] = {}
        self.left_out = LeftOut()
        self._damaged: Dict[int, str] = {}

    @property
    def readable(self) -> int:
        """Number of this instance's images of which nothing bad is known yet."""
        return len(self.own) - len(self._damaged)

    def name(self, image_id: int) -> str:
        """Name of an image in reports: the path below the image folder, the file's name, or `generated-0000`."""
        return self._name(self._checked(image_id))

    def original(self, image_id: int) -> np.ndarray:
        """The image before resizing, uint8 [H, W, 3], upright; made anew each time, so no run holds a folder in memory.

        Raises:
          UserError: the file is damaged; the message names it.
        """
        return self._original(self._checked(image_id))

    def fitted(self, image_id: int) -> FittedImage:
        """The image in the network's input, uint8 [h, w, 3], and its scale; for `PADDING_ID` only padding, scale 1."""
        if image_id == PADDING_ID:
            return FittedImage(np.full((*self.image_size, 3), padding_colour(self.mean_rgb)), np.float32(1))
        return fit_image(self.original(image_id), self.image_size, self.mean_rgb)

    def try_fitted(self, image_id: int) -> Optional[FittedImage]:
        """As `fitted`, but None for an image that cannot be read, which is then in `skipped`. Threads may share it.

        Raises:
          UserError: no image of the source is left.
        """
        try:
            return self.fitted(image_id)
        except UserError as error:
            self._damaged[image_id] = self.skipped[self.name(image_id)] = str(error)
            if self.readable == 0:
                raise UserError(f"none of {len(self.own)} images can be read; the last one: {error}") from error
            return None

    def content(self) -> Dict[str, str]:
        """SHA-256 of all images, those of other instances too, wherever they lie; and of what it is."""
        found = hashlib.sha256()
        for path in self.files:
            found.update(sha256_of_file(path))
        return {"sha256": found.hexdigest(), "sha256_of": f"the SHA-256 of each of {len(self.files)} files, in order"}

    def sha256(self, image_id: int) -> bytes:
        """SHA-256 of an image: of its file where it has one, else of its pixels."""
        return hashlib.sha256(self.original(image_id).tobytes()).digest()

    def size(self, image_id: int) -> Tuple[int, int]:
        """(height, width) of `original`, without decoding it."""
        return self._size(self._checked(image_id))

    def _size(self, image_id: int) -> Tuple[int, int]:
        return self.image_size

    def _checked(self, image_id: int) -> int:
        if not 0 <= image_id < self.count:
            raise IndexError(f"image id {image_id} is not one of 0 .. {self.count - 1}; {PADDING_ID} marks padding.")
        return int(image_id)


def sha256_of_file(path: Path) -> bytes:
    """Of nothing for a file that cannot be read; what it was made the run skip it or fail."""
    found = hashlib.sha256()
    with contextlib.suppress(OSError), open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            found.update(piece)
    return found.digest()
