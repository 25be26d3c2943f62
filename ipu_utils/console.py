# SPDX-License-Identifier: Apache-2.0
"""Standard error and exit statuses: logging, notes, a progress bar, and errors without a traceback."""

import logging
import os
import sys
from typing import Callable, Collection, Iterable, Optional

from ipu_utils.errors import CompiledOnly, UserError

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


def progress_bar(total: int, label: str):
    """A bar on standard error when that is a terminal, else nothing; a context manager with `update()`."""
    from tqdm import tqdm

    return tqdm(total=total, desc=label, disable=None, leave=False, file=sys.stderr)


def status_of(skipped: Collection[str], accepted: bool) -> int:
    """Exit status of a run that is complete but for `skipped` files, which the user may have accepted beforehand."""
    return EXIT_BAD_IMAGES if skipped and not accepted else 0


def run_script(main: Callable[[], Optional[int]]) -> int:
    """Run a script's main function and return its exit status; what the user can mend is one line, not a traceback.

    Args:
      main: returns the status, or None for 0.
    """
    try:
        status = main()
        sys.stdout.flush()
    except CompiledOnly as done:
        print(done)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has stopped (`| head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status or 0
