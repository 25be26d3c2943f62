# SPDX-License-Identifier: Apache-2.0
"""benchmarks.yml files that cannot be used are refused before anything runs; what fails later loses no other result."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ipu_utils import run_benchmarks
from ipu_utils.base import bounded_search
from ipu_utils.base.console import run_script
from ipu_utils.launch import arithmetic

ROOT = Path(__file__).resolve().parents[2]
GOOD = {"generated": True, "cmd": 'python -c "print(5)"', "data": {"t": {"regexp": "(5)"}}}


def run(tmp_path, capsys, spec, *arguments):
    (tmp_path / "b.yml").write_text(yaml.safe_dump(spec, sort_keys=False))
    options = ["--spec", str(tmp_path / "b.yml"), "--log-dir", str(tmp_path / "logs"), *arguments]
    status = run_script(lambda: run_benchmarks.main(options))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def strict(path):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"cmd": "python 'x"}, "cmd"),
        ({"cmd": "python {p}", "parameters": {"p": "a,'"}}, "cmd"),
        ({"cmd": "python {p.x}", "parameters": {"p": 1}}, "'p.x' in braces"),
        ({"cmd": "python {p[x]}", "parameters": {"p": 1}}, "'p[x]' in braces"),
        ({"cmd": "python {p:>999999999}", "parameters": {"p": 1}}, "format"),
        ({"cmd": "python {p!r}", "parameters": {"p": 1}}, "format"),
        ({"cmd": "python {0}", "parameters": {"0": 1}}, "'0' in braces"),
        ({"cmd": "python {"}, "cmd"),
        ({"cmd": "python {missing}"}, "'missing' in braces"),
        ({"cmd": "python \0"}, "null character"),
        ({"cmd": "python \ud800"}, "half a letter"),
        ({"cmd": "'a python b'"}, "outside of quotes"),
        ({"env": {"A": "\0"}}, "env, A"),
        ({"env": {"A=B": "1"}}, "env, A=B"),
        ({"env": {"": "1"}}, "env"),
        ({"env": {1: "1"}}, "env"),
        ({"env": {"A": None}}, "env, A"),
        ({"env": {"A": True}}, "env, A"),
        ({"env": {"A": [1]}}, "env, A"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"timeout": 1e300}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"derived": {"d": {"expr": "{t.foo}"}}}, "derived, d"),
        ({"derived": {"d": {"expr": "{e}"}, "e": {"expr": "{t}"}}}, "derived, d"),
        ({"derived": {"d": {"expr": "{t} if 1 else 2"}}}, "derived, d"),
        ({"derived": {"d": {"expr": "(" * 900}}}, "derived, d"),
        ({"derived": {None: {"expr": "1"}}}, "derived"),
        ({"data": {None: {"regexp": "(5)"}}}, "data"),
        ({"data": {"t": {"regexp": "(5){99999999999}"}}}, "data, t"),
        ({"data": {"t": {"regexp": "(?L)(5)"}}}, "data, t"),
        ({"data": {"t": {"regexp": "(5)", "reduction_type": []}}}, "reduction_type"),
        ({"location": ["x"]}, "location"),
        ({"location": "a\0"}, "location"),
        ({"location": "b.yml"}, "location"),
        ({"location": "x" * 300}, "location"),
        ({"parameters": {"p": None}}, "parameters"),
        ({"parameters": {"p": [1, 2]}}, "parameters"),
        ({"parameters": {1: "a"}}, "parameters"),
        ({"parameters": [["p", "p"], [1, 2]]}, "parameters"),
        ({"parameters": [["p"]]}, "parameters"),
        ({"parameters": {f"p{i}": "1,2,3,4" for i in range(40)}}, "variants"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs_with_its_entry_and_key(tmp_path, capsys, changes, word):
    status, out, err = run(tmp_path, capsys, {"first": GOOD, "second": {**GOOD, **changes}})
    assert status == 2 and not out
    assert "b.yml, second" in err and word in err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("name", ["a\0b", 1, None, float("nan"), "a\x1b[31m"])
def test_the_name_of_an_entry_is_a_text_that_can_be_printed(tmp_path, capsys, name):
    status, _, err = run(tmp_path, capsys, {name: GOOD})
    assert status == 2 and "name of an entry" in err


@pytest.mark.parametrize("value", ["nan", "inf", "1e300", "0", "-1"])
def test_the_time_limit_is_one_that_can_be_waited_for(tmp_path, capsys, value):
    status, _, err = run(tmp_path, capsys, {"a": GOOD}, f"--timeout={value}")
    assert status == 2 and "--timeout" in err


def test_variables_of_the_environment_with_quotes_are_seen_before_anything_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ODD", "it's")
    status, _, err = run(tmp_path, capsys, {"first": GOOD, "second": {**GOOD, "cmd": "python $ODD"}})
    assert status == 2 and "second: cmd" in err and not (tmp_path / "logs").exists()


def test_logs_stay_inside_of_their_folder_each_variant_with_its_own(tmp_path, capsys):
    names = ["../escaped", "/tmp/x", "benchmark_results.json", "a/b", "a_b", "x" * 300]
    status, _, err = run(tmp_path, capsys, dict.fromkeys(names, GOOD))
    assert status == 0, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.yml", "logs"]
    logs = tmp_path / "logs"
    assert len(list(logs.glob("*/stdout.log"))) == len(names)
    assert [result["benchmark_name"] for result in strict(logs / "benchmark_results.json")] == names


def test_numbers_that_json_does_not_have_are_missing(tmp_path, capsys):
    inf = {**GOOD, "cmd": "python -c \"print('t=inf')\"", "data": {"t": {"regexp": "t=(.*)"}}}
    derived = {**GOOD, "derived": {"d": {"expr": "1e999 - 1e999"}, "e": {"expr": "2 * {t}"}}}
    status, _, err = run(tmp_path, capsys, {"inf": inf, "derived": derived})
    assert status == 1 and "not found in the output: t" in err and "without a finite value: d" in err
    results = strict(tmp_path / "logs" / "benchmark_results.json")
    assert [result["results"] for result in results] == [{"t": None}, {"t": 5, "d": None, "e": 10}]


def test_an_expression_without_end_is_given_up_and_the_next_entry_runs(tmp_path, capsys, monkeypatch):
    endless = {**GOOD, "cmd": "python -c \"print('a' * 60)\"", "data": {"t": {"regexp": "((?:a+)+)b"}}}
    monkeypatch.setattr(bounded_search, "SEARCH_SECONDS", 2.0)
    status, _, err = run(tmp_path, capsys, {"endless": endless, "good": GOOD})
    assert status == 1 and "endless FAILED: data, t: the regexp found no end" in err
    assert [one["results"]["t"] for one in strict(tmp_path / "logs" / "benchmark_results.json")] == [None, 5]


def test_logs_that_cannot_be_written_fail_their_entry_alone_and_keep_its_numbers(tmp_path, capsys):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "first").write_text("a file")
    status, _, err = run(tmp_path, capsys, {"first": GOOD, "second": GOOD})
    assert status == 1 and "first FAILED" in err
    results = strict(tmp_path / "logs" / "benchmark_results.json")
    assert [(one["results"], one["exitcode"]) for one in results] == [({"t": 5}, 1), ({"t": 5}, 0)]


def test_bytes_that_are_no_utf_8_are_kept_spelled(tmp_path, capsys):
    command = "python -c \"import os; os.write(1, bytes([255, 10]) + b'5')\""
    status, _, err = run(tmp_path, capsys, {"a": {**GOOD, "cmd": command}})
    assert status == 0, err
    assert (tmp_path / "logs" / "a" / "stdout.log").read_text() == "\\xff\n5"


def test_a_location_that_is_not_there_is_told(tmp_path, capsys):
    status, _, err = run(tmp_path, capsys, {"a": {**GOOD, "location": "vision/x"}})
    assert status == 0 and "there is no folder vision/x" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_results_and_ends_what_runs(tmp_path, number):
    (tmp_path / "sleep.py").write_text(
        "import os, pathlib, time\npathlib.Path('pid.part').write_text(str(os.getpid()))\n"
        "os.rename('pid.part', 'pid')\ntime.sleep(100)\n"
    )
    spec = {"a": GOOD, "b": {"generated": True, "cmd": "python sleep.py"}, "c": GOOD}
    (tmp_path / "b.yml").write_text(yaml.safe_dump(spec, sort_keys=False))
    command = [sys.executable, "-m", "ipu_utils.run_benchmarks", "--spec", str(tmp_path / "b.yml")]
    process = subprocess.Popen([*command, "--log-dir", str(tmp_path / "logs")], cwd=str(ROOT), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    end = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < end:
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in err
    assert [line.split()[0] for line in out.splitlines()] == ["variant", "a", "b"]
    results = strict(tmp_path / "logs" / "benchmark_results.json")
    assert [(one["benchmark_name"], one["exitcode"]) for one in results] == [("a", 0), ("b", 128 + number)]
    assert results[0]["results"] == {"t": 5}
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize("text", ["round(5, -999999999)", "1 / 0", "max()", "9 ** 9 ** 9", "1e999 ** 2"])
def test_arithmetic_without_a_value_ends_at_once(text):
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        if arithmetic.evaluate(text) == 0:
            raise ValueError("rounded to nothing")
