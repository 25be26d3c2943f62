# SPDX-License-Identifier: Apache-2.0
"""Standard error and exit statuses: logging, notes, a progress bar, and errors without a traceback."""

import logging
import os
import sys
from typing import Callable, Collection, Iterable, Optional

from ipu_utils.errors import CompiledOnly, UserError
from ipu_utils.interruption import interruptible

log = logging.getLogger(__name__)

LEVELS = {"fatal": logging.CRITICAL}  # the other words are the logging module's own
EXIT_USER_ERROR = 2
EXIT_BAD_IMAGES = 3  # the run is complete, but for files that could not be read
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def setup_logging(level: str) -> None:
    """Send log messages of `level` ("debug" to "fatal") and above to standard error."""
    number = LEVELS.get(level, getattr(logging, level.upper(), logging.WARNING))
    logging.basicConfig(level=number, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def show_notes(notes: Iterable[str]) -> None:
    """Print what the user should know about their options, once, on standard error."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def progress_bar(total: int, label: str, quiet: bool = False):
    """A bar on standard error when that is a terminal, else nothing; a context manager with `update()`."""
    from tqdm import tqdm

    return tqdm(total=total, desc=label, disable=True if quiet else None, leave=False, file=sys.stderr)


def status_of(skipped: Collection[str], accepted: bool) -> int:
    """Exit status of a run that is complete but for `skipped` files, which the user may have accepted beforehand."""
    return EXIT_BAD_IMAGES if skipped and not accepted else 0


def run_script(main: Callable[[], Optional[int]]) -> int:
    """Run a script's main function and return its exit status; what the user can mend is one line, not a traceback.

    Args:
      main: returns the status, or None for 0.
    """
    try:
        with interruptible():
            return _run(main)
    except KeyboardInterrupt as error:
        print(f"interrupted by {getattr(error, 'name', 'SIGINT')}", file=sys.stderr)
        return getattr(error, "status", EXIT_INTERRUPTED)


def _run(main: Callable[[], Optional[int]]) -> int:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # It was closed when we were started.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open until the process ends
        if hasattr(getattr(sys, name), "reconfigure"):
            # A file's name can hold what the terminal's encoding cannot: better escaped than an error.
            getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
        return status or 0
    except CompiledOnly as done:
        print(done)
        return 0
    except UserError as error:
        problem = str(error)
    except BrokenPipeError:
        # Whoever read our output has stopped (`| head`).
        drop_output()
        return 0
    except OSError as error:
        log.debug("unexpected", exc_info=True)
        where = f"{error.filename} cannot be used" if error.filename else "standard output or a file cannot be used"
        problem = (
            f"{where} ({error.strerror or error}): check that it is there, that you may use it, and the free space."
        )
    except MemoryError as error:
        problem = _out_of_memory(error)
    except Exception as error:
        if type(error).__name__ != "ResourceExhaustedError":  # TensorFlow's, which may not be imported here
            raise
        problem = _out_of_memory(error)
    print(f"error: {problem}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        drop_output()
    return EXIT_USER_ERROR


def _out_of_memory(error: Exception) -> str:
    detail = f" ({str(error).splitlines()[0][:200]})" if str(error) else ""
    return f"out of memory{detail}: take a smaller --micro-batch-size, --image-size or --model-name."


def drop_output() -> None:
    """Send what is left of the output nowhere: Python would complain once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
