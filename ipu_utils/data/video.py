# SPDX-License-Identifier: Apache-2.0
"""The frames of a video as a source of images, decoded when they are asked for. PyAV is imported on demand.

Frames are numbered in the order in which they are shown, from 0. Packets are counted beforehand, not decoded; what of
a damaged video cannot be decoded is missing at the end, where frames are then skipped as damaged images are.
"""

import collections
import contextlib
import functools
import math
import os
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, Iterator, List, OrderedDict, Tuple

import numpy as np

from ipu_utils.base.errors import UserError
from ipu_utils.base.missing_packages import pip_install
from ipu_utils.base.signals import raise_again
from ipu_utils.config.normalisation import IMAGENET_MEAN_RGB, PerChannel
from ipu_utils.data.image_source import PADDING_ID, ImageSource
from ipu_utils.data.resize import FittedImage

KEPT_BYTES, KEPT_LEAST = 64 << 20, 8  # of decoded frames, for threads that ask for them not quite in order
DEFAULT_RATE = Fraction(25)  # frames a second of a video that does not tell


def import_av() -> Any:
    """Return PyAV, FFmpeg's libraries for Python; a UserError says what to install where it is missing."""
    try:
        import av
    except ImportError as error:
        raise_again()
        raise UserError(
            f"PyAV cannot be imported ({error}), which reads and writes videos: {pip_install('av')}."
        ) from error
    return av


def reason_of(error: Exception) -> str:
    """What FFmpeg says is wrong, without numbers and names."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class VideoFrames(ImageSource):
    """Frames of a video by number.

    Attributes:
      rate: frames a second, as the video tells.
      seconds: that each frame took which was decoded and resized, so far.
    """

    def __init__(self, path: Path, image_size: Tuple[int, int], mean_rgb: PerChannel = IMAGENET_MEAN_RGB):
        """Count the frames, and decode the first one.

        Raises UserError where PyAV is missing, or the file is no video with a frame that can be decoded.
        """
        import_av()  # Say now what is missing.
        self.path, self.files = path, (path,)
        try:
            status = os.stat(str(path))
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): give the path of a video.") from error
        count, self._frame_size, self.rate = _probed(str(path), status.st_mtime_ns, status.st_size)
        super().__init__(count, image_size, mean_rgb)
        self.seconds: List[float] = []
        self._lock, self._next, self._decoder = threading.Lock(), 0, _frames(path)
        self._kept: OrderedDict[int, Any] = collections.OrderedDict()
        self._most = max(KEPT_LEAST, KEPT_BYTES // (self._frame_size[0] * self._frame_size[1] * 3))

    def fitted(self, image_id: int) -> FittedImage:
        start = time.perf_counter()
        found = super().fitted(image_id)
        if image_id != PADDING_ID:
            self.seconds.append(time.perf_counter() - start)
        return found

    def _name(self, image_id: int) -> str:
        return f"{self.path.stem}-{image_id:06d}"

    def _size(self, image_id: int) -> Tuple[int, int]:
        return self._frame_size

    def _original(self, image_id: int) -> np.ndarray:
        with self._lock:
            frame = self._frame(image_id)
        return upright(frame)

    def _frame(self, image_id: int) -> Any:
        """A decoded frame; going back further than to those that are kept means to begin anew."""
        if image_id < self._next and image_id not in self._kept:
            self._decoder, self._next = _frames(self.path), 0
            self._kept.clear()
        while image_id >= self._next:
            frame = next(self._decoder, None)
            if frame is None:
                raise UserError(
                    f"{self.path} ends after {self._next} of {self.count} frames: the rest cannot be decoded."
                )
            self._kept[self._next] = frame
            self._next += 1
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return self._kept[image_id]


@functools.lru_cache(maxsize=8)
def _probed(path: str, changed: int, length: int) -> Tuple[int, Tuple[int, int], Fraction]:
    """Look through a video once, while it is the same file: number of frames, (height, width) of the first, rate."""
    first = next(_frames(Path(path)), None)
    if first is None:
        raise UserError(f"{path} holds no frame that can be decoded: repair it, or give another video.")
    with _opened(Path(path)) as (container, stream):
        count = sum(1 for packet in _packets(container, stream) if packet.size)
        rate = stream.average_rate or DEFAULT_RATE
    return count, upright(first).shape[:2], Fraction(rate)


def _frames(path: Path) -> Iterator[Any]:
    """PyAV's frames in the order in which they are shown; what cannot be decoded is left out."""
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        for packet in _packets(container, stream):
            try:
                found = packet.decode()
            except (import_av().error.FFmpegError, EOFError):
                continue
            yield from found


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets up to the end, or to where the file is damaged too badly; the last one asks for frames held back."""
    with contextlib.suppress(import_av().error.FFmpegError):
        yield from container.demux(stream)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Tuple[Any, Any]]:
    """(container, video stream) of a file; UserError where PyAV is missing, or this is no video."""
    av = import_av()
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a video that FFmpeg can read ({reason_of(error)}): give another.") from error
    with container:
        if not container.streams.video:
            raise UserError(
                f"{path} has no video that FFmpeg can read, only {len(container.streams)} other streams: repair it, or "
                "give another."
            )
        yield container, container.streams.video[0]


def upright(frame: Any) -> np.ndarray:
    """A frame as uint8 RGB [H, W, 3], turned as the video says it is to be shown."""
    image = frame.to_ndarray(format="rgb24")
    quarters = 0  # to turn by, anticlockwise; `frame.rotation` tells it in some releases of PyAV alone
    for side in frame.side_data:
        if side.type.name == "DISPLAYMATRIX":
            to_x, to_y = np.frombuffer(side, np.int32)[:2].tolist()
            quarters = round(-math.atan2(to_y, to_x) / (math.pi / 2)) % 4
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image
