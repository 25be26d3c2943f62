# SPDX-License-Identifier: Apache-2.0
"""Where images come from: noise, one file, a folder, or a video. No TensorFlow, for the deployment runtime.

Of a folder, files that cannot be read are left out and remembered in `skipped`, and pictures that runs have written are
no photographs.
"""

import hashlib
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np

from ipu_utils.base.errors import UserError
from ipu_utils.base.image_folder import list_folder, photographs
from ipu_utils.config.model_options import DataConfig
from ipu_utils.config.normalisation import IMAGENET_MEAN_RGB, PerChannel
from ipu_utils.data.decode import check_image, read_image, upright_size
from ipu_utils.data.image_source import PADDING_ID, ImageSource, numbers_of, sha256_of_file
from ipu_utils.data.video import VideoFrames

__all__ = ["PADDING_ID", "ImageFiles", "ImageSource", "NoiseImages", "describe_left_out", "open_source"]


class NoiseImages(ImageSource):
    """Uniform noise over 0..255, of the network's own size; image i depends on (seed, i, size) only."""

    def __init__(self, count: int, image_size: Tuple[int, int], seed: int):
        super().__init__(count, image_size)
        self.seed = seed

    def content(self) -> Dict[str, str]:
        height, width = self.image_size
        text = f"uint8 noise of seed {self.seed}, {width}x{height} pixels"
        return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "sha256_of": text}

    def _name(self, image_id: int) -> str:
        return f"generated-{image_id:04d}"

    def _original(self, image_id: int) -> np.ndarray:
        height, width = self.image_size
        # RandomState, unlike Generator, promises the same stream in every NumPy release.
        noise = np.random.RandomState([self.seed, image_id]).bytes(height * width * 3)
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
        share: Tuple[int, int] = (0, 1),
    ):
        """Check the files of this instance.

        Args:
          paths: in the order of their ids. root: a folder above all of them. image_size, mean_rgb: see `ImageSource`.
          skip_bad: leave files out that are no images, and do so without an error as long as one image is left.
          share: of the instance, see `numbers_of`.

        Raises:
          UserError: a file is not a readable image, or with `skip_bad` none is.
        """
        alone, numbers, problems = share[1] == 1, numbers_of(len(paths), share), {}
        for path in (paths[number] for number in numbers):
            try:
                check_image(path)
            except UserError as error:
                problems[path] = str(error)
                if not skip_bad or len(problems) == len(numbers):
                    raise
        self.root, self.files = root, tuple(paths)
        # What other instances have found to be no image is not known here, and ids are the same everywhere.
        self.paths: List[Path] = [path for path in paths if not alone or path not in problems]
        super().__init__(len(self.paths), image_size, mean_rgb)
        if not alone:
            self.own = [number for number in numbers if paths[number] not in problems]
        self._sizes = np.zeros((self.count, 2), np.int32)  # of what was read; else decoding again might have to tell
        self.skipped.update((path.relative_to(root).as_posix(), problem) for path, problem in problems.items())

    def _name(self, image_id: int) -> str:
        return self.paths[image_id].relative_to(self.root).as_posix()

    def _original(self, image_id: int) -> np.ndarray:
        image = read_image(self.paths[image_id])
        self._sizes[image_id] = image.shape[:2]
        return image

    def sha256(self, image_id: int) -> bytes:
        return sha256_of_file(self.paths[self._checked(image_id)])

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
      noise_count: how many different images of `generated` noise to offer to each instance.
      mean_rgb: the model's mean colour, which surrounds the images.

    Raises:
      UserError: no image, a path of the wrong kind, or a file that is not a readable image or video; of a folder, none
        is. For a video PyAV is missing.
    """
    if data.dataset_type == "generated":
        noise = NoiseImages(noise_count * data.share[1], image_size, data.seed)
        noise.own = numbers_of(noise.count, data.share)
        return noise
    path = Path(data.image_path)
    if data.dataset_type == "video":
        video = VideoFrames(path, image_size, mean_rgb)
        video.own = numbers_of(video.count, data.share)
        return video
    if data.dataset_type == "image-directory":
        found, left_out, root = list_folder(path)
        paths = photographs(found, root, data.results_dir)
        source = ImageFiles(paths, root, image_size, skip_bad=True, mean_rgb=mean_rgb, share=data.share)
        source.left_out, source.pictures_left_out = left_out, len(found) - len(paths)
        return source
    return ImageFiles([path], path.parent, image_size, mean_rgb=mean_rgb)


def describe_left_out(source: ImageSource) -> List[str]:
    """A note on files of a folder that are no photographs; empty when there are none."""
    count = source.pictures_left_out
    return [f"{count} pictures that runs have written are left out"] if count else []
