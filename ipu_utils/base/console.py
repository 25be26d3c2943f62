# SPDX-License-Identifier: Apache-2.0
"""Standard error and exit statuses: logging, notes, a progress bar, and errors without a traceback.

What is printed passes `EscapingStream`, so that no name in it reaches the terminal as a command of the terminal's. Line
ends pass: whoever prints a name puts it through `base.printable.shown`, which errors, notes and log messages do.
"""

import contextlib
import logging
import os
import sys
from typing import IO, Any, Callable, Collection, Iterable, Optional

from ipu_utils.base import missing_packages
from ipu_utils.base.errors import CompiledOnly, NotSupportedError, UserError
from ipu_utils.base.printable import shown, shown_lines
from ipu_utils.base.signals import as_interruption, interruptible, remove_temporary

log = logging.getLogger(__name__)

EXIT_USER_ERROR = 2
EXIT_BAD_IMAGES = 3  # the run is complete, but for files that could not be read
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
REASON_VARIABLE = "EFFICIENTDET_REASON_FILE"  # names a file for the error that ends a program; a sweep asks its cells
NOT_SUPPORTED = "not supported: "  # begins the reason there where it is a `NotSupportedError`


class EscapingStream:
    """A text stream that spells what a terminal would obey; line ends and tabs pass."""

    def __init__(self, stream: IO[str]):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text as it is shown; returns its length."""
        self.stream.write(shown_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class OneLineFormatter(logging.Formatter):
    """A message is one line, whatever is in it; a traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the method of logging's
        return shown(super().formatMessage(record))


def setup_logging(level: str) -> None:
    """Send log messages of `level` ("debug" to "fatal") and above to standard error."""
    number = getattr(logging, level.upper(), logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=number, handlers=[handler])


def show_notes(notes: Iterable[str]) -> None:
    """Print what the user should know about their options, once, on standard error."""
    for note in notes:
        print(f"note: {shown(note)}", file=sys.stderr)


def progress_bar(total: Optional[int], label: str, quiet: bool = False, **more: Any):
    """A bar on standard error when that is a terminal, else nothing; a context manager with `update()`.

    `more` is tqdm's. The bar moves the cursor, which an `EscapingStream` would spell.
    """
    from tqdm import tqdm

    file = sys.stderr.stream if isinstance(sys.stderr, EscapingStream) else sys.stderr
    return tqdm(total=total, desc=shown(label), disable=True if quiet else None, leave=False, file=file, **more)


def leave_reason(problem: str) -> None:
    """Write the error that ends this program into the file that the environment names, if it does."""
    path = os.environ.get(REASON_VARIABLE)
    if path:
        with contextlib.suppress(OSError), open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(shown_lines(problem))


def status_of(skipped: Collection[str], accepted: bool) -> int:
    """Exit status of a run that is complete but for `skipped` files, which the user may have accepted beforehand."""
    return EXIT_BAD_IMAGES if skipped and not accepted else 0


def run_script(main: Callable[[], Optional[int]]) -> int:
    """Run a script and return its exit status, 0 for None; what the user can mend is one line, not a traceback."""
    try:
        with interruptible():
            return _run(main)
    except KeyboardInterrupt as error:
        remove_temporary()  # what a signal between two instructions has left
        print(f"interrupted by {getattr(error, 'name', 'SIGINT')}", file=sys.stderr)
        return getattr(error, "status", EXIT_INTERRUPTED)


def _run(main: Callable[[], Optional[int]]) -> int:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # It was closed when we were started.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open until the process ends
        if hasattr(getattr(sys, name), "reconfigure"):
            # A file's name can hold what the terminal's encoding cannot: better escaped than an error.
            getattr(sys, name).reconfigure(errors="backslashreplace")
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (EscapingStream(stream) for stream in before)
    try:
        return _run_escaped(main)
    finally:
        sys.stdout, sys.stderr = before


def _run_escaped(main: Callable[[], Optional[int]]) -> int:
    kind = ""
    try:
        with as_interruption():
            try:
                status = main()
            except SystemExit as end:
                if end.code:
                    raise
                status = 0  # of --help, which may not have been written yet
        sys.stdout.flush()
        return status or 0
    except CompiledOnly as done:
        print(shown(done))
        return 0
    except UserError as error:
        problem = str(error)
        kind = NOT_SUPPORTED if isinstance(error, NotSupportedError) else ""
    except BrokenPipeError:
        # Whoever read our output has stopped (`| head`).
        drop_output()
        return 0
    except OSError as error:
        log.debug("unexpected", exc_info=True)
        where = f"{error.filename} cannot be used" if error.filename else "standard output or a file cannot be used"
        problem = missing_packages.describe(error) or shown(
            f"{where} ({error.strerror or error}): check that it is there, that you may use it, and the free space."
        )
    except Exception as error:
        # The second is TensorFlow's, which may not be imported here.
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            first = shown(str(error).strip().split("\n")[0][:200])
            detail = f" ({first})" if first else ""
            problem = f"out of memory{detail}: take a smaller --micro-batch-size, --image-size or --model-name."
        else:
            problem = missing_packages.describe(error)
            if problem is None:
                leave_reason(f"{type(error).__name__}: {error}")
                raise
            log.debug("unexpected", exc_info=True)
    print(f"error: {problem}", file=sys.stderr)
    leave_reason(kind + problem)
    try:
        sys.stdout.flush()
    except OSError:
        drop_output()
    return EXIT_USER_ERROR


def drop_output() -> None:
    """Send what is left of the output nowhere: Python would complain once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
