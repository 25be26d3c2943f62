# SPDX-License-Identifier: Apache-2.0
"""Which entry of a checkpoint is which variable of a network, by names or by their order. No TensorFlow.

AutoML leaves one layer for Keras to name, the backbone's stem, with the convolution in it: in a program that makes
several networks these get counters (`stem_1/conv2d_1`).
"""

import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ipu_utils.base.errors import UserError
from ipu_utils.model.checkpoint_mismatch import VALUE

# Ends of the names that belong to a network; anything else in a checkpoint is an optimiser's or a counter.
LEAVES = re.compile(r"/(depthwise_kernel|pointwise_kernel|kernel|bias|gamma|beta|moving_mean|moving_variance|WSM\w*)$")
_STEM = re.compile(r"(^|/)stem(?:_\d+)?/(conv2d|tpu_batch_normalization)(?:_\d+)?/")
# Kinds of layers that Keras numbers where they have no name of their own.
_COUNTED = re.compile(r"(^|/)(stem|conv2d|depthwise_conv2d|tpu_batch_normalization)_\d+(?=/)")
_LISTED = re.compile(r"(?:(.*)/)?(trainable_variables|variables)/(\d{1,9})" + re.escape(VALUE))
_HUB_BASE = re.compile(r"(.*?)base_model/(.+):0" + re.escape(VALUE))
_HUB_HEAD = re.compile(r"(.*?)(classes|boxes)/(\w+)" + re.escape(VALUE))
_HUB_LAYERS = {"classes": "class_net/class-predict", "boxes": "box_net/box-predict"}

Shape = Tuple[int, ...]


class Match(NamedTuple):
    """The key of each of a network's variables in a checkpoint; one that is not there is missing."""

    keys: List[str]
    how: str  # for the report

    def is_in(self, shapes: Mapping[str, Shape]) -> bool:
        """Are all variables there?"""
        return all(key in shapes for key in self.keys)


class Entry(NamedTuple):
    """One value of a checkpoint that has an order."""

    key: str
    name: str  # "" where it has none
    shape: Optional[Shape]  # None: it is missing


def by_name(wanted: Sequence[str], found: Mapping[str, Sequence[str]]) -> Match:
    """Match variables by their names, in which the counters of the stem do not matter.

    Args:
      wanted: the network's names.
      found: the keys of every name in the checkpoint; a name that is not in it becomes the key of what is missing.

    Raises:
      UserError: a name stands for several keys.
    """
    plain: Dict[str, List[str]] = {}
    for name, keys in found.items():
        if _STEM.search(name):
            plain.setdefault(_STEM.sub(r"\1stem/\2/", name), []).extend(keys)
    chosen, counted = [], 0
    for name in wanted:
        keys = found.get(name, ())
        if not keys:
            keys = plain.get(name, (name,))
            counted += name in plain
        if len(keys) > 1:
            raise UserError(f"it is ambiguous: {name} may be {' or '.join(sorted(keys)[:3])}.")
        chosen.append(keys[0])
    return Match(
        chosen, f"matched by name, {counted} of them without Keras' counters" if counted else "matched by name"
    )


def by_order(wanted: Sequence[str], shapes: Sequence[Shape], entries: Sequence[Entry]) -> Optional[Match]:
    """Match variables by their order, None where that cannot be meant.

    All shapes have to agree, and what names say must not contradict: the kind of variable is the same, and none has the
    name that belongs to another place, but for the counters that Keras gives.

    Args:
      wanted, shapes: of the network's variables.
      entries: of the checkpoint, in its order.
    """
    if [entry.shape for entry in entries] != list(shapes):
        return None
    names = set(wanted)
    if not all(_may_be(entry.name, name, names) for entry, name in zip(entries, wanted)):
        return None
    return Match([entry.key for entry in entries], "matched by order, as all shapes agree")


def _may_be(found: str, name: str, names: "set[str]") -> bool:
    leaf = LEAVES.search(found)
    if not leaf:  # A name that says nothing, such as "Variable".
        return True
    if not name.endswith(leaf[0]):
        return False
    return found not in names or _COUNTED.sub(r"\1\2", found) == _COUNTED.sub(r"\1\2", name)


def listed(shapes: Mapping[str, Shape], count: int) -> Optional[List[str]]:
    """The keys of a SavedModel's list of variables in the order of the model's weights, None where it has no list.

    Keras lists all variables as `variables/<number>`, and the trainable ones a second time, as
    `trainable_variables/<number>`; a value has one key alone, which depends on the release.

    Args:
      shapes: of a checkpoint.
      count: variables of the network, which tells its list from those of its layers.

    Raises:
      UserError: several models have that many variables.
    """
    lists: Dict[str, Dict[str, Dict[int, str]]] = {}
    for key in shapes:
        match = _LISTED.fullmatch(key)
        if match:
            lists.setdefault(match[1] or "", {}).setdefault(match[2], {})[int(match[3])] = key
    sizes = {root: sum(map(len, groups.values())) for root, groups in lists.items()}
    roots = sorted(root for root, size in sizes.items() if size == count)
    if len(roots) > 1:
        raise UserError(f"it is ambiguous: {' and '.join(roots)} are models of {count} variables each.")
    if not roots and len(lists) != 1:
        return None
    root = (roots or list(lists))[0]
    placed = dict(lists[root].get("variables", {}))
    trainable = [key for _, key in sorted(lists[root].get("trainable_variables", {}).items())]
    places = (place for place in range(max(sizes[root], count)) if place not in placed)
    placed.update(zip(places, trainable))
    prefix = f"{root}/variables/" if root else "variables/"
    return [placed.get(place, f"{prefix}{place}{VALUE}") for place in range(count)]


def list_of(key: str) -> Optional[str]:
    """The model of whose list of variables a key is, None for other keys."""
    match = _LISTED.fullmatch(key)
    return (match[1] or "") if match else None


def hub_name(key: str) -> Optional[Tuple[str, str]]:
    """What a key of AutoML's trainer on a hub module says: (what stands before it, the variable's published name).

    The module's variables are attributes named like themselves, with `/` written as `.S`; the last layers are the
    trainer's own.
    """
    match = _HUB_BASE.fullmatch(key)
    if match:
        return match[1], match[2].replace(".S", "/").replace("..", ".")
    match = _HUB_HEAD.fullmatch(key)
    return (match[1], f"{_HUB_LAYERS[match[2]]}/{match[3]}") if match else None
