# SPDX-License-Identifier: Apache-2.0
"""Which category of a file of annotations is which class of the model. No TensorFlow.

Classes of a model are numbered from one. Files number their categories as they like: COCO with gaps, others from 0 or
without gaps, and the same number is then another thing. Names tell, where both sides have them.
"""

import collections
import re
import unicodedata
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ipu_utils.base.printable import shown
from ipu_utils.outputs.coco_annotations import Annotations, counted
from tf2 import label_util

COCO_CLASSES = 90  # of the models whose names are COCO's unless a label map says otherwise


CategoryOf = Callable[[int], Optional[int]]  # gives the category of a class, None when it has none


class Classes(NamedTuple):
    """What is known about the classes of a model."""

    count: Optional[int] = None
    names: Optional[Dict[int, str]] = None


def classes_of(hparams: Any) -> Classes:
    """Classes of a model by its hparams, or by the header of its executable: num_classes and label_map."""
    count, names = int(hparams.num_classes), label_util.get_label_map(hparams.label_map)
    if names is None or names == label_util.coco:  # An executable's header has COCO's where nothing was said.
        return Classes(count, dict(label_util.coco) if count == COCO_CLASSES else None)
    return Classes(count, {number: name for number, name in names.items() if 0 < number <= count})


def match(annotations: Annotations, classes: Classes) -> Tuple[CategoryOf, List[str]]:
    """Find the category of each class, by number where no name contradicts, else by name; and what is to be said of it.

    Raises:
      UserError: numbers and names contradict each other, or categories are numbered from 0 and no names help.
    """
    ours, theirs = _by_name(classes.names or {}), _by_name(annotations.names)
    same = {theirs[name]: ours[name] for name in theirs if name in ours}  # category -> class
    if all(category == number for category, number in same.items()):
        return int, _by_number(annotations, classes, same)
    lost = [category for category in annotations.used if category not in same]
    moved = next(category for category, number in same.items() if category != number)
    told = f"{annotations.category(moved)} is class {same[moved]} of the model"
    if lost:
        annotations.refuse(
            annotations.category(lost[0]),
            f"has objects, but no class of its name, while {told}: name the classes of the model as the categories "
            "are named (--hparams label_map=FILE), or take these objects out",
        )
    by_class = {number: category for category, number in same.items()}
    return by_class.get, [f"categories matched by name, not by number: {told}"]


def _by_name(names: Dict[int, Optional[str]]) -> Dict[str, int]:
    """Numbers by what a name is compared by, of the names that there are once."""
    found = collections.defaultdict(list)
    for number, name in names.items():
        if name is not None:
            found[re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name).casefold()).strip()].append(number)
    return {name: numbers[0] for name, numbers in found.items() if len(numbers) == 1}


def _by_number(annotations: Annotations, classes: Classes, same: Dict[int, int]) -> List[str]:
    """What is to be said of categories that are the classes of their numbers."""
    used, names = annotations.used, classes.names or {}
    below = [category for category in used if category < 1]
    if below and not same:
        annotations.refuse(
            annotations.category(below[0]),
            "is no class of the model, whose classes are numbered from 1: number categories as the model was trained, "
            "or name its classes as the categories are named (--hparams label_map=FILE)",
        )
    missed = [category for category in used if category < 1 or category > (classes.count or category)]
    if len(missed) == len(used):
        annotations.refuse(
            annotations.category(missed[0]),
            f"is none of the {classes.count} classes of the model, nor is any other that has objects: these are "
            "annotations for another model",
        )
    notes = []
    if missed:
        objects = sum(used[category] for category in missed)
        notes.append(
            f"{counted(objects, 'object')} of categories that are no class of the model count as missed, such as "
            f"{annotations.category(missed[0])}"
        )
    unused = [category for category in annotations.names if category < 1 and category not in used]
    if unused and not same:
        notes.append(
            f"{annotations.category(unused[0])} has no objects and is no class of the model: the others were taken for "
            "the classes of their numbers"
        )
    strange = [one for one in used if one not in same and one in names and annotations.names[one] is not None]
    if strange:
        notes.append(
            f"names of classes and categories differ, numbers were compared: class {strange[0]} is "
            f"{shown(names[strange[0]])}, {annotations.category(strange[0])}"
        )
    return notes
