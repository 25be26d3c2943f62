# SPDX-License-Identifier: Apache-2.0
"""Why a command has failed, out of what it wrote to standard error."""

import itertools
import re

LAST_LINES = 10
# What launchers put before each line of an instance, such as `[1,0]<stderr>:`.
_TAG = re.compile(r"\[[^\]]*\]<stderr>: ?")
_ERROR = re.compile(r"(?:\S+: )?error: ")
# Log lines of TensorFlow in the forms that its releases have, of absl and of Poplar.
_LOG = re.compile(
    r"WARNING: All log messages before absl|[IWEF]\d{4} \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d [\d:.]+:? [IWEF] |"
    r"\[?\d{4}-\d\d-\d\d[T ][\d:.,Z]+\]? .*\[(?:info|warning|debug|trace)\]"
)
_TRACEBACK = "Traceback (most recent call last):"


def reason_of(stderr: str) -> str:
    """The last error that a program of this project tells, or the error of the last traceback, else the last lines.

    At most LAST_LINES lines, and none of a library's log unless there is nothing else.
    """
    lines = [_TAG.sub("", line, count=1) if _TAG.match(line) else line for line in stderr.strip().splitlines()]
    told = [line for line in lines if not _LOG.match(line)]
    errors = [number for number, line in enumerate(told) if _ERROR.match(line)]
    if errors:
        return "\n".join(told[errors[-1] :][:LAST_LINES])
    if _TRACEBACK in told:
        start = len(told) - told[::-1].index(_TRACEBACK)
        told = list(itertools.dropwhile(lambda line: line[:1] in ("", " "), told[start:])) or told
    return "\n".join((told or lines)[-LAST_LINES:])
