# SPDX-License-Identifier: Apache-2.0
"""Tar archives written header by header, so that they may hold what no program writes."""

import gzip
import struct
from typing import Optional, Tuple

END = bytes(1024)
BLOCK = 512


def base256(number: int) -> bytes:
    """A number as GNU tar writes those that octal digits do not hold; it may be negative."""
    field = struct.pack(">q", number).rjust(12, b"\xff" if number < 0 else b"\x00")
    return bytes([field[0] | 0x80]) + field[1:]


def header(name: bytes = b"a", size: int = 0, kind: bytes = b"0", size_field: Optional[bytes] = None) -> bytes:
    """A header of the POSIX form with a right checksum; `size_field` is written as it is."""
    block = bytearray(BLOCK)
    block[: len(name[:100])] = name[:100]
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124:136] = b"%011o\0" % size if size_field is None else size_field[:12].ljust(12, b"\0")
    block[136:148], block[148:156], block[156:157] = b"0" * 11 + b"\0", b" " * 8, kind[:1]
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    """Content, filled up to whole blocks."""
    return content + bytes(-len(content) % BLOCK)


def member(name: bytes, content: bytes, kind: bytes = b"0") -> bytes:
    """A header and what it is of."""
    return header(name, len(content), kind) + padded(content)


def pax(*records: Tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """An extended header with (key, value) records, for the member behind it (`x`) or for all that follow (`g`)."""
    return member(b"pax", b"".join(_record(*record) for record in records), kind)


def _record(key: bytes, value: bytes) -> bytes:
    length = next(n for n in range(9999) if len(b"%d %s=%s\n" % (n, key, value)) == n)
    return b"%d %s=%s\n" % (length, key, value)


def compressed(content: bytes) -> bytes:
    """The same bytes for the same content at any time of day."""
    packed = gzip.compress(content, 1)
    return packed[:4] + bytes(4) + packed[8:]
