# SPDX-License-Identifier: Apache-2.0
"""Unpack .tar.gz files that came from somewhere else: nothing is written outside of the folder. No TensorFlow."""

import gzip
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Union

from ipu_utils.base.errors import UserError
from ipu_utils.base.printable import shown

ARCHIVES = (".tar.gz", ".tgz")
# Far more than the largest published checkpoint has, which is under 1 GiB in a folder with four files: what is beyond
# is a mistake or malice.
MAX_UNPACKED_BYTES = 16 << 30
MAX_MEMBERS, MAX_DEPTH, MAX_NAME = 10_000, 32, 4096
MAX_HEADER_BYTES = 1 << 20  # of the headers of one member, with long names and other extensions
MAX_SHOWN = 200  # characters of a name in a message
READS_AT_END = 100  # tarfile reads on at the end of a file, for ever where a header promises more than there is

PathLike = Union[str, Path]


class _Forward:
    """A file for tarfile that goes forwards only, ends at its end, and counts.

    Sizes in headers may be negative, numbers of entries anything: a reader that follows them goes in circles, or asks
    for more memory than there is.
    """

    def __init__(self, file: BinaryIO):
        self._file, self._at, self._reads_at_end = file, 0, 0

    def tell(self) -> int:
        return self._at

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or position < self._at:
            raise tarfile.ReadError("a header in it leads backwards")
        while self._at < position:
            if not self.read(min(MAX_HEADER_BYTES, position - self._at)):
                raise tarfile.ReadError("unexpected end of data")
        return self._at

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header in it is too large, or of negative size")
        found = self._file.read(size)
        self._at += len(found)
        if self._at > MAX_UNPACKED_BYTES + MAX_MEMBERS * MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"it holds more than {MAX_UNPACKED_BYTES >> 30} GiB")
        if size and not found:
            self._reads_at_end += 1
            if self._reads_at_end > READS_AT_END:
                raise tarfile.ReadError("unexpected end of data")
        return found


class _CheckedInfo(tarfile.TarInfo):
    """A member whose header is whole: by itself tarfile takes a damaged one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_CheckedInfo":
        try:
            info = super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise tarfile.ReadError(f"a header in it is damaged: {error}") from error
        if info.size < 0:
            raise tarfile.ReadError("a header in it is of negative size")
        return info


def unpack(archive: PathLike, folder: PathLike) -> None:
    """Write the files of a .tar.gz or .tgz below a folder, which exists.

    Folders and plain files only: owners, permissions and times in the archive are ignored, and existing links below
    the folder are not followed out of it.

    Raises:
      UserError: the archive is damaged or too large when unpacked, a member is a link, a device or a sparse file, or
        would lie outside of the folder, or the folder cannot be written. What was unpacked before that stays.
    """
    root = Path(folder).resolve()
    left = MAX_UNPACKED_BYTES
    try:
        with gzip.open(str(archive), "rb") as file:
            forward: Any = _Forward(file)
            with tarfile.open(fileobj=forward, mode="r:", tarinfo=_CheckedInfo) as opened:
                for number, member in enumerate(opened):
                    target = _target(member, root, archive)
                    left -= member.size
                    if left < 0 or number >= MAX_MEMBERS:
                        raise UserError(
                            f"{archive} unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB or {MAX_MEMBERS} files: "
                            "not a checkpoint."
                        )
                    _write(opened, member, target)
                while forward.read(MAX_HEADER_BYTES):  # The checksum comes last, behind what tarfile needs.
                    pass
    except (UserError, MemoryError):
        raise
    except Exception as error:  # tarfile lets through what its conversions raise: ValueError, RecursionError, ...
        reason = str(error) or type(error).__name__
        raise UserError(f"{archive} cannot be unpacked ({_short(reason)}); fetch it again.") from error


def _write(opened: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    try:
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        file = open(str(target), "wb")  # noqa: SIM115 - what goes wrong here is another error than below
    except OSError as error:
        raise UserError(f"{_short(str(target))} cannot be written ({error.strerror}).") from error
    with file, opened.extractfile(member) as source:
        for piece in iter(lambda: source.read(MAX_HEADER_BYTES), b""):
            try:
                file.write(piece)
                file.flush()
            except OSError as error:
                raise UserError(f"{_short(str(target))} cannot be written ({error.strerror}): free space.") from error


def _target(member: tarfile.TarInfo, root: Path, archive: PathLike) -> Path:
    """Where a member goes; UserError when that is no place for it."""
    name = _short(member.name)
    if not (member.isfile() or member.isdir()):
        raise UserError(f"{archive} is refused: {name} in it is neither a file nor a folder.")
    if member.issparse():
        raise UserError(f"{archive} is refused: {name} in it is a sparse file; pack it again without --sparse.")
    if member.size < 0 or "\0" in member.name or len(member.name) > MAX_NAME:
        raise UserError(f"{archive} is refused: {name} in it has a name or a size that no file has.")
    parts = PurePosixPath(member.name.replace("\\", "/")).parts
    if len(parts) > MAX_DEPTH:
        raise UserError(f"{archive} is refused: {name} in it lies deeper than {MAX_DEPTH} folders.")
    target = Path(os.path.realpath(str(root.joinpath(*parts))))
    if ".." in parts or (target != root and root not in target.parents):
        raise UserError(f"{archive} is refused: {name} in it would be written outside of the folder.")
    return target


def _short(text: str) -> str:
    text = shown(text)  # which is longer
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
