# SPDX-License-Identifier: Apache-2.0
"""Image files that Pillow does not write, byte by byte: PNG and TIFF of any depth, AVIF, and the starts of others."""

import base64
import struct
import zlib
from typing import Any, Dict, Optional, Sequence

import numpy as np

# 20 x 12 pixels, the colour (12 x, 20 y, 60); the second is the same with the order to turn it clockwise (irot).
AVIF = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAOcGl0bQAA"
    "AAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAVAAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBycAAAAEtp"
    "cGNvAAAAFGlzcGUAAAAAAAAAFAAAAAwAAAAQcGl4aQAAAAADCAgIAAAADGF2MUOBAAwAAAAAE2NvbHJuY2x4AAEADQAGgAAAABdpcG1hAAAAAAAAAAEA"
    "AQQBAoMEAAAAXG1kYXQSAAoJGBDnbRAQ0GhAMkUTx4eGZQGGGH4QAAAAV9rmmUlleogAwMb4/rUthNodeSZgUKAPjcajw8ifAVfBRHra2/Q+vLWeGILf"
    "K2Qoo8t0qcHa4UA="
)
AVIF_ON_ITS_SIDE = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAAD1bWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAOcGl0bQAA"
    "AAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAEdAAAAVAAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAAB0aXBycAAAAFRp"
    "cGNvAAAAFGlzcGUAAAAAAAAAFAAAAAwAAAAQcGl4aQAAAAADCAgIAAAADGF2MUOBAAwAAAAAE2NvbHJuY2x4AAEADQAGgAAAAAlpcm90AwAAABhpcG1h"
    "AAAAAAAAAAEAAQUBAoMEhQAAAFxtZGF0EgAKCRgQ520QENBoQDJFE8eHhmUBhhh+EAAAAFfa5plJZXqIAMDG+P61LYTaHXkmYFCgD43Go8PInwFXwUR6"
    "2tv0Pry1nhiC3ytkKKPLdKnB2uFA"
)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\n0 0 40 30 rectfill\nshowpage\n%%EOF\n"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content) & 0xFFFFFFFF)


def png(
    values: np.ndarray, bits: int, transparent: Optional[Sequence[int]] = None, before: bytes = b"", behind: bytes = b""
) -> bytes:
    """A PNG of grey [H, W] or RGB [H, W, 3] samples below 2**bits.

    Args:
      transparent: samples of the transparent colour. before, behind: chunks around the pixels.
    """
    height, width = values.shape[:2]
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        rows = [_packed(row.reshape(-1), bits) for row in values]
    header = struct.pack(">IIBBBBB", width, height, bits, 0 if values.ndim == 2 else 2, 0, 0, 0)
    key = b"" if transparent is None else _chunk(b"tRNS", np.array(transparent, ">u2").tobytes())
    pixels = _chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + key + before + pixels + behind + _chunk(b"IEND", b"")


def exif_chunk(value: int, tag: int = 274) -> bytes:
    """A PNG's chunk with an EXIF tag, by default the orientation."""
    return _chunk(b"eXIf", struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, tag, 3, 1, value, 0, 0))


def xmp_chunk(orientation: int) -> bytes:
    """A PNG's chunk with an orientation in XMP."""
    return _chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="%d"/>' % orientation)


def _packed(samples: np.ndarray, bits: int) -> bytes:
    digits = (samples.astype(np.uint16)[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.astype(np.uint8)).tobytes()


def tiff(values: np.ndarray, bits: Optional[int] = None, more: Optional[Dict[int, int]] = None, **tags: Any) -> bytes:
    """An uncompressed TIFF of one channel, little-endian.

    Args:
      values: [H, W]; their type says the sample format. bits: fewer than the type's, for whole numbers.
      more: further tags, of type LONG. tags: `photometric` (0: white is zero; None: not told; 1 by default) and
        `orientation`.
    """
    height, width = values.shape
    depth = bits or values.dtype.itemsize * 8
    whole = values.astype(values.dtype.newbyteorder("<")).tobytes()
    pixels = whole if bits is None else b"".join(_packed(row, bits) for row in values)
    entries: Dict[int, Any] = {
        256: width,
        257: height,
        258: depth,
        259: 1,
        262: tags.get("photometric", 1),
        274: tags.get("orientation", 1),
        277: 1,
        278: height,
        279: len(pixels),
        339: {"u": 1, "i": 2, "f": 3}[values.dtype.kind],
    }
    entries = {tag: value for tag, value in sorted({**entries, 273: 8, **(more or {})}.items()) if value is not None}
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items()) + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + directory
