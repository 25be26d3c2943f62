# SPDX-License-Identifier: Apache-2.0
"""SIGINT (Ctrl-C) and SIGTERM end a run soon and cleanly, wherever it is. No TensorFlow.

A signal raises `Interrupted` in the main thread, which unwinds the run: files that were being written disappear, and
what was measured so far is printed. Python handles signals between its own instructions, though, and a compiler or an
import can stay in native code for many seconds. So a thread counts as well: when the process is still there after
GRACE_SECONDS, it prints what was measured and ends the process. Native code can also make another error of the
interruption, as it does where an import fails, or drop it: `as_interruption`, `raise_again` and a hook bring it back.

Before its imports have ended, and behind its report, a program has `ipu_utils.base.program`.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Iterator, List, Optional

GRACE_SECONDS = 1.2  # the process is to be gone after two seconds, on a busy machine too
AGAIN_SECONDS = 0.01  # after which an interruption that was dropped is raised anew
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_tellers: List[Callable[[], Optional[str]]] = []
_temporary: List[str] = []  # files and folders that are gone when the process is
_lock = threading.Lock()
_came: List[int] = []  # the signal that has ended the run, if one has


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.number = number
        self.name = signal.Signals(number).name
        self.status = 128 + number  # as shells report it


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let signals raise `Interrupted` in the block, and end the process soon after one whatever the block does.

    Outside of the main thread, which alone may handle signals, and within another one it does nothing.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is _raise:
        yield
        return
    _came.clear()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _raise) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # written to even while native code runs
    hook, sys.unraisablehook = sys.unraisablehook, _unraisable(sys.unraisablehook)
    threading.Thread(target=_watch, args=(reader,), name="interruption", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        if not _came:  # else the process is ending, and what the run has made is still to be taken apart
            sys.unraisablehook = hook
        for number, handler in before.items():
            if signal.getsignal(number) is _raise:  # else the process is ending because of one
                signal.signal(number, handler)
        os.close(writer)  # ends the thread, unless a signal has come


def _raise(number: int, frame: Any) -> None:
    # A second one, of an impatient user or of a launcher, must not interrupt what the first one has to finish.
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    _came[:] = [number]
    raise Interrupted(number)


def raise_again() -> None:
    """Raise the interruption, if there was one, in place of an error that was made of it."""
    if _came:
        raise Interrupted(_came[0]) from None


@contextlib.contextmanager
def as_interruption() -> Iterator[None]:
    """Let no other error than the interruption leave the block once there was one."""
    try:
        yield
    except Exception:
        raise_again()
        raise


def _unraisable(before: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A hook for errors that nobody can catch, such as those of finalizers, which Python prints and drops."""

    def hook(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Interrupted):
            if not _came:  # else it comes of the interruption: an object that was half made cannot be taken apart
                before(unraisable)
            return
        number, again = unraisable.exc_value.number, True
        while again:
            try:
                signal.signal(number, _raise)  # it was raised in this thread, the main one
                threading.Thread(target=_raise_soon, args=(number,), daemon=True).start()
                again = False
            except Interrupted:
                pass  # The thread may be quicker than this one, which would drop what comes out of a hook.

    return hook


def _raise_soon(number: int) -> None:
    time.sleep(AGAIN_SECONDS)
    os.kill(os.getpid(), number)


def _watch(reader: int) -> None:
    number = os.read(reader, 1)
    while number and number[0] not in SIGNALS:
        number = os.read(reader, 1)
    if not number:
        os.close(reader)
        return
    # The pipe stays open: a second signal is written into it too, and Python reports one that nobody reads as broken.
    time.sleep(GRACE_SECONDS)
    # Whatever is printing, or waits for a lock of a stream, must not hold the end up.
    printer = threading.Thread(target=_tell_all, daemon=True)
    printer.start()
    printer.join(0.3)
    remove_temporary()
    os._exit(128 + number[0])


def _tell_all() -> None:
    with contextlib.suppress(Exception):
        _tell()
        sys.stdout.flush()


def _tell() -> None:
    """Print what was measured so far, once."""
    with _lock:
        tellers = list(_tellers)
        _tellers.clear()
    for teller in tellers:
        text = teller()
        if text:
            print(text, flush=True)


@contextlib.contextmanager
def telling(partial: Callable[[], Optional[str]]) -> Iterator[None]:
    """When a signal or an error ends the block, print what `partial` returns, if it is anything."""
    _tellers.append(partial)
    try:
        yield
    except BaseException:
        _tell()
        raise
    finally:
        with contextlib.suppress(ValueError):
            _tellers.remove(partial)


def remove_at_the_end(path: str) -> None:
    """Remove a file or folder when a signal ends the process before `is_removed` is called."""
    _temporary.append(path)


def remove_temporary() -> None:
    """Remove what is left of them, because the process ends."""
    for path in list(_temporary):
        with contextlib.suppress(OSError):
            os.unlink(path)
        shutil.rmtree(path, ignore_errors=True)


def is_removed(path: str) -> None:
    """The file or folder is gone, or has another name."""
    with contextlib.suppress(ValueError):
        _temporary.remove(path)


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[str]:
    """A folder that is gone after the block, however the process is ended by a signal."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        remove_at_the_end(folder)
        try:
            yield folder
        finally:
            is_removed(folder)
