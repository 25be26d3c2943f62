# SPDX-License-Identifier: Apache-2.0
"""Where images come from: noise, one file, or a folder, addressed by id. No TensorFlow, for the deployment runtime.

Ids run from 0 to count - 1 in a fixed order. `name` and `original` serve reports and annotated pictures, `fitted` and
`try_fitted` serve the network. Of a folder, files that cannot be read are left out and remembered in `skipped`, and
pictures that runs have written are no photographs.
"""

import contextlib
import hashlib
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.base.errors import UserError
from ipu_utils.base.image_folder import LeftOut, list_folder, photographs
from ipu_utils.config.model_options import DataConfig
from ipu_utils.config.normalisation import IMAGENET_MEAN_RGB, PerChannel, padding_colour
from ipu_utils.data.decode import check_image, read_image, upright_size
from ipu_utils.data.resize import FittedImage, fit_image

PADDING_ID = -1  # the id of a row that holds no image


class ImageSource:
    """Images by id. Subclasses say what they are called and how to make them.

    Attributes:
      count: number of ids. image_size: (height, width) of the network's input. mean_rgb: the model's mean colour.
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
        self.skipped: Dict[str, str] = {}
        self.left_out = LeftOut()
        self._damaged: Dict[int, str] = {}

    @property
    def readable(self) -> int:
        """Number of images of which nothing bad is known yet."""
        return self.count - len(self._damaged)

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
                raise UserError(f"none of {self.count} images can be read; the last one: {error}") from error
            return None

    def content(self) -> Dict[str, str]:
        """SHA-256 of all images, those of other instances too, wherever they lie; and of what it is."""
        found = hashlib.sha256()
        for path in self.files:
            found.update(_sha256_of_file(path))
        return {"sha256": found.hexdigest(), "sha256_of": f"the SHA-256 of each of {len(self.files)} files, in order"}

    def size(self, image_id: int) -> Tuple[int, int]:
        """(height, width) of `original`, without decoding it."""
        return self._size(self._checked(image_id))

    def _size(self, image_id: int) -> Tuple[int, int]:
        return self.image_size

    def _checked(self, image_id: int) -> int:
        if not 0 <= image_id < self.count:
            raise IndexError(f"image id {image_id} is not one of 0 .. {self.count - 1}; {PADDING_ID} marks padding.")
        return int(image_id)


def _sha256_of_file(path: Path) -> bytes:
    """Of nothing for a file that cannot be read; what it was made the run skip it or fail."""
    found = hashlib.sha256()
    with contextlib.suppress(OSError), open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            found.update(piece)
    return found.digest()


class NoiseImages(ImageSource):
    """Uniform noise over 0..255, of the network's own size; image i depends on (seed, i, size) only.

    With a first number and a step, ids 0, 1, ... stand for images first, first + step, ...
    """

    def __init__(self, count: int, image_size: Tuple[int, int], seed: int, first: int = 0, step: int = 1):
        super().__init__(count, image_size)
        self.seed, self._first, self._step = seed, first, step

    def content(self) -> Dict[str, str]:
        height, width = self.image_size
        text = f"uint8 noise of seed {self.seed}, {width}x{height} pixels"
        return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "sha256_of": text}

    def _name(self, image_id: int) -> str:
        return f"generated-{self._first + self._step * image_id:04d}"

    def _original(self, image_id: int) -> np.ndarray:
        height, width = self.image_size
        # RandomState, unlike Generator, promises the same stream in every NumPy release.
        noise = np.random.RandomState([self.seed, self._first + self._step * image_id]).bytes(height * width * 3)
        return np.frombuffer(noise, np.uint8).reshape(height, width, 3)


class ImageFiles(ImageSource):
    """Image files; names are paths below `root`. Headers are checked at once, pixels when they are asked for."""

    def __init__(
        self,
        paths: Sequence[Path],
        root: Path,
        image_size: Tuple[int, int],
        skip_bad: bool = False,
        mean_rgb: PerChannel = IMAGENET_MEAN_RGB,
    ):
        """Check the files.

        Args:
          paths: in the order of their ids. root: a folder above all of them.
          image_size: (height, width) of the network's input in pixels.
          skip_bad: leave files out that are no images, and do so without an error as long as one image is left.
          mean_rgb: the model's mean colour, which surrounds the images.

        Raises:
          UserError: a file is not a readable image, or with `skip_bad` none is.
        """
        problems: Dict[Path, str] = {}
        for path in paths:
            try:
                check_image(path)
            except UserError as error:
                problems[path] = str(error)
                if not skip_bad or len(problems) == len(paths):
                    raise
        self.paths: List[Path] = [path for path in paths if path not in problems]
        self.root, self.files = root, tuple(paths)
        super().__init__(len(self.paths), image_size, mean_rgb)
        self._sizes = np.zeros((self.count, 2), np.int32)  # of what was read; else decoding again might have to tell
        self.skipped.update((path.relative_to(root).as_posix(), problem) for path, problem in problems.items())

    def _name(self, image_id: int) -> str:
        return self.paths[image_id].relative_to(self.root).as_posix()

    def _original(self, image_id: int) -> np.ndarray:
        image = read_image(self.paths[image_id])
        self._sizes[image_id] = image.shape[:2]
        return image

    def sha256(self, image_id: int) -> bytes:
        """SHA-256 of an image's file."""
        return _sha256_of_file(self.paths[self._checked(image_id)])

    def _size(self, image_id: int) -> Tuple[int, int]:
        height, width = self._sizes[image_id].tolist()
        return (height, width) if height else upright_size(self.paths[image_id])


def open_source(
    data: DataConfig, image_size: Tuple[int, int], noise_count: int, mean_rgb: PerChannel = IMAGENET_MEAN_RGB
) -> ImageSource:
    """Open what --dataset-type and --image-path name.

    Args:
      data: dataset_type, image_path, seed, share, the part of the images that this instance takes, and results_dir.
      image_size: (height, width) of the network's input in pixels.
      noise_count: how many different images of `generated` noise to offer.
      mean_rgb: the model's mean colour, which surrounds the images.

    Raises:
      UserError: no image, a path of the wrong kind, or a file that is not a readable image; of a folder, none is.
    """
    index, count = data.share
    if data.dataset_type == "generated":
        return NoiseImages(noise_count, image_size, data.seed, index, count)
    path = Path(data.image_path)
    if data.dataset_type == "image-directory":
        found, left_out, root = list_folder(path)
        paths = photographs(found, root, data.results_dir)
        # With fewer images than instances some share one.
        share = paths[index::count] or [paths[index % len(paths)]]
        source = ImageFiles(share, root, image_size, skip_bad=True, mean_rgb=mean_rgb)
        source.files, source.left_out, source.pictures_left_out = tuple(paths), left_out, len(found) - len(paths)
        return source
    return ImageFiles([path], path.parent, image_size, mean_rgb=mean_rgb)


def describe_left_out(source: ImageSource) -> List[str]:
    """A note on files of a folder that are no photographs; empty when there are none."""
    count = source.pictures_left_out
    return [f"{count} pictures that runs have written are left out"] if count else []
