# SPDX-License-Identifier: Apache-2.0
"""The images that an int8 network takes its ranges from: which they are, and how they are known. No TensorFlow."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Tuple

import numpy as np

from ipu_utils.base.errors import UserError
from ipu_utils.base.printable import shown
from ipu_utils.config.images import kind_of_images
from ipu_utils.config.model_options import CALIBRATION_IMAGES
from ipu_utils.config.run_config import RunConfig
from ipu_utils.data.sources import ImageSource, open_source
from ipu_utils.data.synthetic import SyntheticImages

OPTION = "--calibration-images"


class Calibration(NamedTuple):
    """Images to calibrate on."""

    text: str  # what they are, for people
    sha256: str  # of their content and order
    source: ImageSource
    ids: Tuple[int, ...]  # those of the source that are taken

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """Yield uint8 [batch_size, h, w, 3], each image once, some twice where the last batch would not be full.

        Raises:
          UserError: no image of the source can be read.
        """
        found = (self.source.try_fitted(number) for number in self.ids)
        images = [image.image for image in found if image is not None]
        for first in range(0, len(images), batch_size):
            yield np.stack([images[(first + row) % len(images)] for row in range(batch_size)])


def calibration_of(config: RunConfig, hparams: Any, random: bool) -> Calibration:
    """Choose the images that the int8 network of a run is calibrated on, evenly from all that there are.

    Args:
      hparams: the model's configuration. random: the weights are.

    Raises:
      UserError: there is no image, or nothing says what the trained network is going to see.
    """
    wish, data, size = config.model.calibration_images, config.data, tuple(hparams.image_size)
    count = wish if isinstance(wish, int) else CALIBRATION_IMAGES
    if isinstance(wish, Path):
        of_type = "single-image" if kind_of_images(wish) == "file" else "image-directory"
        data = dataclasses.replace(data, dataset_type=of_type, image_path=wish)
    elif data.dataset_type == "generated" and not random:
        raise UserError(
            "--model-precision int8 takes its ranges from images like those that the network is going to see, and "
            f"generated data is noise: add {OPTION} FOLDER, or --image-path FOLDER."
        )
    if data.dataset_type == "generated":
        source: ImageSource = SyntheticImages(count, size)
        content, what = b"synthetic images 1", "generated images, half of them noise"
        ids: Tuple[int, ...] = tuple(range(count))
    else:
        source = open_source(dataclasses.replace(data, share=(0, 1)), size, count, hparams.mean_rgb)
        ids = tuple(sorted({int(number) for number in np.linspace(0, source.count - 1, min(count, source.count))}))
        content = b"".join(source.sha256(number) for number in ids)
        what = f"images of {data.image_path}" if len(ids) > 1 else f"image of {data.image_path}"
    known = hashlib.sha256(content + f" {len(ids)}".encode())
    return Calibration(shown(f"{len(ids)} {what}"), known.hexdigest(), source, ids)
