# SPDX-License-Identifier: Apache-2.0
"""YAML files as plain data, bounded in size: nested aliases grow exponentially once somebody walks through them."""

from pathlib import Path
from typing import Any, Tuple, Union

import yaml

from ipu_utils.base.errors import ConfigError
from ipu_utils.base.paths import is_named_pipe

MAX_FILE_BYTES = 65536
MAX_ALIASES = 200
MAX_MERGED_KEYS = 500
MAX_REASON = 400  # characters of what is wrong
MAX_VALUES = 20000  # with every alias written out


class BoundedLoader(yaml.SafeLoader):
    """Plain YAML data, with bounds on aliases."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MAX_ALIASES:
                raise yaml.YAMLError(f"more than {MAX_ALIASES} aliases")
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: Any) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_MERGED_KEYS:
            raise yaml.YAMLError(f"a mapping of more than {MAX_MERGED_KEYS} merged keys")


# AutoML's trainer writes sizes and ratios so. As a list it is plain data like any other; all other tags stay unknown.
BoundedLoader.add_constructor("tag:yaml.org,2002:python/tuple", yaml.SafeLoader.construct_yaml_seq)


def load_yaml(path: Union[str, Path]) -> Any:
    """Parse one YAML file of at most MAX_FILE_BYTES.

    Raises:
      ConfigError: it cannot be read, is not YAML, or is too large once its aliases are resolved.
    """
    if is_named_pipe(path):
        raise ConfigError(f"{path} is a pipe: expected a file.")
    try:
        with open(str(path), "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes: that is not a file of settings.")
    try:
        values = yaml.load(content, Loader=BoundedLoader)  # safe: BoundedLoader is a SafeLoader
        check_plain(values)
    except Exception as error:  # PyYAML lets through what its conversions raise: `!!timestamp x` is an AttributeError.
        raise ConfigError(f"{path} cannot be used as YAML: {_reason(error)}.") from error
    return values


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = " ".join(_without_excerpt(error).split()).rstrip(".")
    text = text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}..."  # it may repeat the file
    return text if isinstance(error, (yaml.YAMLError, ValueError)) else f"a value cannot be converted ({text})"


def _without_excerpt(error: Exception) -> str:
    """The text of an error; of PyYAML's without the line that it repeats and the name that it gives to bytes."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return str(error).replace('in "<byte string>", ', "at ")
    parts = []
    for mark, text in ((error.context_mark, error.context), (error.problem_mark, error.problem)):
        if text:
            parts.append(text if mark is None else f"{text} in line {mark.line + 1}, column {mark.column + 1}")
    return ", ".join(parts)


def check_plain(value: Any) -> None:
    """Raise ValueError unless a value is texts, numbers of 64 bits, true, false, null, and lists and maps of them."""
    _count(value, 0, ())


def _count(value: Any, count: int, parents: Tuple[int, ...]) -> int:
    """Count the values below one, and refuse what is not plain; also an alias of a value inside itself."""
    count += 1
    if count > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values once its aliases are resolved")
    if isinstance(value, (dict, list, tuple)):
        if id(value) in parents:
            raise ValueError("an alias refers to what it is part of")
        members = [*value.values(), *value] if isinstance(value, dict) else value
        for member in members:
            count = _count(member, count, (*parents, id(value)))
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("a number of more than 64 bits")
    elif not isinstance(value, (str, int, float, type(None))):
        raise ValueError(
            f"a value is a {type(value).__name__}: expected a text, a number, true or false, or lists of them"
        )
    return count
