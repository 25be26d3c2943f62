# SPDX-License-Identifier: Apache-2.0
"""TensorFlow in a process of its own, which ends when the network is frozen: it takes 1 GB that no run needs.

The two processes pass pickled objects through the child's standard input and output. What TensorFlow says on standard
error while it starts is kept back, and shown when the child fails.
"""

import contextlib
import importlib
import logging
import logging.handlers
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterable, List, Optional, Tuple

import numpy as np

from ipu_utils.base import start_notices
from ipu_utils.base.errors import UserError
from ipu_utils.base.signals import temporary_folder
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable import cache
from ipu_utils.executable.convert import Frozen, compile_frozen
from ipu_utils.executable.engines import title_of
from ipu_utils.executable.file import Header, with_weights, write_executable
from ipu_utils.model import weights_text

ROOT = Path(__file__).resolve().parents[2]
# Not `-m`: that would look for this package in the current folder first.
# Ctrl-C reaches both processes; the parent decides.
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "import sys; sys.path.insert(0, sys.argv[1]); from ipu_utils.executable import build_process; build_process.serve()"
)
# What freezes the network for an engine; all are known to `ipu_utils.executable.cache`.
FREEZE = {"OpenVINO": cache.NETWORK, "LiteRT": cache.LITE, "ONNX Runtime": cache.ONNX}
LOOK_SECONDS = 0.2  # between two looks at whether the parent is still there


def build(config: RunConfig, header: Header) -> Tuple[Header, Callable[[str], Frozen]]:
    """Build the network in TensorFlow, with its weights: in a process of its own unless TensorFlow is here already.

    Returns:
      (the header with what is known of the weights, a function that freezes the network into a folder).

    Raises:
      UserError: TensorFlow is missing, or see `ipu_utils.model.network.prepare`.
    """
    if "tensorflow" not in sys.modules and sys.executable:
        return build_in_process(config, header)
    return build_here(config, header)


def preview_weights(config: RunConfig, header: Header) -> str:
    """Find out whether `build` can build the network with its weights, and return what it says of them.

    Raises:
      UserError: as `build`.
    """
    apart = "tensorflow" not in sys.modules and sys.executable
    return (load_in_process(config, header) if apart else build_here(config, header)[0]).weights


def build_here(config: RunConfig, header: Header) -> Tuple[Header, Callable[[str], Frozen]]:
    """Do as `build` does in this process."""
    try:
        freeze = importlib.import_module(FREEZE[title_of(header.engine)])
    except ImportError as error:
        raise UserError(f"compiling an executable needs TensorFlow: {error}") from error
    if config.output.dry_run and header.random_weights:  # drawing them takes long, and cannot fail
        return with_weights(header, weights_text.planned(config), True), None
    return freeze.build_network(config, header)


def build_in_process(config: RunConfig, header: Header) -> Tuple[Header, Callable[[str], Frozen]]:
    """Do as `build` does, in a new process."""
    child = _Child(config, header)
    return child.receive(), child.freeze


def load_in_process(config: RunConfig, header: Header) -> Header:
    """Build the network with its weights in a new process, and drop it; returns what `build_in_process` does first."""
    child = _Child(config, header)
    try:
        return child.receive()
    finally:
        child.end()


def compile_into(
    path: Path,
    header: Header,
    freeze: Callable[[str], Frozen],
    num_threads: Optional[int] = None,
    calibration: Optional[Iterable[np.ndarray]] = None,
) -> None:
    """Compile what `build` returned and write the file."""
    with temporary_folder("efficientdet-") as folder:
        write_executable(path, header, compile_frozen(freeze(folder), header, num_threads, calibration))


class _Child:
    """The process that builds, seen from the one that runs."""

    def __init__(self, config: RunConfig, header: Header):
        self._notices = None if start_notices.asked_for() else tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the child
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._notices,
        )
        self._send((os.getpid(), logging.getLogger().level, config, header))

    def freeze(self, folder: str) -> Frozen:
        """Freeze the network into a folder, and wait for the end of the process."""
        self._send(folder)
        frozen = self.receive()
        self._process.wait()  # and with it goes its memory
        return frozen

    def end(self) -> None:
        """Let the process go, which waits for a folder to freeze the network into."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def receive(self) -> Any:
        """Return what the child answers, or raise what it raised. Its messages are logged here."""
        try:
            while True:
                answer = pickle.load(self._process.stdout)
                if not isinstance(answer, logging.LogRecord):
                    break
                logging.getLogger(answer.name).handle(answer)
        except (EOFError, pickle.UnpicklingError):
            raise self._death() from None
        except BaseException:
            self._process.kill()
            raise
        if isinstance(answer, BaseException):
            self._process.wait()
            raise answer
        return answer

    def _send(self, value: Any) -> None:
        try:
            pickle.dump(value, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def _death(self) -> UserError:
        status = self._process.wait()
        said: List[str] = []
        if self._notices is not None:
            self._notices.seek(0)
            lines = self._notices.read().decode(errors="replace").strip().splitlines()
            said = [f"  {line}" for line in lines[-20:]]
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return UserError(
            f"the process that builds the network in TensorFlow ended with {how}: if memory was full, free some or "
            "take a smaller --model-name or --image-size.",
            *said,
        )


def serve() -> None:
    """Be the child: build what standard input asks for, then freeze it."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What is printed must not get between the answers.
    parent, level, config, header = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    logging.getLogger().setLevel(level)
    logging.getLogger().addHandler(_ToParent(results))
    start_notices.leave_alone()
    try:
        header, freeze = build_here(config, header)
        _answer(results, header)
        folder = pickle.load(sys.stdin.buffer)
        _answer(results, freeze(folder))
    except (UserError, MemoryError) as error:
        _answer(results, error)
    except EOFError:
        pass  # The parent needs it no longer.
    except BaseException as error:
        if type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's for memory that is full
            _answer(results, MemoryError(str(error)))
        else:
            _answer(results, RuntimeError(f"building the network failed:\n{traceback.format_exc()}"))
    os._exit(0)  # TensorFlow takes its time to clean up.


def _answer(results: BinaryIO, value: Any) -> None:
    pickle.dump(value, results)
    results.flush()


class _ToParent(logging.handlers.QueueHandler):
    """Sends log records to the parent."""

    def enqueue(self, record: logging.LogRecord) -> None:
        _answer(self.queue, record)


def _end_with(parent: int) -> None:
    """End this process soon after its parent."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
