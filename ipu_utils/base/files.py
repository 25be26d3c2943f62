# SPDX-License-Identifier: Apache-2.0
"""The one writer of files: they appear complete or not at all, wherever their path leads.

A link is followed: its target is written, and the link stays. A new file is written beside its place and moved there at
the end, so that readers see the old file or the new one, whatever ends the program. Where nothing can be moved, bytes
go straight into what is there: into devices, pipes and the descriptors that the shell opened (/dev/fd/3, /dev/stdout),
and, with a warning, into a file whose place cannot be taken, because it is mounted alone or its folder is read-only.
"""

import contextlib
import errno
import functools
import io
import logging
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO, Callable, Iterable, Iterator, Optional

from ipu_utils.base import signals
from ipu_utils.base.errors import ConfigError
from ipu_utils.base.paths import PathLike, Target, is_file, status_of, target_of

log = logging.getLogger(__name__)

_NOT_MOVED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)  # why a place cannot be taken by another file
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class NewFile:
    """A file in the making: write into `file`, then `commit` it to its place or `discard` it."""

    file: BinaryIO  # can be read and positioned too

    def __init__(self, path: PathLike, option: str, *, folders: bool = True, sync: bool = True, owner: bool = True):
        """Begin, without a change to what is there.

        Args:
          path: of the file. option: that chooses the place, for messages.
          folders: make missing folders.
          sync: have the bytes on disk before the file has its name, even if the machine fails.
          owner: let a file that is there pass its owner on, as far as this user may.

        Raises:
          ConfigError: it cannot be written there; names the option.
        """
        self.path, self._option, self._sync, self._keep_owner = Path(path), option, sync, owner
        self._beside: Optional[str] = None
        self._why_in_place: Optional[OSError] = None
        try:
            self._target = target_of(path)
            self.existed = self._begin(folders)
        except OSError as error:
            raise cannot_write(self.path, error, option) from error

    def _begin(self, folders: bool) -> bool:
        if isinstance(self._target, Path) and folders:
            self._target.parent.mkdir(parents=True, exist_ok=True)
        status = status_of(self._target)
        if status is not None:
            if stat.S_ISDIR(status.st_mode):
                raise ConfigError(f"{self.path} is a folder: {self._option} names a file.")
            _check_access(self._target, status)
        self.file = io.BytesIO()
        if status is None or (is_file(status) and isinstance(self._target, Path)):
            try:
                self._open_beside()
            except OSError as error:
                if status is None or error.errno not in _NOT_MOVED:
                    raise
                self._why_in_place = error
        return status is not None

    def _open_beside(self) -> None:
        # A name of its own, however long that of the file is.
        descriptor, self._beside = tempfile.mkstemp(dir=str(self._target.parent), prefix=".", suffix=".part")
        signals.remove_at_the_end(self._beside)
        self.file = os.fdopen(descriptor, "w+b", buffering=0)

    def write(self, piece: bytes) -> int:
        """Append all of it; returns its length."""
        return write_all(self.file.write, piece)

    def commit(self) -> None:
        """Put the file in its place; ConfigError where that is not possible. `file` can still be read."""
        try:
            if self._beside is None or not self._move():
                self._write_in_place()
        except OSError as error:
            raise cannot_write(self.path, error, self._option) from error
        finally:
            self.discard(close=False)

    def _move(self) -> bool:
        if self._sync:
            os.fsync(self.file.fileno())
        self._take_mode()
        try:
            os.replace(self._beside, str(self._target))
        except OSError as error:
            if error.errno not in _NOT_MOVED or not self._target.exists():
                raise
            self._why_in_place = error
            return False
        return True

    def _take_mode(self) -> None:
        """Permissions and owner of the file that was there, else those of any new file."""
        old = status_of(self._target)
        if old is None:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(self._beside, 0o666 & ~umask)  # temporary files are the owner's alone
            return
        if self._keep_owner and hasattr(os, "chown"):
            with contextlib.suppress(OSError):
                os.chown(self._beside, old.st_uid, old.st_gid)
        os.chmod(self._beside, stat.S_IMODE(old.st_mode) & 0o777)

    def _write_in_place(self) -> None:
        if self._why_in_place is not None:
            log.warning(
                "%s is written in place (%s): readers may see a part of it meanwhile.",
                self.path,
                self._why_in_place.strerror,
            )
        size = self.file.seek(0, os.SEEK_END)
        self.file.seek(0)
        with _opened(self._target) as descriptor:
            overwrites = self._why_in_place is not None
            if overwrites:
                lock(descriptor)
                _reserve(descriptor, size)
            for piece in iter(lambda: self.file.read(1 << 20), b""):
                write_all(functools.partial(os.write, descriptor), piece)
            if overwrites:
                os.ftruncate(descriptor, size)

    def discard(self, close: bool = True) -> None:
        """Leave what is there as it is. After `commit` it does nothing but close the file."""
        if self._beside is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._beside)  # It is gone when it was moved.
            signals.is_removed(self._beside)
            self._beside = None
        if close:
            with contextlib.suppress(OSError):
                self.file.close()


