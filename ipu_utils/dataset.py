# SPDX-License-Identifier: Apache-2.0
"""Batches of images for the network, made beside the device's work.

Four kinds: `generated` noise, one `repeated-image`, a `single-image` in a batch of one, and all images of an
`image-directory`. Every batch is (images uint8 [B, h, w, 3], scales float32 [B], ids int32 [B]): images fitted into the
network's input by `ipu_utils.resize`, the factor from the network's pixels back to the original's, and which image of
the source a row holds. A row with id -1 is padding and holds zeros.
"""

import contextlib
import weakref
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

import numpy as np

from ipu_utils.devices.detect import usable_cores
from ipu_utils.errors import UserError
from ipu_utils.images import check_image, list_images, read_image
from ipu_utils.keras2 import tf
from ipu_utils.resize import FittedImage, fit_image
from ipu_utils.settings import DataConfig

PADDING_ID = -1
PREFETCH_BATCHES = 2  # when --dataset-prefetch-buffer is 0: one batch ready, one in the making
GENERATED_POOL_BYTES = 32 << 20  # noise made before the run: more than a core's caches hold, yet made in 0.1 s


class PythonPermits:
    """Permission for threads of tf.data to run Python, withdrawn before the interpreter shuts down.

    A pipeline reads ahead of the run, so some of its threads are inside Python functions, or about to be, when the
    program ends. An interpreter that is shutting down never lets them finish, and destroying the pipeline waits for them:
    the process hangs. At exit the permits are taken away one by one, which waits for the calls under way; calls that
    come later wait inside TensorFlow, where destroying the pipeline cancels them.
    """

    def __init__(self, count: int):
        with tf.device("/CPU:0"):
            self._permits = tf.queue.FIFOQueue(count, [tf.bool], shapes=[()])
        for _ in range(count):
            self._permits.enqueue(True)
        weakref.finalize(self, _take_all, self._permits, count)

    def numpy_function(self, function: Callable, inputs: List, types: List) -> List[tf.Tensor]:
        """`tf.numpy_function` under a permit. `function` must not raise: its permit would be lost."""
        with tf.control_dependencies([self._permits.dequeue()]):
            outputs = tf.numpy_function(function, inputs, types)
        with tf.control_dependencies([*outputs]), tf.control_dependencies([self._permits.enqueue(True)]):
            return [tf.identity(output) for output in outputs]


def _take_all(permits: tf.queue.FIFOQueue, count: int) -> None:
    for _ in range(count):
        permits.dequeue()


class NoiseImages:
    """Uniform noise over 0..255, of the network's own size; image i depends on (seed, i, size) only."""

    def __init__(self, seed: int, image_size: Tuple[int, int], count: int):
        self.seed, self.image_size, self.count = seed, image_size, count

    def name(self, image_id: int) -> str:
        """Name of an image in reports."""
        return f"generated-{image_id:04d}"

    def original(self, image_id: int) -> np.ndarray:
        """Make the image again: uint8 [h, w, 3]."""
        height, width = self.image_size
        # RandomState, unlike Generator, promises the same stream in every NumPy release. Its seeds are 32 bits.
        random = np.random.RandomState([self.seed % 2**32, image_id])
        return np.frombuffer(random.bytes(height * width * 3), np.uint8).reshape(height, width, 3)


class ImageFiles:
    """Image files; names are paths below `root`. Headers are checked at once, pixels when they are asked for."""

    def __init__(self, paths: List[Path], root: Path):
        for path in paths:
            check_image(path)
        self.paths, self.root, self.count = paths, root, len(paths)

    def name(self, image_id: int) -> str:
        """Path below the root, with forward slashes."""
        return self.paths[image_id].relative_to(self.root).as_posix()

    def original(self, image_id: int) -> np.ndarray:
        """Decode the image: uint8 [H, W, 3], upright. Raises UserError when the file is damaged."""
        return read_image(self.paths[image_id])


