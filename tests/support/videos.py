# SPDX-License-Identifier: Apache-2.0
"""Small videos, made with PyAV, whose frames tell their numbers."""

from fractions import Fraction
from pathlib import Path

import numpy as np

SIZE = (48, 64)  # (height, width)


def frame_of(number: int) -> np.ndarray:
    """uint8 [h, w, 3]: the number in four blocks of the left half, black or white; the right half is red at its top."""
    image = np.full((*SIZE, 3), 128, np.uint8)
    for bit in range(4):
        image[12 * bit : 12 * bit + 12, :32] = 255 * (number >> bit & 1)
    image[:24, 32:] = (220, 20, 20)
    return image


def number_of(image: np.ndarray) -> int:
    """The number that a frame tells, up to 15, whatever compression has made of it; upright frames alone."""
    return sum((image[12 * bit + 6, 16].mean() > 128) << bit for bit in range(4))


def make_video(path: Path, frames: int = 10, codec: str = "mpeg4", rate: int = 12) -> Path:
    """Write frames 0, 1, ... with few key frames, so that most of them need those before."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate))
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.bit_rate = 2_000_000
        for number in range(frames):
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame_of(number), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def turn(path: Path) -> None:
    """Change an MP4 file so that it is to be shown turned by 90 degrees clockwise, as phones write it."""
    content = path.read_bytes()
    # The matrix of the track's header: three rows of (a, b, u), in 16.16 but for the last column.
    upright, turned = (
        b"".join(value.to_bytes(4, "big", signed=True) for value in (*first, 0, *second, 0, 0, 0, 1 << 30))
        for first, second in (((1 << 16, 0), (0, 1 << 16)), ((0, 1 << 16), (-1 << 16, 0)))
    )
    start = content.index(upright, content.index(b"tkhd"))
    path.write_bytes(content[:start] + turned + content[start + len(turned) :])
