# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder, or of a pattern of names, are images to be read: no image is opened, no Pillow is needed."""

import contextlib
import glob
import json
import os
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ipu_utils.base.errors import UserError
from ipu_utils.base.printable import shown

EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif",
    ".avifs",
)  # fmt: skip
# Names of pictures that tell by themselves that a run wrote them: `ipu_utils.outputs.picture_names`, ipu_automl_io.py.
_PICTURE = re.compile(r"efficientdet-\w+_\d+(x\d+)?_(in|out)put_b\d+_img\d+\.jpg")
DETECTIONS_FILE = "detections.json"  # lies beside the pictures of a run and names them
_ENTRY = re.compile(rb'\s*[\[,]?\s*\{"file": "(?:[^"\\]|\\.)*", "annotated": ("(?:[^"\\]|\\.)*")')
_ENTRY_BYTES = 1 << 14  # of a line in which both names are
PathLike = Union[str, Path]

NAMES_OF_A_KIND = 3
KINDS = 10
OTHER = "other"  # what kinds beyond the first `KINDS` are counted as


class LeftOut:
    """What of a folder is not taken for an image, counted by kind. Its size does not grow with the folder's.

    Attributes:
      count: how many. counts: the same by kind, an extension or a few words. names: the first of each kind, as paths
        below the root.
    """

    def __init__(self, root: Optional[Path] = None):
        """Nothing is left out of the folder `root` yet."""
        self._root = root
        self.counts: Dict[str, int] = {}
        self.names: Dict[str, List[str]] = {}

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def add(self, kind: str, path: Path) -> None:
        """Count a file below the root."""
        if kind not in self.counts and len(self.counts) >= KINDS:
            kind = OTHER
        self.counts[kind] = self.counts.get(kind, 0) + 1
        names = self.names.setdefault(kind, [])
        if len(names) < NAMES_OF_A_KIND:
            names.append(path.relative_to(self._root).as_posix())

    def kinds(self) -> str:
        """Such as "12 .heic, 1 .txt", the most frequent first."""
        return ", ".join(f"{self.counts[kind]} {shown(kind)}" for kind in self._ordered())

    def describe(self) -> str:
        """Lines for the report: how many, of which kinds, and the first names of each; nothing when there are none."""
        if not self.count:
            return ""
        lines = [f"left out:  {self.count} files or folders that are not read as images"]
        for kind in self._ordered():
            names = ", ".join(map(shown, self.names[kind]))
            more = self.counts[kind] - len(self.names[kind])
            lines.append(f"\t{self.counts[kind]} {shown(kind)}: {names}{f' and {more} more' if more else ''}")
        return "\n".join(lines) + "\n"

    def _ordered(self) -> List[str]:
        return sorted(self.counts, key=lambda kind: (kind == OTHER, -self.counts[kind], kind))


class Listing(NamedTuple):
    """What is in a folder, or what a pattern matches."""

    images: List[Path]  # sorted by name
    left_out: LeftOut
    root: Path  # a folder above all images


def is_pattern(path: PathLike) -> bool:
    """Is it a pattern of names such as `photos/*.jpg`? What is there is the path that it is, whatever its name."""
    return glob.has_magic(str(_there_and_rest(Path(path))[1]))


def _there_and_rest(path: Path) -> Tuple[Path, Path]:
    """The part of a path that is there, and what is behind it: `.` for nothing."""
    there, rest = Path(), list(path.parts)
    while rest and os.path.lexists(str(there / rest[0])):
        there /= rest.pop(0)
    return there, Path(*rest)


def list_images(path: PathLike) -> List[Path]:
    """The images of `list_folder`."""
    return list_folder(path).images


