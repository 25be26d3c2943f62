# SPDX-License-Identifier: Apache-2.0
"""The edges of a program: a signal before its imports have ended, or behind its report. Imports next to nothing.

A program calls `begin` before it imports anything else, and then `run`, in which `ipu_utils.base.signals` tells
what was measured. Before `begin` there is Python's own start, some hundredths of a second that no code of a program can
protect: a signal there ends the process as Python does it, SIGINT with a traceback.
"""

import _signal  # `signal` without the names of its numbers, which take longer to import than all of this
import atexit
import os
import sys

TYPE_CHECKING = False  # as in `typing`, which is not imported here
if TYPE_CHECKING:
    from typing import Callable

NAMES = {_signal.SIGINT: "SIGINT", _signal.SIGTERM: "SIGTERM"}
# What loses something when the process ends before its libraries are unloaded: mpirun takes the instance for a failed
# one, and Poplar has not written its profile.
UNLOADED = ("mpi4py", "tensorflow.python.ipu")


def begin() -> None:
    """Let signals end the process at once, without a traceback: nothing was measured yet that could be told."""
    for number in NAMES:
        _signal.signal(number, _end_at_once)


def _end_at_once(number: int, frame: object) -> None:
    try:  # noqa: SIM105 - contextlib may be what is being imported
        os.write(2, f"interrupted by {NAMES[number]}\n".encode())
    except OSError:
        pass  # nobody reads it
    os._exit(128 + number)


def run(script: "Callable[[], int]") -> None:
    """Call a script and end the process with the status it returns, or that of its SystemExit."""
    try:
        status = script()
    except SystemExit as stop:
        if not isinstance(stop.code, int):
            raise
        status = stop.code
    _end(status)


def _end(status: int) -> None:
    """End the process, with the handlers of `begin` up to its last moment.

    Python stops handling signals before it takes itself apart, which lasts longer than many a run where TensorFlow or
    OpenVINO is loaded. So what has to be done at the end is done here, and the rest is left to the system.
    """
    if any(name in sys.modules for name in UNLOADED):
        sys.exit(status)
    try:  # noqa: SIM105
        atexit._run_exitfuncs()
    except Exception:
        pass  # it was printed
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # closed, or `run_script` has told it
    os._exit(status)
