# SPDX-License-Identifier: Apache-2.0
"""Exit statuses, notes and what goes where."""

import contextlib
import subprocess
import sys

import pytest

from ipu_utils.base import console
from ipu_utils.base.errors import CompiledOnly, ConfigError, UserError


def raising(error):
    def main():
        raise error

    return main


def test_success_is_status_zero():
    assert console.run_script(lambda: None) == 0


@pytest.mark.parametrize("error", [UserError("no such folder"), ConfigError("no such folder")])
def test_what_the_user_can_mend_is_one_line_and_status_two(error, capsys):
    assert console.run_script(raising(error)) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: no such folder\n")


def test_a_program_that_was_compiled_as_asked_for_is_a_success_and_says_where_it_is(capsys):
    assert console.run_script(raising(CompiledOnly("kept in cache"))) == 0
    assert capsys.readouterr() == ("kept in cache\n", "")


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        console.run_script(raising(ZeroDivisionError()))


@pytest.mark.parametrize(
    "error, reason",
    [
        (UserError("no", "  such\x1b folder"), "no\n  such\\x1b folder"),
        (ValueError("odd\udcff"), "ValueError: odd\\udcff"),
    ],
)
def test_the_error_is_left_where_a_sweep_looks_for_it(tmp_path, monkeypatch, error, reason):
    path = tmp_path / "reason"
    monkeypatch.setenv(console.REASON_VARIABLE, str(path))
    assert console.run_script(lambda: 0) == 0 and not path.exists()
    with contextlib.suppress(ValueError):
        console.run_script(raising(error))
    assert path.read_text() == reason
    monkeypatch.setenv(console.REASON_VARIABLE, str(tmp_path / "no" / "folder"))
    with contextlib.suppress(ValueError):
        assert console.run_script(raising(error)) == 2


def test_interruption_is_reported_as_shells_do():
    assert console.run_script(raising(KeyboardInterrupt())) == 130


def test_notes_are_printed_on_standard_error_once(capsys):
    console.show_notes(["one", "two"])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "note: one\nnote: two\n")


def test_no_progress_bar_where_standard_error_is_no_terminal(capsys):
    with console.progress_bar(2, "calls") as bar:
        bar.update()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("level, shown", [("warning", ["W"]), ("info", ["I", "W"]), ("fatal", [])])
def test_messages_below_the_level_stay_away_and_the_rest_goes_to_standard_error(level, shown):
    code = (
        f"import logging; from ipu_utils.base.console import setup_logging; setup_logging({level!r});"
        "log = logging.getLogger('ipu_utils.test'); log.info('told'); log.warning('told')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == ""
    assert [line[0] for line in run.stderr.splitlines()] == shown


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
def test_a_reader_that_stops_early_is_no_error():
    code = (
        "import sys, time; from ipu_utils.base.console import run_script;"
        "sys.exit(run_script(lambda: [print('line', flush=True) or time.sleep(0.05) for _ in range(20)]))"
    )
    command = f'{{ {sys.executable} -c "{code}"; echo "status $?" >&2; }} | head -n 1'
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("line\n", "status 0\n")