def list_folder(path: PathLike) -> Listing:
    """List the image files in a folder and its subfolders, or those that a pattern matches; count what else is there.

    A file counts as an image by its extension (`EXTENSIONS`, any case). Hidden files and folders and links to folders
    are left out; of what a pattern matches, all folders.

    Raises:
      UserError: not a folder, not readable, or without an image.
    """
    path, pattern = Path(path), is_pattern(path)
    if pattern:
        root, paths = _matching(path)
    elif not path.exists():
        raise UserError(f"--image-path {path} does not exist: give a folder with images.")
    elif not path.is_dir():
        raise UserError(
            f"--image-path {path} is a file, but --dataset-type image-directory reads a folder. Give the folder, "
            "or use --dataset-type single-image or repeated-image."
        )
    else:
        root, paths = path, _below(path)
    found, left_out = [], LeftOut(root)
    for inside, kind in paths:
        if not kind and inside.suffix.lower() not in EXTENSIONS:
            kind = inside.suffix.lower() or "without an extension"
        elif not kind and not inside.is_file() and not inside.is_symlink():
            # A link that leads nowhere is an image that cannot be read, and is to be told; a pipe or socket is none.
            kind = "not a file"
        if kind:
            left_out.add(kind, inside)
        else:
            found.append(inside)
    if found:
        return Listing(sorted(found), left_out, root)
    ends, kinds = " ".join(EXTENSIONS), left_out.kinds()
    if pattern:
        raise UserError(
            f"--image-path {path} matches no image file: expected names that end in one of {ends}; capitals count in a "
            f"pattern. It matches {kinds or 'nothing'}."
        )
    there = f" In it: {kinds}." if kinds else ""
    raise UserError(f"--image-path {path} holds no image: expected files that end in one of {ends}.{there}")


def _below(directory: Path) -> Iterator[Tuple[Path, str]]:
    """What is below a folder, in any order, and the kind that it is left out as: "" where its name has to tell."""

    def unreadable(error: OSError):
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): check its permissions.") from error

    for folder, subfolders, names in os.walk(str(directory), onerror=unreadable):
        for name in sorted(subfolders):
            if name.startswith("."):
                yield Path(folder, name), "hidden"
            elif Path(folder, name).is_symlink():
                yield Path(folder, name), "link to a folder"
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            yield Path(folder, name), "hidden" if name.startswith(".") else ""


def _matching(pattern: Path) -> Tuple[Path, List[Tuple[Path, str]]]:
    """The folder that is there, and as of `_below` what the pattern matches there."""
    root, rest = _there_and_rest(pattern)
    paths = sorted(map(Path, glob.glob(os.path.join(glob.escape(str(root)), str(rest)), recursive=True)))
    # ** matches the folder itself, too.
    return root, [(path, "folder" if path.is_dir() else "") for path in paths if path != root]


def written_pictures(folder: PathLike) -> Set[str]:
    """Names of the pictures in a folder that runs have written, by the list of detections that lies beside them."""
    path, found = os.path.join(str(folder), DETECTIONS_FILE), set()
    with contextlib.suppress(OSError):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                for line in iter(lambda: file.readline(_ENTRY_BYTES), b""):
                    entry = _ENTRY.match(line)
                    if entry is not None:
                        with contextlib.suppress(ValueError):
                            found.add(json.loads(entry[1]))
    return found


def photographs(paths: Sequence[Path], folder: Path, results_dir: Optional[Path] = None) -> List[Path]:
    """Leave out what runs have written: pictures that a list of detections beside them names, or whose names tell by
    themselves, and all of this run's output folder.

    Args:
      paths: image files below `folder`.
      results_dir: the folder that this run writes pictures into; left out when it is inside of `folder`.

    Raises:
      UserError: nothing is left.
    """
    root = os.path.realpath(str(folder))
    results = "" if results_dir is None else os.path.realpath(str(results_dir))
    inside = results.startswith(root.rstrip(os.sep) + os.sep)
    folders = {parent: os.path.realpath(parent) for parent in {str(path.parent) for path in paths}}
    written = {parent: written_pictures(parent) for parent in folders}
    left = [
        path
        for path in paths
        if not _PICTURE.fullmatch(path.name)
        and path.name not in written[str(path.parent)]
        and not (inside and f"{folders[str(path.parent)]}{os.sep}".startswith(results + os.sep))
    ]
    if not left:
        raise UserError(
            f"--image-path {folder} holds no photograph, only {len(paths)} pictures that runs have written: give the "
            "folder of the photographs."
        )
    return left
