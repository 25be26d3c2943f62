# SPDX-License-Identifier: Apache-2.0
"""A file of COCO annotations, checked entry by entry and written anew for pycocotools. No TensorFlow.

pycocotools trusts its file: an annotation whose id is 0 counts as missed, `"iscrowd": "0"` as a crowd, and an id that
is text on one side and a number on the other as another image, all without a word. Whatever has one meaning is brought
into one form here, and all else is refused with its place in the file.
"""

import collections
import os
import re
import stat
import unicodedata
from pathlib import Path
from typing import Any, Counter, Dict, Iterator, List, NamedTuple, NoReturn, Optional, Tuple, Union

from ipu_utils.base.errors import UserError
from ipu_utils.base.printable import shown
from ipu_utils.base.safe_json import TwiceNamed, finite, quoted, read_json

Id = Union[int, str]
WHOLE = re.compile(r"-?[0-9]{1,18}")
LIKE = "as in COCO's instances_val2017.json"
MOST_AREA = 1e10  # pixels: pycocotools leaves out what is larger
ROOM = 1.0  # pixels by which boxes in COCO's own files reach beyond their images
UNLISTED = "are of images that they do not list: not used"
NO_AREA = "have no area: that of the box decides between small, medium and large"
ODD_AREA = "have an area that is 0 or larger than their box, by which small, medium and large are told all the same"
EMPTY = "have a box without any width or height, which no detection can match"
BEYOND = "reach beyond their image, where [x, y, width, height] in its pixels is expected"
CROWD = {0: 0, 1: 1, None: 0, "0": 0, "1": 1}  # also of False, True, 0.0 and 1.0, which equal 0 and 1


class ImageEntry(NamedTuple):
    """An image of the file."""

    id: Id  # as the file has it
    parts: Tuple[str, ...]  # of its file name, see `parts_of`
    size: Optional[Tuple[float, float]]  # (height, width), where the file tells


