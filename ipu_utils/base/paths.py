# SPDX-License-Identifier: Apache-2.0
"""Where paths lead: through links, to devices and pipes, and to the descriptors that the shell opened for a program."""

import contextlib
import errno
import os
import re
import stat
from pathlib import Path
from typing import Iterable, Iterator, Optional, Union

PathLike = Union[str, Path]
Target = Union[int, Path]  # a descriptor of this process, or a path without links

_MOST_LINKS = 40  # as the kernel follows


def target_of(path: PathLike) -> Target:
    """Where a path leads: all links followed, and of /dev/fd/3, /dev/stdout and the like the descriptor's number."""
    number = _own_descriptor(str(path))
    return Path(os.path.realpath(str(path))) if number is None else number


def _own_descriptor(path: str) -> Optional[int]:
    tables = {"/dev/fd", f"/proc/{os.getpid()}/fd"}
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(os.path.abspath(path))
        folder = os.path.realpath(folder)
        if re.sub("/task/[0-9]+", "", folder) in tables and re.fullmatch("[0-9]{1,9}", name):
            return int(name)
        full = os.path.join(folder, name)
        if not os.path.islink(full):
            return None
        path = os.path.join(folder, os.readlink(full))
    return None


def status_of(target: Target) -> Optional[os.stat_result]:
    """What is at a target; None when nothing is.

    Raises:
      OSError: it cannot be looked at, or the descriptor is not one that this process was started with.
    """
    if isinstance(target, int):
        if not os.get_inheritable(target):  # Opened since, by Python itself.
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return os.fstat(target)
    try:
        return os.stat(str(target))
    except FileNotFoundError:
        return None


def leads_to_stream(path: PathLike) -> bool:
    """Is it a device, a pipe or a descriptor that the shell opened: something that has no file name to be numbered?"""
    try:
        target = target_of(path)
        status = status_of(target)
    except OSError:
        return False
    return isinstance(target, int) or (status is not None and not is_file(status) and not stat.S_ISDIR(status.st_mode))


def is_named_pipe(path: PathLike) -> bool:
    """Is it a pipe of the file system, which would be waited for? One that the shell opened has somebody who writes."""
    try:
        return isinstance(target_of(path), Path) and stat.S_ISFIFO(os.stat(str(path)).st_mode)
    except (OSError, ValueError):
        return False


def is_file(status: os.stat_result) -> bool:
    """Is it a plain file?"""
    return stat.S_ISREG(status.st_mode)


@contextlib.contextmanager
def without_new_folders(places: Iterable[Path]) -> Iterator[None]:
    """Remove at the end the empty folders above some places that were not there at the beginning."""
    new = {parent for place in places for parent in place.absolute().parents if not os.path.exists(str(parent))}
    try:
        yield
    finally:
        for folder in sorted(new, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
