# SPDX-License-Identifier: Apache-2.0
"""Whether a parsed record is whole and what its schema says, so that whoever reads it can trust its types.

`jsonschema` is not among the packages of a run; the part of JSON Schema that `record.schema.json` is written in is
small. Differs from it in two ways: a later release may have added keys, and numbers are bounded, so that no ratio or
sum of them overflows.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

from ipu_utils.base.safe_json import TwiceNamed, finite, quoted

SCHEMA_FILE = Path(__file__).with_name("record.schema.json")
LARGEST = 1e15  # of any number that is calculated with; also of seconds, milliseconds and bytes
SHORTEST_SECONDS, LONGEST_SECONDS = 1e-9, 1e9  # of a sample
DEEPEST = 12  # lists and objects in each other; a record has five, and options may have some

KINDS: Dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: finite(value) is not None,
    "integer": lambda value: finite(value) is not None and value == int(value),
}


@functools.lru_cache(maxsize=None)
def _schema() -> Mapping[str, Any]:
    return json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def first_problem(record: Any) -> Optional[str]:
    """What is wrong with a record, with the place; None when nothing is."""
    return next(_problems(record), None)


def _problems(record: Any) -> Iterator[str]:
    yield from _too_deep("", record, 0)
    yield from _against(_schema(), "", record)
    for number, instance in enumerate(record["samples"]["instances"]):
        for index, seconds in enumerate(instance["seconds"]):
            if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
                place = f"samples.instances[{number}].seconds[{index}]"
                yield f"{place} is {quoted(seconds)}, which is no time of a call"
    for name, rate in record["statistics"]["images_per_second"].items():
        if finite(rate) is not None and rate < 1 / LARGEST:
            yield f"statistics.images_per_second.{name} is {quoted(rate)}, which is no rate"
    for percent in record["statistics"]["latency_ms"]["percentiles"]:
        if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?", percent) or not 0 < float(percent) <= 100:
            yield f"statistics.latency_ms.percentiles has {quoted(percent)}, which is no percentage"


def _too_deep(place: str, value: Any, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        yield f"{place} is nested too deeply"
        return
    if isinstance(value, TwiceNamed):
        yield f"{place or 'it'} has {quoted(value.twice)} twice"
    if isinstance(value, (dict, list)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(one, (dict, list)):
                yield from _too_deep(_below(place, key), one, depth + 1)


def _below(place: str, key: Any) -> str:
    if isinstance(key, int):
        return f"{place}[{key}]"
    name = key if re.fullmatch(r"\w{1,60}", key, re.ASCII) else quoted(key)
    return f"{place}.{name}" if place else name


def _against(rule: Mapping[str, Any], place: str, value: Any) -> Iterator[str]:
    """Yield what is wrong with a value and all that is in it."""
    if "$ref" in rule:
        rule = _schema()["$defs"][rule["$ref"].rpartition("/")[2]]
    kinds = rule.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if kinds and not any(KINDS[kind](value) for kind in kinds):
        yield f"{place or 'it'} is {quoted(value)}, expected {' or '.join(kinds)}"
        return
    allowed = rule.get("enum", [rule["const"]] if "const" in rule else None)
    if allowed is not None and not any(type(value) is type(one) and value == one for one in allowed):
        yield f"{place} is {quoted(value)}, expected {' or '.join(map(str, allowed))}"
    if isinstance(value, str):
        if len(value) < rule.get("minLength", 0) or not re.search(rule.get("pattern", ""), value):
            yield f"{place} is {quoted(value)}"
    elif isinstance(value, dict):
        yield from _in_object(rule, place, value)
    elif isinstance(value, list):
        if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
            yield f"{place} has {len(value)} values"
        for index, one in enumerate(value):
            yield from _against(rule.get("items", {}), _below(place, index), one)
    elif kinds and finite(value) is not None and not _in_range(rule, value):
        yield f"{place} is {quoted(value)}"


def _in_range(rule: Mapping[str, Any], value: float) -> bool:
    return (
        rule.get("minimum", -LARGEST) <= value <= rule.get("maximum", LARGEST)
        and value > rule.get("exclusiveMinimum", -2 * LARGEST)
    )  # fmt: skip


def _in_object(rule: Mapping[str, Any], place: str, value: Mapping[str, Any]) -> Iterator[str]:
    for name in rule.get("required", ()):
        if name not in value:
            yield f"{_below(place, name)} is missing"
    for name, one in value.items():
        inner, known = _rule_of(rule, name)
        if not known:
            yield f"{place} has {quoted(name)}, which does not belong there"
        elif inner is not None:
            yield from _against(inner, _below(place, name), one)


def _rule_of(rule: Mapping[str, Any], name: str) -> Tuple[Optional[Mapping[str, Any]], bool]:
    """The rule for a key of an object, None for any value, and whether the key may be there."""
    patterns = rule.get("patternProperties", {})
    matching = [inner for pattern, inner in patterns.items() if re.search(pattern, name)]
    if name in rule.get("properties", {}):
        return rule["properties"][name], True
    if matching:
        return matching[0], True
    others = rule.get("additionalProperties", True)
    # Where keys are fixed, those of a later release are let through; where they are data, all of them are known.
    return (others, True) if isinstance(others, dict) else (None, others or not patterns)
