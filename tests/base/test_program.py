# SPDX-License-Identifier: Apache-2.0
"""Signals at the edges of a program: while it imports, and behind its report. Stand-in modules send them."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ["ipu_inference.py", "ipu_embedded_inference.py"]
TOOLS = ["compare", "compare_precision", "completion", "doctor", "export", "fetch_weights", "run_benchmarks"]
SIGNALS = [signal.SIGINT, signal.SIGTERM]
SEND = "import os, signal, time; os.kill(os.getpid(), int(os.environ['SIGNAL_TO_SEND']))"
# What an extension module does whose initialization is interrupted.
IMPORT_ERROR = f"""
try:
    {SEND}
    time.sleep(30)
except BaseException as error:
    raise ImportError(str(error)) from error
"""
# As the finalizers of many an import: an error in one is printed and dropped.
DROPPED = f"""
import time
class Dropped:
    def __del__(self):
        {SEND}
        time.sleep(30)
Dropped()
for _ in range(3000):
    time.sleep(0.01)
"""
AT_THE_END = f"""
import atexit
def send():
    {SEND}
    time.sleep(30)
atexit.register(send)
"""


def command_of(program):
    return [sys.executable, *([str(ROOT / program)] if program in SCRIPTS else ["-m", f"ipu_utils.{program}"])]


def run_with(folder, modules, number, command):
    """Run a command to which stand-in modules are importable; (status, stdout, stderr)."""
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    environ = {**os.environ, "PYTHONPATH": str(folder), "SIGNAL_TO_SEND": str(int(number))}
    environ.pop("PYTHONUNBUFFERED", None)  # what is printed is to be there without it
    run = subprocess.run(command, cwd=str(ROOT), env=environ, capture_output=True, text=True, timeout=120)
    return run.returncode, run.stdout, run.stderr


def ended_by(number):
    return 128 + number, "", f"interrupted by {number.name}\n"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("program", [*SCRIPTS, *TOOLS])
def test_a_signal_during_the_first_imports_ends_a_program_in_one_line(program, number, tmp_path):
    modules = {"argparse": f"{SEND}\ntime.sleep(30)\n"}
    assert run_with(tmp_path, modules, number, command_of(program)) == ended_by(number)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("code", [IMPORT_ERROR, DROPPED], ids=["made an ImportError of", "dropped"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["ipu_inference.py", "--device", "cpu", "--random-weights"],
        ["ipu_inference.py", "--device", "cpu", "--random-weights", "--engine", "openvino"],
        ["ipu_inference.py", "--device", "cpu", "--random-weights", "--engine", "tensorflow"],
        ["ipu_embedded_inference.py", "--device", "cpu", "--random-weights"],
        ["doctor"],
    ],
    ids=" ".join,
)
def test_a_signal_while_an_engine_is_imported_is_a_signal_and_no_missing_package(arguments, code, number, tmp_path):
    command = [*command_of(arguments[0]), *arguments[1:]]
    modules = {"openvino": code, "tensorflow": code}
    assert run_with(tmp_path, modules, number, command) == ended_by(number)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("arguments", [["completion", "bash"], ["ipu_inference.py", "--help"]], ids=" ".join)
def test_a_signal_behind_the_report_leaves_the_report(arguments, number, tmp_path):
    command = [*command_of(arguments[0]), *arguments[1:]]
    whole = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True, check=True).stdout
    status, out, err = run_with(tmp_path, {"sitecustomize": AT_THE_END}, number, command)
    assert (status, err) == (128 + number, f"interrupted by {number.name}\n")
    assert out == whole and len(whole) > 1000


def test_a_python_that_is_too_old_is_told_as_that_and_not_as_a_missing_package():
    code = "import sys; sys.version_info = (3, 6, 9); import ipu_utils"
    run = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("error: this is Python 3.6.9, needed is 3.9 or later")
    assert run.stderr.count("\n") == 1 and "make setup PYTHON=" in run.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_what_cannot_be_printed_is_no_success(argument):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "ipu_inference.py", argument]
        run = subprocess.run(command, cwd=str(ROOT), stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 2 and "No space left on device" in run.stderr


def test_what_is_registered_for_the_end_is_done_and_the_status_stays(tmp_path):
    last = "import atexit\natexit.register(lambda: print('done'))\natexit.register(lambda: 1 / 0)\n"
    status, out, err = run_with(tmp_path, {"sitecustomize": last}, 0, [*command_of("compare"), "a.json", "b.json"])
    assert (status, out) == (2, "done\n") and err.startswith("error: ") and "ZeroDivisionError" in err


def test_python_does_not_take_itself_apart_without_handlers_of_signals(tmp_path):
    last = f"""
        class Last:
            def __del__(self, os=__import__("os"), number={int(signal.SIGTERM)}):
                os.kill(os.getpid(), number)
        kept = Last()
        """
    modules = {"sitecustomize": textwrap.dedent(last)}
    status, out, err = run_with(tmp_path, modules, signal.SIGTERM, [*command_of("completion"), "bash"])
    assert (status, err) == (0, "") and out


@pytest.mark.parametrize("name", ["mpi4py", "tensorflow.python.ipu"])
def test_libraries_that_write_when_they_are_unloaded_are_unloaded(name):
    code = f"""
        import os, sys, types
        from ipu_utils.base import program
        sys.modules[{name!r}] = types.ModuleType({name!r})
        class Library:
            def __del__(self, write=os.write):
                write(1, b"unloaded")
        kept = Library()
        program.begin()
        program.run(lambda: 3)
        """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=str(ROOT), capture_output=True)
    assert (run.returncode, run.stdout, run.stderr) == (3, b"unloaded", b"")


def imports_told(run):
    """Lines of Python about the imports of a program since the first that may be interrupted."""
    begun = False
    for line in run.stderr:
        if begun and line.startswith("import time:"):
            yield line
        begun = begun or line.endswith(" ipu_utils.base.program\n")


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_signal_behind_any_import_ends_a_run_without_a_traceback(script, tmp_path):
    """Python tells each import that has ended: after one of every so many of them a signal is sent."""
    pytest.importorskip("openvino")
    folder = "--executable-cache-dir" if script == SCRIPTS[0] else "--exec-output-dir"
    command = [sys.executable, "-X", "importtime", str(ROOT / script), "--device", "cpu", "--random-weights"]
    command += ["--image-size", "64", folder, str(tmp_path), "--num-repeats"]

    def start(repeats):
        return subprocess.Popen([*command, repeats], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    start("2").communicate()  # it compiles, which the others need not
    with start("2") as run:
        count = len(list(imports_told(run)))
    assert count > 400 and run.returncode == 0
    for number, last in zip(itertools.cycle(SIGNALS), range(1, count, count // 16)):
        with start("1000000") as run:
            seen = sum(1 for _ in itertools.islice(imports_told(run), last))
            run.send_signal(number)
            err = run.stderr.read()
        assert seen == last and run.returncode == 128 + number, (last, run.returncode, err)
        assert "Traceback" not in err and "Exception ignored" not in err, (last, err)
