# SPDX-License-Identifier: Apache-2.0
"""Batches of images for the network, made beside the device's work.

Five kinds: `generated` noise, one `repeated-image`, a `single-image` in a batch of one, all images of an
`image-directory`, and the frames of a `video`. Every batch is (images uint8 [B, h, w, 3], scales float32 [B], ids int32
[B]): images fitted into the network's input by `data.resize`, the factor from the network's pixels back to the
original's, and which image of the source a row holds. A row with id -1 is padding and holds no image.
"""

import atexit
import contextlib
import itertools
import threading
import time
import weakref
from typing import Callable, Iterator, Optional, Tuple

import numpy as np

from ipu_utils.base.errors import UserError
from ipu_utils.base.hardware import usable_cores
from ipu_utils.base.keras2 import tf
from ipu_utils.config.model_options import STREAMED, DataConfig
from ipu_utils.config.normalisation import IMAGENET_MEAN_RGB, PerChannel
from ipu_utils.data.numpy_batches import PREFETCH_BATCHES, open_images
from ipu_utils.data.sources import PADDING_ID, ImageSource

QUIET_SECONDS, SETTLING_SECONDS = 0.05, 10  # at exit: no call for so long means rest; give up after so long


class PipelineFunction:
    """A Python function for threads of tf.data, which comes to rest before the interpreter shuts down.

    A pipeline reads ahead of the run, so some of its threads are usually inside Python when the program ends. Shutdown
    takes them away there, and destroying the pipeline then waits for them without end: the process hangs. So at exit,
    while Python still works, calls become calls of `at_exit`, which fill the pipeline's bounded buffers at once; then
    shutdown waits until the calls under way have returned and no new one has come for a moment.
    """

    def __init__(self, function: Callable, at_exit: Callable):
        self._function, self._at_exit = function, at_exit
        self._lock, self._running, self._started, self._ending = threading.Lock(), 0, 0, False
        atexit.register(_call_if_alive, weakref.WeakMethod(self.settle))

    def __call__(self, *inputs):
        with self._lock:
            self._running += 1
            self._started += 1
        try:
            return self._at_exit() if self._ending else self._function(*inputs)
        finally:
            with self._lock:
                self._running -= 1

    def settle(self) -> None:
        """Let the pipeline come to rest, for good."""
        self._ending = True
        started, deadline = -1, time.monotonic() + SETTLING_SECONDS
        while (self._running or self._started != started) and time.monotonic() < deadline:
            started = self._started
            time.sleep(QUIET_SECONDS)  # Threads that wait for the interpreter get it meanwhile, and are counted.


def _call_if_alive(method: weakref.WeakMethod) -> None:
    function = method()
    if function is not None:
        function()


class ImageBatches:
    """What a run reads.

    Attributes:
      dataset: tf.data of (images uint8 [B, h, w, 3], scales float32 [B], ids int32 [B]); static shapes, fixed order.
      source, count, batch_size: see `ipu_utils.data.numpy_batches.Feed`.
    """

    def __init__(self, source: ImageSource, batch_size: int):
        self.source, self.batch_size = source, batch_size
        self.dataset = None  # Set by `open_dataset`: the dataset's functions refer to this object.
        self._failure = None

    @property
    def count(self) -> int:
        return self.source.readable

    @contextlib.contextmanager
    def user_errors(self) -> Iterator[None]:
        """Turn the TensorFlow error that unreadable images cause in the pipeline into the UserError that tells why.

        Wrap in it whatever reads the dataset: `with batches.user_errors(): call()`.
        """
        try:
            yield
        except Exception as error:
            if self._failure is None or isinstance(error, UserError):
                raise
            raise self._failure from None

    def load(self, image_id: int) -> Tuple[np.ndarray, np.float32, int, bytes]:
        """Make a row for the pipeline's threads: image, scale, id and problem.

        The id is `PADDING_ID` for an image that is skipped. An error is kept for `user_errors`, its text is the
        problem (else b"").
        """
        try:
            fitted = self.source.try_fitted(image_id)
        except Exception as error:
            self._failure = error
            return self.load_nothing(str(error).encode("utf-8", "backslashreplace"))
        return self.load_nothing(b"") if fitted is None else (*fitted, image_id, b"")

    def load_nothing(self, problem: bytes = b"The program is ending.") -> Tuple[np.ndarray, np.float32, int, bytes]:
        """What `load` returns in the place of an image, also when the program ends."""
        return (*self.source.fitted(PADDING_ID), np.int32(PADDING_ID), problem)


