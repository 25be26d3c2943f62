# SPDX-License-Identifier: Apache-2.0
"""Which image of a folder is which image of a file of annotations. No TensorFlow."""

import collections
import contextlib
import os
import unicodedata
import urllib.parse
from typing import Dict, List, Tuple

from ipu_utils.base.errors import UserError
from ipu_utils.base.printable import shown
from ipu_utils.data.sources import ImageSource
from ipu_utils.outputs.coco_annotations import Annotations, ImageEntry, counted, key_of, parts_of


def match(source: ImageSource, annotations: Annotations) -> Tuple[Dict[int, ImageEntry], List[str]]:
    """Find the entry of each image of a source, by the image's number, and what is to be said of it.

    An entry is the image's when its file name is the path below the folder, or else the longest end of the full path.
    What is left on both sides belongs together when the last parts of the names are alike but for case and percent
    signs, and no other name is like them: folders are moved, and not every file system keeps names as they were.

    Raises:
      UserError: no image is in the annotations, or two images would be the same one.
    """
    names = {number: source.name(number) for number in range(source.count)}
    root = parts_of(os.path.abspath(str(getattr(source, "root", "."))))
    by_parts = {entry.parts: entry for entry in annotations.images}
    found: Dict[int, ImageEntry] = {}
    for number, name in names.items():
        own = parts_of(name)
        full = root + own
        ends = (full[start:] for start in range(len(full)))
        entry = by_parts.get(own) or next((by_parts[end] for end in ends if end in by_parts), None)
        if entry is not None:
            found[number] = entry
    notes = _match_loosely(names, annotations, found)
    if not found:
        first = shown(names[0]) if names else "none"
        known = ", ".join(shown("/".join(entry.parts)) for entry in annotations.images[:2])
        raise UserError(
            f"--coco-annotations {shown(str(annotations.path))} knows none of the {len(names)} images, such as "
            f"{first}: it is of another folder (it knows {known})."
        )
    _check_apart(names, found)
    notes += _other_sizes(source, names, found)
    return dict(sorted(found.items())), notes


def _loose(parts: Tuple[str, ...]) -> str:
    last = parts_of(urllib.parse.unquote(parts[-1]))
    return unicodedata.normalize("NFC", last[-1].casefold()) if last else ""


def _match_loosely(names: Dict[int, str], annotations: Annotations, found: Dict[int, ImageEntry]) -> List[str]:
    """Add what belongs together by the last part alone; return what is to be said of it."""
    taken = {entry.parts for entry in found.values()}
    entries, numbers = collections.defaultdict(list), collections.defaultdict(list)
    for entry in annotations.images:
        if entry.parts not in taken:
            entries[_loose(entry.parts)].append(entry)
    for number, name in names.items():
        if number not in found:
            numbers[_loose(parts_of(name))].append(number)
    pairs, unclear = [], []
    for name, ours in numbers.items():
        theirs = entries.get(name, [])
        if len(ours) == len(theirs) == 1:
            found[ours[0]] = theirs[0]
            pairs.append((names[ours[0]], "/".join(theirs[0].parts)))
        elif theirs:
            unclear.append((names[ours[0]], "/".join(theirs[0].parts)))
    told = []
    if pairs:
        ours, theirs = map(shown, pairs[0])
        told.append(
            f"{counted(len(pairs), 'image')} matched by the last part of the name, such as {ours}: {theirs} in the "
            "annotations"
        )
    if unclear:
        ours, theirs = map(shown, unclear[0])
        told.append(
            f"{counted(len(unclear), 'name')} in several folders, here or in the annotations, not matched, such as "
            f"{ours} and {theirs}: name the folder above with --image-path"
        )
    return told


def _check_apart(names: Dict[int, str], found: Dict[int, ImageEntry]) -> None:
    first: Dict[Tuple[str, ...], str] = {}
    for number, entry in found.items():
        other = first.setdefault(entry.parts, names[number])
        if other != names[number]:
            raise UserError(
                f"{shown(other)} and {shown(names[number])} would both be image {key_of(entry.id)} of the annotations, "
                f"{shown('/'.join(entry.parts))}: rename one, or leave one out."
            )


def _other_sizes(source: ImageSource, names: Dict[int, str], found: Dict[int, ImageEntry]) -> List[str]:
    """Say when images were resized, or are others of the same names: boxes are in the pixels that were annotated."""
    others = []
    for number, entry in found.items():
        size = None
        with contextlib.suppress(UserError):  # A file that cannot be read is told elsewhere.
            size = source.size(number) if entry.size is not None else None
        if size is not None and tuple(size) != entry.size:
            others.append((number, size, entry.size))
    if not others:
        return []
    number, (height, width), (told_height, told_width) = others[0]
    return [
        f"{counted(len(others), 'image')} of another size than the annotations say, such as {shown(names[number])}: "
        f"{width:g}x{height:g} pixels, annotated {told_width:g}x{told_height:g}"
    ]
