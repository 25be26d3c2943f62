# SPDX-License-Identifier: Apache-2.0
"""A file that one process writes and others read meanwhile, and whose lock tells whether the writer is still there."""

import functools
import os
import tempfile

from ipu_utils.base.files import cannot_write, lock, write_all
from ipu_utils.base.paths import PathLike


class SharedFile:
    """A file with a name of its own that other processes read while it grows; whoever needs it last removes it.

    It is locked as long as it is open, and so tells whether the process that writes it is still there.
    """

    def __init__(self, folder: PathLike, name: str, option: str):
        """Make an empty file.

        Args:
          folder: is there. name: the beginning of the file's name. option: that chooses the folder, for messages.

        Raises:
          ConfigError: it cannot be made; names the option.
        """
        self._option = option
        try:
            folder = os.path.abspath(str(folder))
            self._descriptor, self.path = tempfile.mkstemp(dir=folder, prefix=name, suffix=".part")
        except OSError as error:
            raise cannot_write(folder, error, option) from error
        lock(self._descriptor)

    def append(self, piece: bytes) -> None:
        """Write all of it behind what is there.

        Raises:
          ConfigError: that is not possible; a part of it may be there.
        """
        try:
            write_all(functools.partial(os.write, self._descriptor), piece)
        except OSError as error:
            raise cannot_write(self.path, error, self._option) from error

    def sync(self) -> None:
        """Have everything where processes on other hosts can see it."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the lock back. The file stays."""
        os.close(self._descriptor)


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
