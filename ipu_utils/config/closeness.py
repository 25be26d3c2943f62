# SPDX-License-Identifier: Apache-2.0
"""Which known word somebody meant who typed another one."""

import difflib
from typing import Any, Iterable, List

CLOSE, CLOSE_ELSEWHERE, LEAST_PART = 0.6, 0.85, 0.55
LEAST_PART_OF_OPTION = 0.5
SHORT = 4  # letters of a part of an option's name that one letter turns into another word


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` when a known value is close, else the empty string.

    Close is what a slip of the finger makes of it, or a good part of it: never another word that shares some letters.
    """
    found = max(known, key=lambda one: _closeness(_folded(str(word)), _folded(one)), default="")
    close = found and _closeness(_folded(str(word)), _folded(found)) >= CLOSE
    return f" Did you mean {found!r}?" if close else ""


def option_meant(typed: str, known: Iterable[str]) -> str:
    """The name of an option that was mistyped, or of which whole parts were typed; the empty string where none is.

    Names of options have parts (`--num-repeats`), and what has another part is another option: `--num-workers` is none
    of ours, however many letters it shares with one.

    Args:
      typed: with or without the dashes in front, parted by `-` or `_`, without a value.
      known: the names to choose from. Of two that are equally close the first is taken.
    """
    word, names = _folded(typed), {one: _folded(one) for one in known}
    if not word:
        return ""
    near = {one: _slips(word, name) for one, name in names.items()}
    found = min((one for one in near if near[one] >= 0), key=lambda one: near[one], default="")
    if found:
        return found
    held = [one for one, name in names.items() if _is_part(word, name)]
    large = [one for one in held if len(word) >= len(names[one]) * LEAST_PART_OF_OPTION]
    return min(large, key=len, default="") or (held[0] if len(held) == 1 and len(word) > SHORT else "")


def _slips(typed: str, name: str) -> int:
    """How many slips of the finger make the one of the other; -1 where it is another name."""
    if typed.replace("-", "") == name.replace("-", ""):
        return 0
    if typed.count("-") != name.count("-"):  # A dash was left out or put in, and perhaps something else.
        distance = _distance(typed.replace("-", ""), name.replace("-", ""))
        return distance if distance == 1 and len(name) > SHORT else -1
    slips = 0
    for one, other in zip(typed.split("-"), name.split("-")):
        if one[:1] not in (other[:1], other[1:2]):  # No slip: `--sorce` is not `--force`.
            return -1
        shorter = min(len(one), len(other))
        distance = _distance(one, other)
        if distance > (1 if shorter <= SHORT + 1 else 2) or (
            distance and shorter <= SHORT and not _is_slip(one, other)
        ):
            return -1
        slips += distance
    return slips


def _is_slip(typed: str, part: str) -> bool:
    """Of short parts, where one letter makes another word: two letters in turn, one left out or one typed twice."""
    if len(typed) > len(part):
        return any(a == b and typed[:at] + typed[at + 1 :] == part for at, (a, b) in enumerate(zip(typed, typed[1:])))
    return len(typed) < len(part) or sorted(typed) == sorted(part)


def _distance(one: str, other: str) -> int:
    """How many letters must be put in, left out, replaced or swapped with the next."""
    before: List[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if last and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _is_part(typed: str, word: str) -> bool:
    """Does every part that was typed begin a part of the word?"""
    parts = word.split("-")
    return all(any(part.startswith(one) for part in parts) for one in typed.split("-"))


def _closeness(typed: str, word: str) -> float:
    """From 0 to 1; a word that begins with another letter, or of which a part was typed, has to be closer."""
    ratio = difflib.SequenceMatcher(None, typed, word).ratio()
    if typed and _is_part(typed, word) and len(typed) > len(word) * LEAST_PART:
        return max(ratio, CLOSE)
    return ratio if typed[:1] == word[:1] or ratio >= CLOSE_ELSEWHERE else 0.0


def _folded(word: str) -> str:
    """A word without what people type in different ways: case, `_` or `-`, dashes in front."""
    return word.strip().lower().replace("_", "-").lstrip("-")