def _check_access(target: Target, status: os.stat_result) -> None:
    """Raise OSError when what is there may not be written. A file that its owner protects is not replaced either."""
    if isinstance(target, int):
        import fcntl

        if fcntl.fcntl(target, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "it is open for reading only")
    elif stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.ENXIO, "it is a socket")
    elif not os.access(str(target), os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


@contextlib.contextmanager
def _opened(target: Target) -> Iterator[int]:
    """Open what is there for writing, without a change to it."""
    if isinstance(target, int):
        for stream in (sys.stdout, sys.stderr):  # What was printed before comes first.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        descriptor = os.dup(target)  # Opening it anew would begin at the start of a file, and fail for a socket.
    else:
        descriptor = _open_for_writing(str(target))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_for_writing(path: str) -> int:
    flags = os.O_WRONLY | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        return os.open(path, flags)
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        log.warning("%s is a pipe that nobody reads yet: waiting for its reader.", path)
        return os.open(path, flags)
    os.set_blocking(descriptor, True)
    return descriptor


def lock(descriptor: int) -> None:
    """Wait until no other run holds the lock of an open file, and hold it until the file is closed."""
    try:
        import fcntl
    except ImportError:  # Windows: a single write has to do
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_locked(path: PathLike) -> bool:
    """Does another process hold the lock of a file?"""
    try:
        import fcntl
    except ImportError:
        return False
    with open(str(path), "r+b") as file:
        try:
            # Shared, so that two who ask at the same time do not take each other for the holder.
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _reserve(descriptor: int, size: int) -> None:
    """Have room for so many bytes before the first of them destroys something.

    Raises OSError where there is none; the file is as it was.
    """
    before = os.fstat(descriptor).st_size
    if size > 0 and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno in (*_FULL, errno.EFBIG):
                os.ftruncate(descriptor, before)
                raise


def write_all(write: Callable[[memoryview], int], piece: bytes) -> int:
    """Write all of a piece by a function that may take only its beginning, and returns how much that was."""
    view = memoryview(piece)
    while view:
        view = view[write(view) :]
    return len(piece)


def write_atomically(
    path: PathLike, pieces: Iterable[bytes], option: str, *, folders: bool = True, sync: bool = True, owner: bool = True
) -> None:
    """Write pieces one after the other, as `NewFile` does; for arguments and errors see there."""
    new = NewFile(path, option, folders=folders, sync=sync, owner=owner)
    try:
        for piece in pieces:
            new.write(piece)
        new.commit()
    except OSError as error:
        raise cannot_write(path, error, option) from error
    finally:
        new.discard()


def reason_of(path: PathLike, error: OSError) -> str:
    """Why a file or folder could not be made: a file that stands where a folder is needed is named."""
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        for place in (Path(path), *Path(path).parents):
            if os.path.exists(str(place)) and not os.path.isdir(str(place)):
                return f"{place} is a file, not a folder"
    return error.strerror or str(error)


def cannot_write(path: PathLike, error: OSError, option: str) -> ConfigError:
    """The error to raise for a file that cannot be written."""
    return ConfigError(
        f"{option} {path} cannot be written ({reason_of(path, error)}): "
        f"{'free space, or ' * (error.errno in _FULL)}choose another {option}."
    )


def check_writable(path: PathLike, option: str) -> None:
    """Find out whether a file could be written, before time is spent on what goes into it. Makes missing folders.

    Raises ConfigError where it cannot.
    """
    NewFile(path, option).discard()
