# SPDX-License-Identifier: Apache-2.0
"""Unpack .tar.gz files that came from somewhere else: nothing is written outside of the folder. No TensorFlow."""

import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Union

from ipu_utils.errors import UserError

ARCHIVES = (".tar.gz", ".tgz")
MAX_UNPACKED_BYTES = 16 << 30  # the largest published checkpoint has under 1 GiB: more is a mistake or malice

PathLike = Union[str, Path]


def unpack(archive: PathLike, folder: PathLike) -> None:
    """Write the files of a .tar.gz or .tgz below a folder, which exists.

    Folders and plain files only: owners, permissions and times in the archive are ignored, and existing links below
    the folder are not followed out of it.

    Raises:
      UserError: the archive is damaged or too large when unpacked, or a member is a link, a device, or would lie
        outside of the folder. What was unpacked before that stays.
    """
    root = Path(folder).resolve()
    left = MAX_UNPACKED_BYTES
    try:
        with tarfile.open(str(archive), "r:gz") as opened:
            for member in opened:
                target = _target(member, root, archive)
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                left -= member.size
                if left < 0:
                    raise UserError(f"{archive} unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB: not a checkpoint.")
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.extractfile(member) as source, open(str(target), "wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            while opened.fileobj.read(1 << 20):  # The checksum comes last, behind what tarfile needs.
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{archive} cannot be unpacked ({error}); fetch it again.") from error


def _target(member: tarfile.TarInfo, root: Path, archive: PathLike) -> Path:
    """Where a member goes; UserError when that is no place for it."""
    if not (member.isfile() or member.isdir()):
        raise UserError(f"{archive} is refused: {member.name} in it is neither a file nor a folder.")
    parts = PurePosixPath(member.name.replace("\\", "/")).parts
    target = Path(os.path.realpath(str(root.joinpath(*parts))))
    if ".." in parts or (target != root and root not in target.parents):
        raise UserError(f"{archive} is refused: {member.name} in it would be written outside of the folder.")
    return target