class ImageBatches:
    """What a run reads.

    Attributes:
      dataset: tf.data of (images uint8 [B, h, w, 3], scales float32 [B], ids int32 [B]); static shapes, fixed order.
      count: number of distinct images; their ids are 0 .. count - 1.
      batch_size: B, images per batch.
      image_size: (height, width) of the network's input.
    """

    def __init__(self, source, image_size: Tuple[int, int], batch_size: int):
        self.count = source.count
        self.batch_size = batch_size
        self.image_size = image_size
        self.dataset = None  # Set by `open_dataset`: the dataset's functions refer to this object.
        self._source = source
        self._failure = None

    def name(self, image_id: int) -> str:
        """Name of an image: the path below the image folder, the file's name, or `generated-0000`."""
        return self._source.name(self._checked(image_id))

    def original(self, image_id: int) -> np.ndarray:
        """The image before resizing, uint8 [H, W, 3], upright. Decoded again: no run holds a folder in memory."""
        return self._source.original(self._checked(image_id))

    @contextlib.contextmanager
    def user_errors(self) -> Iterator[None]:
        """Turn the TensorFlow error that a damaged file causes in the pipeline into a UserError that names the file.

        Wrap in it whatever reads the dataset: `with batches.user_errors(): call()`.
        """
        try:
            yield
        except Exception as error:
            if self._failure is None or isinstance(error, UserError):
                raise
            raise self._failure from None

    def fitted(self, image_id: int) -> FittedImage:
        """One image in the network's input, uint8 [h, w, 3], and its scale; zeros and scale 1 for padding."""
        if image_id == PADDING_ID:
            return FittedImage(np.zeros(self.image_size + (3,), np.uint8), np.float32(1))
        return fit_image(self._source.original(image_id), self.image_size)

    def load(self, image_id: int) -> Tuple[np.ndarray, np.float32, bytes]:
        """`fitted` for the pipeline's threads: an error is kept for `user_errors`, its text returned (else b"")."""
        try:
            return (*self.fitted(image_id), b"")
        except Exception as error:
            self._failure = error
            return (*self.fitted(PADDING_ID), str(error).encode())

    def _checked(self, image_id: int) -> int:
        if not 0 <= image_id < self.count:
            raise IndexError(f"image id {image_id} is not one of 0 .. {self.count - 1}; {PADDING_ID} marks padding.")
        return int(image_id)


def open_dataset(data: DataConfig, image_size: Tuple[int, int], batches: Optional[int] = None) -> ImageBatches:
    """Open what `--dataset-type` and `--image-path` name.

    Args:
      data: dataset_type, image_path, micro_batch_size (images per batch; `single-image` always takes 1),
        dataset_prefetch_buffer (batches made ahead; 0 means `PREFETCH_BATCHES`) and seed.
      image_size: (height, width) of the network's input in pixels.
      batches: how many batches the run is going to need, or None for one pass over the images.

    Returns:
      Its dataset never ends when `batches` is given, because a device's feed may read ahead of the run and must not run
      dry: the images come round again in the same order, without a gap between two rounds, so every row is an image.
      With None it ends after one pass, whose last batch is filled up with padding rows.

    Raises:
      UserError: no image, a path of the wrong kind, or a file that is not a readable image.
    """
    kind, path = data.dataset_type, data.image_path
    batch_size = 1 if kind == "single-image" else data.micro_batch_size
    if kind == "generated":
        source = NoiseImages(data.seed, image_size, batch_size * _pool_batches(image_size, batch_size, batches))
        make = _preloaded
    elif kind == "image-directory":
        source, make = ImageFiles(list_images(path), path), _streamed
    else:
        source, make = ImageFiles([path], path.parent), _preloaded
    opened = ImageBatches(source, tuple(image_size), batch_size)
    dataset = make(opened, endless=batches is not None)
    opened.dataset = dataset.prefetch(data.dataset_prefetch_buffer or PREFETCH_BATCHES)
    return opened


def _pool_batches(image_size: Tuple[int, int], batch_size: int, batches: Optional[int]) -> int:
    """How many different batches of noise to make: at least one, no more than asked for or than the pool holds."""
    fitting = GENERATED_POOL_BYTES // (batch_size * image_size[0] * image_size[1] * 3)
    return max(1, fitting if batches is None else min(fitting, batches))


def _preloaded(opened: ImageBatches, *, endless: bool) -> tf.data.Dataset:
    """Batches made once, then only copied: noise must not slow the device, and one image is decoded once.

    A single image fills the whole batch, so that each row does the same work.
    """
    size = opened.batch_size
    ids = np.arange(max(size, opened.count), dtype=np.int32) % opened.count  # `count` is 1 or a multiple of `size`.
    fitted = [opened.fitted(image_id) for image_id in range(opened.count)]
    images, scales = zip(*(fitted[image_id] for image_id in ids))
    images = np.stack(images).reshape((-1, size) + opened.image_size + (3,))
    scales = np.stack(scales).reshape(-1, size)
    dataset = tf.data.Dataset.from_tensor_slices((images, scales, ids.reshape(-1, size)))
    return dataset.repeat() if endless else dataset


def _streamed(opened: ImageBatches, *, endless: bool) -> tf.data.Dataset:
    """Decode and resize on all cores while the device works, in the order of the files."""
    padding = 0 if endless else -opened.count % opened.batch_size
    order = np.concatenate([np.arange(opened.count), np.full(padding, PADDING_ID)]).astype(np.int32)

    def load(image_id):
        image, scale, problem = permits.numpy_function(opened.load, [image_id], [tf.uint8, tf.float32, tf.string])
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(problem, ""), [problem])]):
            return tf.ensure_shape(image, opened.image_size + (3,)), tf.ensure_shape(scale, ()), image_id

    workers = usable_cores()
    permits = PythonPermits(workers)
    dataset = tf.data.Dataset.from_tensor_slices(order)
    if endless:
        dataset = dataset.repeat()
    dataset = dataset.map(load, num_parallel_calls=workers, deterministic=True)
    return dataset.batch(opened.batch_size, drop_remainder=True)
