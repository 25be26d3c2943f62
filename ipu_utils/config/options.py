# SPDX-License-Identifier: Apache-2.0
"""What an option is: its default, its help text and the one check that flags, presets and Python callers share.

The options themselves are in `model_options.py`, `device_options.py` and `run_options.py`.
"""

import dataclasses
import enum
import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Union

from ipu_utils.base.errors import ConfigError
from ipu_utils.config.closeness import did_you_mean
from ipu_utils.config.facets import Facets

BOOLEAN_WORDS = {
    **dict.fromkeys(("true", "t", "1", "yes", "y"), True),
    **dict.fromkeys(("false", "f", "0", "no", "n"), False),
}
MOST_QUOTED = 200  # characters of a value in a message
MIN_IMAGE_SIDE = 8  # One cell of the finest level, whose stride is 8 pixels.
MAX_IMAGE_SIDE = 8192
MAX_NAME_BYTES = 255  # of a file or folder
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class Word(str, enum.Enum):
    """An Enum that is, prints and compares as its string."""

    def __str__(self) -> str:
        return self.value


def shortened(text: str) -> str:
    """A text for a message, of at most 60 letters."""
    return text if len(text) <= 60 else text[:57] + "..."


# Names that options had before, which commands and presets may still use.
FORMER_NAMES = {"preset": "score_preset"}


def flag_of(name: str) -> str:
    """The command line's spelling of an option: `micro_batch_size` is `--micro-batch-size`."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Kind:
    """A sort of value: how it is converted, what to call it in a message and in the help text.

    `convert` takes text from the command line, a scalar from YAML or the finished value, and raises ValueError for
    what it cannot take; the exception's own text is appended to the message as a hint.
    """

    expected: str
    metavar: str
    convert: Callable[[Any], Any]
    words: Optional[Mapping[str, Any]] = None  # what may be typed, where that is a fixed set
    is_path: bool = False
    is_written_file: bool = False
    typed_as: Callable[[Any], str] = str  # a value that has no word and is no boolean

    def text_of(self, value: Any) -> str:
        """The value as one would type it; "none" where there is none."""
        if isinstance(value, bool) or value is None:
            return str(value).lower()
        return next((word for word, known in (self.words or {}).items() if known == value), self.typed_as(value))


def boolean() -> Kind:
    """True or False, or one of BOOLEAN_WORDS in any case."""

    def convert(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        if str(value).strip().lower() not in BOOLEAN_WORDS:
            raise ValueError
        return BOOLEAN_WORDS[str(value).strip().lower()]

    return Kind(f"one of {', '.join(BOOLEAN_WORDS)}", "true|false", convert)


def whole_number(at_least: int, at_most: Optional[int] = None) -> Kind:
    """An integer within bounds, both included."""

    def convert(value: Any) -> int:
        if isinstance(value, (bool, float)):
            raise ValueError
        number = int(value)
        if number < at_least or (at_most is not None and number > at_most):
            raise ValueError
        return number

    bounds = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    return Kind(f"a whole number {bounds}", "N", convert)


def positive_number(at_most: float = math.inf, at_least: float = 0) -> Kind:
    """A finite number above zero, of at least `at_least` and up to `at_most`."""

    def convert(value: Any) -> float:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if not (0 < number <= at_most and at_least <= number and math.isfinite(number)):
            raise ValueError
        return number

    least = f"from {at_least:g}" if at_least else "above 0"
    return Kind(f"a number {least}" + ("" if at_most == math.inf else f" and up to {at_most:g}"), "X", convert)


def percents() -> Kind:
    """Percentiles, comma-separated: a tuple of numbers above 0 and up to 100, ascending, each once."""

    def convert(value: Any) -> Tuple[float, ...]:
        parts = value if isinstance(value, tuple) else str(value).split(",")
        numbers = sorted({float(part) for part in parts})
        if not numbers or not all(0 < number <= 100 for number in numbers):
            raise ValueError
        return tuple(numbers)

    def typed_as(numbers: Tuple[float, ...]) -> str:
        return ",".join(f"{number:g}" for number in numbers)

    return Kind("percentiles above 0 and up to 100, such as 50,99.9", "P,P,...", convert, typed_as=typed_as)


def choice(
    known: Mapping[str, Any],
    metavar: Optional[str] = None,
    aliases: Optional[Mapping[str, str]] = None,
    hint: Callable[[str], str] = lambda typed: "",
) -> Kind:
    """One of a fixed set of words, each standing for a value; `aliases` are other words for some.

    Where there are aliases, capitals and what is between the parts of a word (`-`, `_`, a space) do not count.
    `hint` gives what is to be said of a word that means something else, or nothing.
    """
    spelt = {_letters(word): meaning for word, meaning in {**{name: name for name in known}, **(aliases or {})}.items()}

    def convert(value: Any) -> Any:
        if value in known:
            return known[value]
        if aliases and isinstance(value, str) and value == value.strip() and _letters(value) in spelt:
            return known[spelt[_letters(value)]]
        if value in known.values():  # the value itself, from Python
            return next(meaning for meaning in known.values() if meaning == value)
        raise ValueError(hint(str(value)) or did_you_mean(value, known))

    return Kind(f"one of {', '.join(known)}", metavar or "|".join(known), convert, known)


def _letters(word: str) -> str:
    return re.sub("[-_ ]", "", word).lower()


def words(*names: str, metavar: Optional[str] = None, **more: Any) -> Kind:
    """One of a fixed set of words that stand for themselves; for more see `choice`."""
    return choice({name: name for name in names}, metavar, **more)


def text(metavar: str = "TEXT") -> Kind:
    """Any string."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError
        return value

    return Kind("a text", metavar, convert)