def open_dataset(
    data: DataConfig,
    image_size: Tuple[int, int],
    batches: Optional[int] = None,
    mean_rgb: PerChannel = IMAGENET_MEAN_RGB,
) -> ImageBatches:
    """Open what `--dataset-type` and `--image-path` name.

    Args:
      data, image_size, mean_rgb, and errors: see `open_feed`.
      batches: how many batches the run is going to need, or None for one pass over the images.

    Returns:
      Its dataset never ends when `batches` is given, because a device's feed may read ahead of the run and must not run
      dry: the images come round again in the same order, without a gap between two rounds, so every row is an image.
      With None it ends after one pass, whose last batch is filled up with padding rows.
    """
    opened = ImageBatches(*open_images(data, image_size, 2**31 if batches is None else batches, mean_rgb))
    make = _streamed if data.dataset_type in STREAMED else _preloaded
    dataset = make(opened, endless=batches is not None)
    opened.dataset = dataset.prefetch(data.dataset_prefetch_buffer or PREFETCH_BATCHES)
    return opened


def _preloaded(opened: ImageBatches, *, endless: bool) -> tf.data.Dataset:
    """Batches made once, then only copied: noise must not slow the device, and one image is decoded once.

    A single image fills the whole batch, so that each row does the same work.
    """
    size, source = opened.batch_size, opened.source
    # There are one or a multiple of `size`.
    ids = np.array(list(itertools.islice(itertools.cycle(source.own), max(size, len(source.own)))), np.int32)
    fitted = {image_id: source.fitted(image_id) for image_id in source.own}
    images, scales = zip(*(fitted[image_id] for image_id in ids.tolist()))
    images = np.stack(images).reshape(-1, size, *source.image_size, 3)
    scales = np.stack(scales).reshape(-1, size)
    dataset = tf.data.Dataset.from_tensor_slices((images, scales, ids.reshape(-1, size)))
    return dataset.repeat() if endless else dataset


def _streamed(opened: ImageBatches, *, endless: bool) -> tf.data.Dataset:
    """Decode and resize on all cores while the device works, in the order of the files; unreadable ones left out."""

    def load(image_id):
        types = [tf.uint8, tf.float32, tf.int32, tf.string]
        image, scale, row_id, problem = tf.numpy_function(function, [image_id], types)
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(problem, ""), [problem])]):
            return tf.ensure_shape(image, (*size, 3)), tf.ensure_shape(scale, ()), tf.ensure_shape(row_id, ())

    size, function = opened.source.image_size, PipelineFunction(opened.load, at_exit=opened.load_nothing)
    dataset = tf.data.Dataset.from_tensor_slices(np.array(opened.source.own, np.int32))
    if endless:
        dataset = dataset.repeat()
    dataset = dataset.map(load, num_parallel_calls=usable_cores(), deterministic=True)
    # Skipped images leave no gap: every row that the device computes is an image.
    dataset = dataset.filter(lambda image, scale, row_id: row_id != PADDING_ID)
    if not endless:
        image, scale = opened.source.fitted(PADDING_ID)
        padding = tf.data.Dataset.from_tensors((image, scale, np.int32(PADDING_ID))).repeat(opened.batch_size - 1)
        dataset = dataset.concatenate(padding)  # What of it does not fill the last batch is dropped.
    return dataset.batch(opened.batch_size, drop_remainder=True)
