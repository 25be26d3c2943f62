# SPDX-License-Identifier: Apache-2.0
"""Batches of images without TensorFlow: what `ipu_utils.data.tf_batches` gives a tf.data pipeline, as NumPy arrays.

Every batch is (images uint8 [B, h, w, 3], scales float32 [B], ids int32 [B]), and the images come round without end.
"""

import collections
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator, Tuple

import numpy as np

from ipu_utils.base.hardware import usable_cores
from ipu_utils.config.model_options import STREAMED, DataConfig
from ipu_utils.config.normalisation import IMAGENET_MEAN_RGB, PerChannel
from ipu_utils.data.sources import ImageSource, open_source

PREFETCH_BATCHES = 2  # when --dataset-prefetch-buffer is 0: one batch ready, one in the making
GENERATED_POOL_BYTES = 32 << 20  # noise made before the run: more than a core's caches hold, yet made in 0.1 s

Batch = Tuple[np.ndarray, np.ndarray, np.ndarray]


class Feed:
    """What a run reads; each iteration over it begins with the first image.

    Attributes:
      source: the images by id, for names and originals.
      count: number of distinct images; falls when one of them turns out to be damaged and is skipped.
      batch_size: B, images per batch.
    """

    def __init__(self, source: ImageSource, batch_size: int, preloaded: bool, ahead: int):
        """Take the images.

        Args:
          preloaded: make all images once, and repeat them; else decode them beside the device's work.
          ahead: batches that are decoded ahead of the device.
        """
        self.source, self.batch_size, self._ahead = source, batch_size, ahead
        self._rows = [(number, source.fitted(number)) for number in source.own] if preloaded else None

    @property
    def count(self) -> int:
        return self.source.readable

    def __iter__(self) -> Iterator[Batch]:
        rows = itertools.cycle(self._rows) if self._rows is not None else self._decoded()
        while True:
            ids, fitted = zip(*itertools.islice(rows, self.batch_size))
            scales = [image.scale_to_original for image in fitted]
            yield np.stack([image.image for image in fitted]), np.array(scales, np.float32), np.array(ids, np.int32)

    def _decoded(self) -> Iterator[Tuple]:
        """Yield (id, fitted image), decoded on all cores, in the order of the files; unreadable ones are left out."""
        numbers, waiting = itertools.cycle(self.source.own), collections.deque()
        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="decode") as pool:
            while True:
                while len(waiting) < self._ahead * self.batch_size:
                    number = next(numbers)
                    waiting.append((number, pool.submit(self.source.try_fitted, number)))
                number, future = waiting.popleft()
                fitted = future.result()
                if fitted is not None:
                    yield number, fitted


def open_images(
    data: DataConfig, image_size: Tuple[int, int], batches: int, mean_rgb: PerChannel
) -> Tuple[ImageSource, int]:
    """The images of a run, and how many are in a batch; for the arguments see `open_feed`."""
    batch_size = 1 if data.dataset_type == "single-image" else data.micro_batch_size
    # At least one batch of noise, no more different ones than asked for or than the pool holds.
    different = max(1, min(GENERATED_POOL_BYTES // (batch_size * image_size[0] * image_size[1] * 3), batches))
    return open_source(data, image_size, batch_size * different, mean_rgb), batch_size


def open_feed(
    data: DataConfig, image_size: Tuple[int, int], batches: int, mean_rgb: PerChannel = IMAGENET_MEAN_RGB
) -> Feed:
    """Open what `--dataset-type` and `--image-path` name.

    Args:
      data: dataset_type, image_path, micro_batch_size (images per batch; `single-image` always takes 1),
        dataset_prefetch_buffer (batches made ahead; 0 means `PREFETCH_BATCHES`) and seed.
      batches: how many batches a call is going to need.
      image_size, mean_rgb, and errors: see `open_source`.
    """
    ahead = data.dataset_prefetch_buffer or PREFETCH_BATCHES
    return Feed(*open_images(data, image_size, batches, mean_rgb), data.dataset_type not in STREAMED, ahead)
