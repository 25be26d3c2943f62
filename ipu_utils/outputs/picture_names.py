# SPDX-License-Identifier: Apache-2.0
"""What annotated pictures are called: after their images, or by batch and row as the original program calls them.

A video is annotated in one video, called after it.
"""

import os
from pathlib import Path
from typing import Any, Dict, List, Set

from ipu_utils.base.printable import file_stem
from ipu_utils.config.run_options import OutputConfig
from ipu_utils.data.sources import ImageSource
from ipu_utils.data.video import VideoFrames
from utils import ImageSize, parse_image_size

SUFFIX, VIDEO_SUFFIX = ".jpg", ".mp4"
ANNOTATED = "-annotated"  # behind the image's name in the folder of the images
LONGEST = 255  # bytes of a file's name


def names_of(output: OutputConfig, model_name: str, hparams: Any, batches: Any, size_asked: bool = False) -> List[str]:
    """Names of the annotated pictures, by image id; of a video that of the annotated one.

    Args:
      output: picture_names, output_dir.
      model_name: for names by batch. hparams: image_size of the model. size_asked: was --image-size given?
      batches: `ImageBatches`, or whatever else has `source` and `batch_size`.
    """
    if isinstance(batches.source, VideoFrames):
        path = batches.source.path
        beside = os.path.realpath(str(path.parent)) == os.path.realpath(str(output.output_dir))
        return [_fitting(path.stem, (ANNOTATED if beside else "") + VIDEO_SUFFIX)]
    if output.picture_names == "image":
        return names_by_image(batches.source, output.output_dir)
    size = size_label(hparams.image_size, size_asked)
    return names_by_batch(model_name, size, batches.source.count, batches.batch_size)


def size_label(image_size: ImageSize, asked: bool = False) -> str:
    """Spell an image size for file names as the original does: "512", or WIDTHxHEIGHT.

    Args:
      image_size: any notation of `utils.parse_image_size`.
      asked: it is not the model's own size but --image-size, which gives both sides even of a square.
    """
    height, width = parse_image_size(image_size)
    return str(width) if height == width and not asked else f"{width}x{height}"


def names_by_batch(model_name: str, size: str, count: int, batch_size: int) -> List[str]:
    """`<model>_<size>_output_b<batch>_img<i>.jpg` for each of `count` images, size as `size_label` spells it.

    It tells the place of the image in the first pass over the source: batch id // batch_size, row id % batch_size.
    """
    beginning = f"{file_stem(model_name)}_{size}_output"
    return [f"{beginning}_b{number // batch_size}_img{number % batch_size}{SUFFIX}" for number in range(count)]


def names_by_image(source: ImageSource, folder: Path) -> List[str]:
    """`coffee.jpg` for coffee.png, for each image of a source; no two names are alike, whatever their capitals.

    Of images with one stem the first has it, the others have it with a number behind: coffee-2.jpg. Where pictures go
    into the folder of the images, none has the name of an image: coffee-annotated.jpg.
    """
    mark, taken = "", set()
    here = os.path.realpath(str(folder))
    parents = {parent for parent in {str(path.parent) for path in source.files} if os.path.realpath(parent) == here}
    if parents:
        mark = ANNOTATED
        taken.update(path.name.casefold() for path in source.files if str(path.parent) in parents)
    stems = [Path(source.name(number)).stem + mark for number in range(source.count)]
    reserved = {stem.casefold() for stem in stems}
    last: Dict[str, int] = {}
    return [_free_name(stem, taken, reserved, last) for stem in stems]


def _free_name(stem: str, taken: Set[str], reserved: Set[str], last: Dict[str, int]) -> str:
    """The name of the next picture, which is then in `taken`; `last` keeps the number that a stem had last."""
    key, name = stem.casefold(), _fitting(stem, SUFFIX)
    number = last.get(key, 1)
    while name.casefold() in taken or (number > 1 and name[: -len(SUFFIX)].casefold() in reserved):
        number += 1
        name = _fitting(stem, f"-{number}{SUFFIX}")
    last[key] = number
    taken.add(name.casefold())
    return name


def _fitting(stem: str, end: str) -> str:
    """A stem with what comes behind it, cut where a file's name would be too long."""
    while len(os.fsencode(stem + end)) > LONGEST:
        stem = stem[:-1]
    return stem + end