def path(metavar: str, written_file: bool = False) -> Kind:
    """A path in the file system, as typed; `~` is expanded, because presets are not read by a shell."""

    def convert(value: Any) -> Path:
        if not isinstance(value, (str, Path)) or not str(value).strip():
            raise ValueError
        if "\0" in str(value):
            raise ValueError(" A path has no null character.")
        if isinstance(value, str) and ADDRESS.match(value):
            raise ValueError(" It is an address, and only files of this machine are read and written.")
        try:
            expanded = Path(value).expanduser()
        except RuntimeError:
            raise ValueError(f" There is no user {Path(value).parts[0]!r} whose home it could be.") from None
        if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in expanded.parts):
            raise ValueError(f" A name in it is longer than {MAX_NAME_BYTES} bytes, which no file system takes.")
        return expanded

    return Kind("a path", metavar, convert, is_path=True, is_written_file=written_file)


def count_or_path(at_most: int, metavar: str) -> Kind:
    """A number of things, from 1, or a path where they are: "16" is a number, "./16" a path."""
    count, other = whole_number(1, at_most), path(metavar)

    def convert(value: Any) -> Union[int, Path]:
        is_number = isinstance(value, int) or (isinstance(value, str) and value.strip().isdigit())
        return count.convert(value) if is_number else other.convert(value)

    return Kind(f"a path, or {count.expected}", metavar, convert)


def image_size() -> Kind:
    """One number or WIDTHxHEIGHT -> (height, width) in pixels; a tuple from Python is (height, width) already."""

    def convert(value: Any) -> Tuple[int, int]:
        if isinstance(value, tuple) and len(value) == 2:
            height, width = value
        else:
            match = re.fullmatch(r"(\d+)(?:x(\d+))?", str(value).strip().lower(), re.ASCII)
            if match is None or isinstance(value, bool):
                raise ValueError
            width, height = int(match[1]), int(match[2] or match[1])
        if not all(MIN_IMAGE_SIDE <= side <= MAX_IMAGE_SIDE for side in (height, width)):
            raise ValueError
        return int(height), int(width)

    sides = f"each side from {MIN_IMAGE_SIDE} to {MAX_IMAGE_SIDE} pixels"
    expected = f"one number or WIDTHxHEIGHT, {sides}"
    return Kind(expected, "SIZE|WIDTHxHEIGHT", convert, typed_as=lambda size: f"{size[1]}x{size[0]}")


def path_kind(flag: str, given: Path) -> str:
    """What an option's path leads to: "file", "folder", or the empty string for nothing.

    Raises:
      ConfigError: a pipe, which would be waited for, or a device; or the system does not let us look.
    """
    try:
        mode = os.stat(str(given)).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last of a null character
        return ""
    except OSError as error:
        raise ConfigError(f"{flag} {given} cannot be looked at ({error.strerror}): check the path.") from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise ConfigError(f"{flag} {given} is a pipe or a device: expected a file.")
    return "folder" if stat.S_ISDIR(mode) else "file"


@dataclass(frozen=True)
class Rule:
    """Everything about one option except its name."""

    kind: Kind
    help: str
    default: Any
    default_text: str  # how the help text quotes the default
    facets: Facets
    first: Optional[int]  # its place among the options that --help shows first, for whoever begins

    def check(self, name: str, value: Any) -> Any:
        """Return `value` converted.

        Raises:
          ConfigError: says what was found and what was expected; names the option by its flag.
        """
        if value is None and self.default is None:
            return None
        try:
            return self.kind.convert(value)
        except (ValueError, TypeError) as error:
            hint = str(error) if str(error).startswith(" ") else ""
            found = str(value) if isinstance(value, Word) else repr(value)
            found = found if len(found) <= MOST_QUOTED else f"{found[:MOST_QUOTED]}... ({len(found)} characters)"
            raise ConfigError(f"{flag_of(name)} must be {self.kind.expected}; got {found}.{hint}") from None


def option(
    default: Any, kind: Kind, help: str, default_text: str = "", *, facets: Facets, first: Optional[int] = None
) -> Any:
    """A dataclass field that is also a command-line option and a preset key."""
    rule = Rule(kind, help, default, default_text or kind.text_of(default), facets, first)
    return dataclasses.field(default=default, metadata={"rule": rule})


def switch(help: str, *, facets: Facets, first: Optional[int] = None) -> Any:
    """An `option` that is off by default."""
    return option(False, boolean(), help, facets=facets, first=first)


def rules_of(section: Any) -> Dict[str, Rule]:
    """Option name -> rule, in the order of the dataclass's fields."""
    return {field.name: field.metadata["rule"] for field in dataclasses.fields(section) if "rule" in field.metadata}


class Checked:
    """Base of the configuration's dataclasses: converts and checks every option, whoever builds the object."""

    def __post_init__(self) -> None:
        for name, rule in rules_of(self).items():
            object.__setattr__(self, name, rule.check(name, getattr(self, name)))
