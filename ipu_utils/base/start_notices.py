# SPDX-License-Identifier: Apache-2.0
"""What native libraries log while they are imported: held back, and shown if the import fails or ends the process.

Imports the standard library alone.
"""

import contextlib
import os
import subprocess
import sys
from typing import Iterator

LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # variable of the environment: from which level on TensorFlow logs
ERRORS, FATAL = "2", "3"
SECONDS_TO_END = 5.0  # for the filter to pass on the last lines
GOOD, BAD = b"\0good\n", b"\0bad\n"  # no log has such lines
# A process of its own, because the library may end this one, and holds Python's lock while it loads. Only lines that
# look like a log's are held back: others may be of another thread.
FILTER = r"""
import os, re
notice = re.compile(
    rb"WARNING: All log messages before absl|INFO: Created TensorFlow Lite|(INFO|WARNING): \[\w+\.cc:\d+\] |"
    rb"fully_quantize: |"
    rb"[IWEF]\d{4} \d\d:\d\d|\d{4}-\d\d-\d\d [\d:.]+: [IWEF] "
)
held = rest = b""
piece = ended = None
whole = True
while piece != b"" and not ended:
    piece = os.read(0, 65536)
    *lines, rest = (rest + piece).split(b"\n")
    for line in [line + b"\n" for line in lines] + [rest] * (not piece):
        for end in (b"\0good\n", b"\0bad\n"):
            if line.endswith(end):
                ended, line = end, line[:-len(end)]
        if notice.match(line):
            held += line
        elif line:
            os.write(2, line)
            whole = line.endswith(b"\n")
if held and ended != b"\0good\n":
    os.write(2, b"" if whole else b"\n")
    os.write(2, held)
"""

_left_alone = False


def asked_for() -> bool:
    """Did the user ask for warnings or more? What this program sets for itself and for those it starts does not."""
    return os.environ.get(LEVEL, ERRORS) not in (ERRORS, FATAL)


def leave_alone() -> None:
    """Hold nothing back in this process: whoever started it keeps what it says, and needs its last words at once."""
    global _left_alone
    _left_alone = True


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold back what is logged to file descriptor 2 in the block; an error, or the end of the process, shows it."""
    try:
        kept = None if _left_alone else os.dup(2)
    except OSError:  # closed: there is nothing to be seen
        kept = None
    if kept is None:
        yield
        return
    command = [sys.executable, "-I", "-S", "-c", FILTER]
    try:  # In a session of its own: Ctrl-C at the terminal is for this process, whose last words still have to pass.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
    except (OSError, ValueError):
        os.close(kept)
        yield
        return
    end = GOOD
    _flush()
    os.dup2(process.stdin.fileno(), 2)
    try:
        yield
    except Exception:
        end = BAD
        raise
    finally:
        _flush()
        os.dup2(kept, 2)
        os.close(kept)
        with contextlib.suppress(OSError):
            process.stdin.write(end)
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_END)


def _flush() -> None:
    with contextlib.suppress(Exception):  # of whatever stands in its place
        sys.stderr.flush()
