# SPDX-License-Identifier: Apache-2.0
"""Files that appear complete or not at all, and tables that grow by whole rows."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Sequence, Union

from ipu_utils.errors import ConfigError

PathLike = Union[str, Path]


def write_atomically(path: PathLike, pieces: Sequence[bytes], option: str) -> None:
    """Write pieces one after the other; readers see the old file or the new one, whatever happens meanwhile.

    Missing folders are made.

    Raises:
      ConfigError: it cannot be written there; names the option that chooses the place.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=str(path.parent), prefix=path.name, suffix=".part", delete=False) as file:
            temporary = file.name
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine could leave the new name on an empty file
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # temporary files are the owner's alone
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error, option) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def cannot_write(path: PathLike, error: OSError, option: str) -> ConfigError:
    """The error to raise for a file that cannot be written."""
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
    return ConfigError(
        f"{path} cannot be written ({error.strerror}): {'free space, or ' * full}choose another {option}."
    )


def check_writable(path: PathLike, option: str) -> None:
    """Find out whether a file could be written, before time is spent on what goes into it. Makes missing folders.

    Raises:
      ConfigError: it cannot.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: {option} names a file.")
        with tempfile.NamedTemporaryFile(dir=str(path.parent), prefix=path.name, suffix=".part"):
            pass
    except OSError as error:
        raise cannot_write(path, error, option) from error
