# SPDX-License-Identifier: Apache-2.0
"""What an entry of a benchmarks.yml may hold: everything that can be known to be wrong before a command runs."""

import math
import os
from pathlib import Path
from typing import Any, Iterable

from ipu_utils.base.bounded_search import compiled
from ipu_utils.base.errors import UserError
from ipu_utils.config.closeness import did_you_mean
from ipu_utils.config.options import path_kind

KEYS = ("cmd", "parameters", "data", "derived", "env", "location", "timeout", "requirements_file", "generated",
        "synthetic", "description", "output", "reproducible")  # fmt: skip
INTERPRETERS = ("python", "python3")
REDUCTIONS = {
    "mean": lambda values: sum(values) / len(values),
    "final": lambda values: values[-1],
    "min": min,
    "value": lambda values: values[0],
}
NEEDS_NO_DATA_SET = {"generated": "gen", "synthetic": "synth"}  # key: what a name has in it instead
LONGEST_TIMEOUT = 1_000_000  # seconds; the operating system's clocks take about two million
MOST_VARIANTS = 1000


def check_entry(path: Path, name: Any, entry: Any) -> None:
    """Check one entry of a file but for its parameters, and what they are put into.

    Raises:
      UserError: says which entry, which key, and what is expected.
    """
    if not isinstance(name, str) or not name.isprintable():
        raise UserError(f"{path}, {name!r}: the name of an entry must be a text that can be printed.")
    where = f"{path}, {name}"
    if not isinstance(entry, dict):
        raise UserError(f"{where}: must be a mapping with a cmd.")
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise UserError(f"{where}: {unknown[0]!r} is not a key of a benchmark.{did_you_mean(unknown[0], KEYS)}")
    command = entry.get("cmd")
    if not isinstance(command, str) or not {*INTERPRETERS} & {*command.split()}:
        raise UserError(f"{where}: cmd must be a command with the word python or python3.")
    for section in ("data", "derived", "env"):
        names = entry.get(section) or {}
        if not isinstance(names, dict):
            raise UserError(f"{where}: {section} must be a mapping.")
        _check_names(f"{where}, {section}", names)
    for metric_name, metric in (entry.get("data") or {}).items():
        _check_metric(f"{where}, data, {metric_name}", metric)
    for metric_name, metric in (entry.get("derived") or {}).items():
        if not isinstance(metric, dict) or not isinstance(metric.get("expr"), str):
            raise UserError(f"{where}, derived, {metric_name}: must have an expr.")
    for variable, value in (entry.get("env") or {}).items():
        _check_variable(f"{where}, env, {variable}", variable, value)
    for key in NEEDS_NO_DATA_SET:
        if not isinstance(entry.get(key, False), bool):
            raise UserError(f"{where}: {key} must be true or false, found {entry[key]!r}.")
    if entry.get("timeout") is not None:
        check_timeout(f"{where}: timeout", entry["timeout"])
    _check_location(where, path, entry.get("location"))


def _check_names(where: str, names: Iterable[Any]) -> None:
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise UserError(f"{where}: names must be texts, found {odd[0]!r}: put it in quotes.")


def check_timeout(what: str, value: Any) -> None:
    """Raise UserError unless it is a number of seconds that the operating system can wait."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= LONGEST_TIMEOUT
    if not good:
        raise UserError(f"{what} must be seconds above 0, at most {LONGEST_TIMEOUT}; found {value!r}.")


def is_scalar(value: Any) -> bool:
    """Is it a text, a number, or true or false?"""
    return isinstance(value, (str, int, float))


def can_be_passed(text: str) -> bool:
    """Can a program get it as a word or as a variable?"""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _check_variable(where: str, name: str, value: Any) -> None:
    if not name or "=" in name or not can_be_passed(name):
        raise UserError(f"{where}: the name of a variable must have letters, no = and no null character.")
    if isinstance(value, bool) or not is_scalar(value):
        raise UserError(f"{where}: must be a text or a number, found {value!r}: put it in quotes.")
    if not can_be_passed(str(value)):
        raise UserError(f"{where}: a variable cannot hold {value!r} (a null character, or half a letter).")


def _check_location(where: str, path: Path, location: Any) -> None:
    if location is None:
        return
    if not isinstance(location, str) or not can_be_passed(location):
        raise UserError(f"{where}: location must be the path of a folder, found {location!r}.")
    if path_kind(f"{where}: location", path.resolve().parent / location) == "file":
        raise UserError(f"{where}: location must be a folder, {location!r} is a file.")


def _check_metric(where: str, metric: Any) -> None:
    if not isinstance(metric, dict) or not isinstance(metric.get("regexp"), str):
        raise UserError(f"{where}: must have a regexp.")
    try:
        groups = compiled(metric["regexp"]).groups
    except ValueError as error:
        raise UserError(f"{where}: the regexp cannot be used: {error}.") from error
    if groups != 1:
        raise UserError(f"{where}: the regexp must have one group in parentheses, the number; it has {groups}.")
    reduction = metric.get("reduction_type", "mean")
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise UserError(f"{where}: reduction_type must be one of {', '.join(REDUCTIONS)}; found {reduction!r}.")
    skip = metric.get("skip", 0)
    if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
        raise UserError(f"{where}: skip must be a whole number of at least 0.")


def check_parameters(where: str, parameters: Any) -> None:
    """Check the parameters of an entry, a mapping of comma-separated values or a list of rows.

    Raises:
      UserError: they are neither, or stand for more than MOST_VARIANTS variants.
    """
    if parameters is None:
        return
    if isinstance(parameters, dict):
        names, values = list(parameters), list(parameters.values())
        count = math.prod(len(str(value).split(",")) for value in values)
    elif isinstance(parameters, list) and parameters and all(isinstance(row, list) for row in parameters):
        names, *rows = parameters
        if any(len(row) != len(names) for row in rows):
            raise UserError(f"{where}: every row of parameters needs {len(names)} values, as its first names.")
        if not rows:
            raise UserError(f"{where}: parameters have a row of names, and none of values.")
        values, count = [value for row in rows for value in row], len(rows)
    else:
        raise UserError(f"{where}: parameters must be a mapping, or a list of rows whose first has the names.")
    _check_names(f"{where}, parameters", names)
    if len({*names}) < len(names):
        raise UserError(f"{where}, parameters: a name is there twice.")
    odd = [value for value in values if not is_scalar(value)]
    if odd:
        raise UserError(f"{where}, parameters: values must be texts (with commas between them) or numbers; "
                        f"found {odd[0]!r}.")  # fmt: skip
    if count > MOST_VARIANTS:
        raise UserError(f"{where}, parameters: {count} variants, at most {MOST_VARIANTS} can be run.")
