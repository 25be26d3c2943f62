# SPDX-License-Identifier: Apache-2.0
"""How a command has ended, and why it has failed, out of what it wrote."""

import contextlib
import itertools
import re
import signal
from typing import List

LAST_LINES = 10
SAID_NOTHING = "it said nothing"
# What launchers put before each line of an instance, such as `[1,0]<stderr>:`.
_TAG = re.compile(r"\[[^\]]*\]<std(?:err|out)>: ?")
_ERROR = re.compile(r"(?:\S+: )?error: ")
# Log lines of TensorFlow in the forms that its releases have, of absl and of Poplar.
_LOG = re.compile(
    r"WARNING: All log messages before absl|[IWEF]\d{4} \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d [\d:.]+:? [IWEF] |"
    r"\[?\d{4}-\d\d-\d\d[T ][\d:.,Z]+\]? .*\[(?:info|warning|debug|trace)\]"
)
_TRACEBACK = "Traceback (most recent call last):"


def ended(status: int) -> str:
    """An exit status in words; a negative one, as `subprocess` has it, is the signal that ended the command."""
    with contextlib.suppress(ValueError):  # a number that no signal has
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return f"status {status}"


def reason_of(stderr: str, stdout: str = "") -> str:
    """The last error that a program of this project tells, or the error of the last traceback, else the last lines.

    Those of standard output where standard error has none. At most LAST_LINES lines, and none of a library's log
    unless there is nothing else; empty where there is nothing at all.
    """
    written = [_lines_of(stderr), _lines_of(stdout)]
    told = next(filter(None, [*([line for line in lines if not _LOG.match(line)] for lines in written), *written]), [])
    errors = [number for number, line in enumerate(told) if _ERROR.match(line)]
    if errors:
        return "\n".join(told[errors[-1] :][:LAST_LINES])
    if _TRACEBACK in told:
        start = len(told) - told[::-1].index(_TRACEBACK)
        told = list(itertools.dropwhile(lambda line: line[:1] in ("", " "), told[start:])) or told
    return "\n".join(told[-LAST_LINES:])


def _lines_of(text: str) -> List[str]:
    return [_TAG.sub("", line, count=1) if _TAG.match(line) else line for line in text.strip().splitlines()]
