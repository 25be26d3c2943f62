# SPDX-License-Identifier: Apache-2.0
"""Signals, partial results and what else ends a run, in small."""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from records import outcome

from ipu_utils.base import signals
from ipu_utils.base.console import run_script
from ipu_utils.config.run_config import load_config
from ipu_utils.measure.throughput import Samples
from ipu_utils.report.publish import publisher


def in_process(code):
    """Run code with a signal handler's help; (status, output, seconds)."""
    start = time.monotonic()
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return run.returncode, run.stdout, time.monotonic() - start


PRELUDE = (
    "import os, signal, sys, threading, time, ctypes\n"
    "from ipu_utils.base import signals\nfrom ipu_utils.base.console import run_script\n"
    "def signal_soon(number):\n"
    "    threading.Timer(0.2, lambda: os.kill(os.getpid(), number)).start()\n"
)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_python_code_with_what_was_measured(number, status):
    code = PRELUDE + (
        "def main():\n"
        "    with signals.telling(lambda: 'partial: 3 calls'):\n"
        f"        signal_soon({int(number)})\n"
        "        time.sleep(30)\n"
        "sys.exit(run_script(main))"
    )
    found, output, seconds = in_process(code)
    assert (found, output) == (status, f"partial: 3 calls\ninterrupted by {number.name}\n")
    assert seconds < 20


def test_a_second_signal_that_is_handled_before_the_end_is_written_without_a_word():
    code = """if True:
        import os, signal, time
        from ipu_utils.base.signals import interruptible
        with interruptible():
            for _ in range(2):
                signal.signal(signal.SIGINT, lambda number, frame: None)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)
            os._exit(0)
        """
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (run.returncode, run.stdout) == (0, "")


def test_an_interruption_that_a_finalizer_drops_comes_again_however_slow_threads_start():
    code = PRELUDE + (
        "start = threading.Thread.start\n"
        "def slowly(thread):\n"
        "    start(thread)\n"
        "    threading.Thread.start = start\n"
        "    time.sleep(1)\n"
        "class Dropping:\n"
        "    def __del__(self):\n"
        "        threading.Thread.start = slowly\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(1)\n"
        "def main():\n"
        "    Dropping()\n"
        "    time.sleep(30)\n"
        "sys.exit(run_script(main))"
    )
    found, output, seconds = in_process(code)
    assert (found, output) == (130, "interrupted by SIGINT\n")
    assert seconds < 20


def test_what_an_interruption_leaves_half_made_is_taken_apart_in_silence():
    code = PRELUDE + (
        "class HalfMade:\n"
        "    def __init__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(30)\n"
        "        self.options = 1\n"
        "    def __del__(self):\n"
        "        self.options\n"
        "sys.exit(run_script(HalfMade))"
    )
    found, output, _ = in_process(code)
    assert (found, output) == (130, "interrupted by SIGINT\n")


def test_native_code_that_does_not_return_is_ended_too():
    code = PRELUDE + (
        "import hashlib\n"
        "def main():\n"
        "    with signals.telling(lambda: 'partial: 3 calls'), signals.temporary_folder('x-') as folder:\n"
        "        print(folder, flush=True)\n"
        "        signal_soon(signal.SIGINT)\n"
        "        hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)\n"  # minutes without an instruction of Python
        "sys.exit(run_script(main))"
    )
    status, output, seconds = in_process(code)
    folder, *rest = output.splitlines()
    assert status == 130 and "partial: 3 calls" in rest and not os.path.exists(folder)
    assert seconds < 20


def test_handlers_are_given_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert run_script(lambda: 0) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "interruption" and _lives_on(thread)]


def _lives_on(thread):
    thread.join(5)
    return thread.is_alive()


def test_what_was_measured_is_told_once_and_only_when_the_block_fails(capsys):
    with signals.telling(lambda: "partial"):
        pass
    with pytest.raises(ZeroDivisionError), signals.telling(lambda: "partial"), signals.telling(lambda: None):
        raise ZeroDivisionError
    assert capsys.readouterr().out == "partial\n"


def test_partial_results_count_what_was_counted(capsys):
    config = load_config(["--device", "cpu"])
    with pytest.raises(KeyboardInterrupt), publisher(config) as results:
        results.expect(9, 2, 4).extend([1.0, 2.0])
        raise KeyboardInterrupt
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Benchmark interrupted: partial results of 2 of 9 counted calls."
    assert lines[3].startswith("\tthroughput: 5.33 samples/sec")  # 2 calls of 2 batches of 4 images in 3 seconds


def test_a_signal_while_the_report_is_printed_still_finds_something_to_tell(monkeypatch, capsys):
    class Interrupting(io.StringIO):
        def write(self, text):
            monkeypatch.undo()
            raise KeyboardInterrupt

    config = load_config(["--device", "cpu"])
    with pytest.raises(KeyboardInterrupt), publisher(config) as results:
        results.expect(2, 1, 1).extend([1.0, 2.0])
        monkeypatch.setattr(sys, "stdout", Interrupting())
        results.publish(outcome(Samples((1.0, 2.0), 1, 1)))
    assert "partial results of 2 of 2 counted calls" in capsys.readouterr().out


@pytest.mark.parametrize("made", ["raise UserError('not installed')", "raise SystemError('returned a result')"])
def test_an_error_that_was_made_of_an_interruption_is_the_interruption(made):
    code = PRELUDE + (
        "from ipu_utils.base.errors import UserError\n"
        "def main():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(30)\n"
        f"    except KeyboardInterrupt: {made}\n"
        "sys.exit(run_script(main))"
    )
    assert in_process(code)[:2] == (143, "interrupted by SIGTERM\n")


@pytest.mark.parametrize(
    "error, message",
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            "error: /x/y cannot be used (No space left on device)",
        ),
        (MemoryError(), "error: out of memory: take a smaller --micro-batch-size"),
        (type("ResourceExhaustedError", (Exception,), {})("OOM\nmore"), "error: out of memory (OOM): take a smaller"),
    ],
)
def test_what_a_machine_lacks_is_one_line(error, message, capsys):
    def main():
        raise error

    assert run_script(main) == 2
    assert capsys.readouterr().err.startswith(message)