class Annotations:
    """What is known about a set of images.

    Attributes:
      path: of the file.
      dataset: {"images", "annotations", "categories"} with what evaluating needs and nothing else; ids of images are
        those of `key_of`, ids of categories are whole numbers.
      images: entries by file name, each name once.
      names: names of categories by id; None for one without.
      notes: what was found strange and is still usable.
    """

    def __init__(self, path: Path):
        """Read the file; UserError tells the place where something has no meaning, or why it cannot be read."""
        self.path, self.notes = Path(path), []
        self._called = f"--coco-annotations {shown(str(path))}"
        _check_kind(self.path, self._called)
        parsed = read_json(self.path, self._called, f"annotations {LIKE}", constants=True)
        if not isinstance(parsed, dict):
            raise UserError(
                f"{self._called}: expected an object with `images`, `annotations` and `categories`, {LIKE}; "
                f"got {quoted(parsed)}."
            )
        self._check_twice("the file", parsed)
        self.images: List[ImageEntry] = []
        self._sizes: Dict[Id, Optional[Tuple[float, float]]] = {}
        known = self._read_images(parsed)
        self.names = self._read_categories(parsed)
        self.dataset: Dict[str, Any] = {
            "images": [{"id": key_of(image.id)} for image in self.images],
            "annotations": list(self._read_objects(parsed, known)),
            "categories": [{"id": category} for category in self.names],
        }

    @property
    def used(self) -> Dict[int, int]:
        """Number of objects by category, of those that have any, sorted."""
        return dict(sorted(collections.Counter(one["category_id"] for one in self.dataset["annotations"]).items()))

    def refuse(self, place: str, problem: str) -> NoReturn:
        """Raise the error about something in the file."""
        raise UserError(f"{self._called}: {place} {problem}. Mend the file, or name another.")

    def category(self, number: int) -> str:
        """A category for messages: its place in the file, id and name."""
        name = self.names[number]
        return f"{self._places[number]} ({quoted(number)}, {'without a name' if name is None else shown(name)})"

    def _entries(self, parsed: Dict[str, Any], part: str) -> Iterator[Tuple[str, Dict[str, Any]]]:
        """Yield the entries of a list and their places."""
        found = parsed.get(part)
        if not isinstance(found, list):
            got = "it is missing" if part not in parsed else f"got {quoted(found)}"
            self.refuse(part, f"is wrong: expected a list `{part}`, {LIKE}; {got}")
        if not found:
            self.refuse(part, "is an empty list: there is nothing to compare with")
        for number, entry in enumerate(found):
            place = f"{part}[{number}]"
            if not isinstance(entry, dict):
                self.refuse(place, f"is {quoted(entry)}: expected an object, {LIKE}")
            self._check_twice(place, entry)
            yield place, entry

    def _check_twice(self, place: str, entry: Dict[str, Any]) -> None:
        if isinstance(entry, TwiceNamed):
            self.refuse(place, f"has {quoted(entry.twice)} twice: one of the values is wrong")

    def _key(self, place: str, entry: Dict[str, Any], name: str) -> Id:
        key = key_of(self._value(place, entry, name))
        if key is None:
            self.refuse(f"{place}.{name}", f"is {quoted(entry[name])}: expected a whole number or a text")
        return key

    def _value(self, place: str, entry: Dict[str, Any], name: str) -> Any:
        if name not in entry:
            self.refuse(f"{place}.{name}", f"is missing: expected an entry with it, {LIKE}")
        return entry[name]

    def _read_images(self, parsed: Dict[str, Any]) -> Dict[Id, Id]:
        """Fill `images`; return the id that stands for each id: entries of one file name are one image."""
        stands_for: Dict[Id, Id] = {}
        first: Dict[Tuple[str, ...], Id] = {}
        places: Dict[Id, Tuple[str, Tuple[str, ...]]] = {}
        twice: List[str] = []
        for place, entry in self._entries(parsed, "images"):
            key = self._key(place, entry, "id")
            name = self._value(place, entry, "file_name")
            parts = parts_of(name) if isinstance(name, str) else ()
            if not parts:
                self.refuse(f"{place}.file_name", f"is {quoted(name)}: expected the name of an image file")
            other, other_parts = places.setdefault(key, (place, parts))
            if other_parts != parts:
                self.refuse(f"{place}.id", f"is {quoted(entry['id'])}, which is the id of {other}, too")
            size = finite(entry.get("height")), finite(entry.get("width"))
            size = None if None in size or min(size) <= 0 else size
            if parts in first:
                twice.append(name)
            else:
                first[parts] = key
                self.images.append(ImageEntry(entry["id"] if isinstance(entry["id"], str) else key, parts, size))
            stands_for[key] = first[parts]
            self._sizes.setdefault(first[parts], size)
        if twice:
            self.notes.append(
                f"{counted(len(set(twice)), 'image')} of the annotations are listed twice, such as {shown(twice[0])}: "
                "the objects of all entries count"
            )
        return stands_for

    def _read_categories(self, parsed: Dict[str, Any]) -> Dict[int, Optional[str]]:
        names: Dict[int, Optional[str]] = {}
        self._places: Dict[int, str] = {}
        for place, entry in self._entries(parsed, "categories"):
            key = self._key(place, entry, "id")
            if not isinstance(key, int):
                self.refuse(f"{place}.id", f"is {quoted(entry['id'])}: expected a whole number")
            name = entry.get("name")
            name = name if isinstance(name, str) and name.strip() else None
            if names.setdefault(key, name) != name:
                self.refuse(f"{place}.id", f"is {quoted(entry['id'])}, which is the id of {self._places[key]}, too")
            self._places.setdefault(key, place)
        return names

    def _read_objects(self, parsed: Dict[str, Any], known: Dict[Id, Id]) -> Iterator[Dict[str, Any]]:
        """Yield the objects, in their order: pycocotools prefers the first of several that fit equally well."""
        odd: Counter[str] = collections.Counter()
        several = {image for key, image in known.items() if key != image}
        seen: Dict[Tuple[Any, ...], Id] = {}  # objects of images that have several entries
        for place, entry in self._entries(parsed, "annotations"):
            listed_as = self._key(place, entry, "image_id")
            found = self._object(place, entry, odd)
            if listed_as not in known:
                odd[UNLISTED] += 1
                if odd[UNLISTED] == len(parsed["annotations"]):
                    self.refuse(
                        f"{place}.image_id",
                        f"is {quoted(entry['image_id'])}, the id of no image, and so it is with all",
                    )
                continue
            found["image_id"] = image = known[listed_as]
            size, (x, y, width, height) = self._sizes[image], found["bbox"]
            if size is not None and (min(x, y) < -ROOM or x + width > size[1] + ROOM or y + height > size[0] + ROOM):
                odd[BEYOND] += 1
            # An image that is listed again with what is known of it has no more objects for that.
            again = (image, found["category_id"], *found["bbox"], found["iscrowd"])
            if image in several and seen.setdefault(again, listed_as) != listed_as:
                continue
            yield found
        self.notes += [f"{counted(count, 'object')} of the annotations {text}" for text, count in odd.items()]

    def _object(self, place: str, entry: Dict[str, Any], odd: Counter[str]) -> Dict[str, Any]:
        """Read all of an object but for its image, and count what is odd."""
        category = self._key(place, entry, "category_id")
        if category not in self.names:
            self.refuse(f"{place}.category_id", f"is {quoted(entry['category_id'])}, which is the id of no category")
        box = self._box(place, entry)
        crowd = entry.get("iscrowd")
        if isinstance(crowd, (list, dict)) or crowd not in CROWD:
            self.refuse(f"{place}.iscrowd", f"is {quoted(crowd)}: expected 0 or 1")
        width, height = box[2:]
        area = width * height
        if entry.get("area") is None:
            odd[NO_AREA] += 1
        else:
            given = finite(entry["area"])
            if given is None or not 0 <= given <= MOST_AREA:
                self.refuse(f"{place}.area", f"is {quoted(entry['area'])}: expected the number of its pixels")
            # Whole pixels counted along the border make an area up to a row and a column larger than its box.
            if given == 0 < area or given > 1.05 * area + width + height + 1:
                odd[ODD_AREA] += 1
            area = given
        if width * height == 0:
            odd[EMPTY] += 1
        return {"category_id": category, "bbox": box, "area": area, "iscrowd": CROWD[crowd]}

    def _box(self, place: str, entry: Dict[str, Any]) -> List[float]:
        place, given = f"{place}.bbox", self._value(place, entry, "bbox")
        box = [finite(value) for value in given] if isinstance(given, list) and len(given) == 4 else [None]
        if None in box:
            self.refuse(place, f"is {quoted(given)}: expected four numbers [x, y, width, height] in pixels")
        if min(box[2:]) < 0:
            self.refuse(place, f"is {quoted(given)}: expected a width and a height that are not below zero")
        if box[2] * box[3] > MOST_AREA:
            self.refuse(place, f"is {quoted(given)}: expected pixels of an image")
        return box


def key_of(value: Any) -> Optional[Id]:
    """What an id is compared by: a whole number, also one written as 7.0 or "7", or a text; None: it is no id."""
    if isinstance(value, str):
        return int(value) if WHOLE.fullmatch(value) else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def parts_of(name: str) -> Tuple[str, ...]:
    """Folders and file of a path in either notation, with accents in their composed form; empty for no path."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", "."))


def counted(count: int, what: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _check_kind(path: Path, called: str) -> None:
    """Refuse a pipe or a device: annotations are read once for checking and once for the run."""
    try:
        kind = os.stat(str(path)).st_mode
    except (OSError, ValueError):
        return  # Reading will say it.
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise UserError(f"{called} is a pipe or a device: write the annotations to a file first.")
