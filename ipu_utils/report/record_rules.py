# SPDX-License-Identifier: Apache-2.0
"""Whether a parsed record is whole and what its schema says, so that whoever reads it can trust its types.

jsonschema validates, with two differences: a later release may have added keys, and numbers are bounded, so that no
ratio or sum of them overflows.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any, Iterator, Optional

from ipu_utils.base.safe_json import TwiceNamed, finite, quoted

SCHEMA_FILE = Path(__file__).with_name("record.schema.json")
LARGEST = 1e15  # of any number that is calculated with; also of seconds, milliseconds and bytes
SHORTEST_SECONDS, LONGEST_SECONDS = 1e-9, 1e9  # of a sample
DEEPEST = 12  # lists and objects in each other; a record has five, and options may have some


@functools.lru_cache(maxsize=None)
def validator() -> Any:
    """jsonschema's validator of records, which is imported where records are read.

    Raises:
      ImportError: it is not installed, or does not work.
    """
    from jsonschema import Draft202012Validator, validators

    numbers = Draft202012Validator.TYPE_CHECKER.redefine_many({
        "number": lambda _, value: finite(value) is not None and abs(value) <= LARGEST,
        "integer": lambda _, value: finite(value) is not None and abs(value) <= LARGEST and value == int(value),
    })  # fmt: skip
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"), object_hook=_open)
    return validators.extend(Draft202012Validator, type_checker=numbers)(schema)


def _open(rule: Any) -> Any:
    """Where keys are fixed, those of a later release are let through; where they are data, all of them are known."""
    if rule.get("additionalProperties") is False and "patternProperties" not in rule:
        del rule["additionalProperties"]
    return rule


def first_problem(record: Any) -> Optional[str]:
    """What is wrong with a record, with the place; None when nothing is."""
    return next(_problems(record), None)


def _problems(record: Any) -> Iterator[str]:
    yield from _too_deep("", record, 0)
    yield from map(_told, validator().iter_errors(record))
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


def _told(error: Any) -> str:
    """What a ValidationError of jsonschema says, in this project's words."""
    place = functools.reduce(_below, error.absolute_path, "")
    rule, value, wanted = error.validator, error.instance, error.validator_value
    if rule == "required":
        return f"{_below(place, next(name for name in wanted if name not in value))} is missing"
    if rule == "additionalProperties":
        known = "|".join(error.schema["patternProperties"])
        return f"{place} has {quoted(next(k for k in value if not re.search(known, k)))}, which does not belong there"
    if rule in ("minItems", "maxItems"):
        return f"{place} has {len(value)} values"
    expected = {"type": wanted, "const": [wanted], "enum": wanted}.get(rule, ())
    if isinstance(expected, str):
        expected = [expected]
    if rule == "type" and abs(finite(value) or 0) > LARGEST:
        expected = []  # it is a number, and too large
    return f"{place or 'it'} is {quoted(value)}" + (", expected " if expected else "") + " or ".join(map(str, expected))
