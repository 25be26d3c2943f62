# SPDX-License-Identifier: Apache-2.0
"""JSON that strangers wrote: whatever is in a file, it is a value or a `UserError`. Values are made fit to be shown."""

import json
import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ipu_utils.base.errors import UserError
from ipu_utils.base.paths import is_named_pipe

GZIP = b"\x1f\x8b"
MOST_SHOWN = 60  # characters of a value in a message


class TwiceNamed(dict):
    """An object of a file in which a key stands twice; `twice` is that key. The last value wins, as everywhere."""

    twice = ""


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    marked, names = TwiceNamed(found), [name for name, _ in pairs]
    marked.twice = next(name for name in names if names.count(name) > 1)
    return marked


def _refuse_constant(name: str) -> float:
    raise _NotJsonError(f"{name} is not a number")


class _NotJsonError(ValueError):
    """A word that Python's parser takes and JSON does not have."""


def read_json(path: Path, called: str, expected: str, constants: bool = False) -> Any:
    """Parse a file of UTF-8, with a byte order mark or without, or UTF-16 or UTF-32.

    Args:
      path: the file. called: how messages call it. expected: what it should hold, for messages.
      constants: let NaN and Infinity through, which Python writes as well, for whoever refuses them with their place.

    Raises:
      UserError: it cannot be read, or is not JSON.
    """
    if is_named_pipe(path):
        raise UserError(f"{called} cannot be read (it is a pipe): write its content to a file first.")
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UserError(f"{called} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if content.startswith(GZIP):
        raise UserError(f"{called} cannot be read: it is compressed with gzip. Unpack it first (gunzip).")
    if not content.strip():
        raise UserError(f"{called} cannot be read: it is empty, expected {expected}.")
    try:
        refuse = None if constants else _refuse_constant
        return json.loads(content, object_pairs_hook=_object, parse_constant=refuse)
    except RecursionError as error:
        reason, cause = "it is nested too deeply", error
    except UnicodeDecodeError as error:
        reason, cause = f"byte {error.start} is not {error.encoding.upper()}", error
    except (json.JSONDecodeError, _NotJsonError) as error:
        reason, cause = str(error), error
    except ValueError as error:  # Python's limit on the digits of a whole number
        reason, cause = "a number in it has too many digits", error
    raise UserError(f"{called} cannot be read: it is not a JSON file ({reason}), expected {expected}.") from cause


def finite(value: Any) -> Optional[float]:
    """A number of a file; None when it is none, or too large for one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def quoted(value: Any) -> str:
    """A parsed value in a message: short, on one line, without characters that a terminal obeys."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        if len(value) > 4 or any(isinstance(item, (dict, list)) for item in value):
            return f"a list of {len(value)}"
        return f"[{', '.join(quoted(item) for item in value)}]"
    if isinstance(value, str):
        cut = value if len(value) <= MOST_SHOWN else value[: MOST_SHOWN - 3] + "..."
        return json.dumps(cut, ensure_ascii=not cut.isprintable())
    text = json.dumps(value)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."
