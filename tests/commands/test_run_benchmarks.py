# SPDX-License-Identifier: Apache-2.0
"""benchmarks.yml: the semantics of Graphcore's reader, on commands that print what a test wants."""

import json
import re
import sys
import time
from pathlib import Path

import pytest

from ipu_utils import run_benchmarks
from ipu_utils.base import hardware
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import UserError
from ipu_utils.launch import benchmark_spec as specs
from ipu_utils.launch.benchmark_failure import reason_of
from ipu_utils.measure.throughput import Samples, format_distribution, format_report

OWN = Path(__file__).resolve().parents[2] / "benchmarks.yml"


def benchmark(**entry):
    return specs.Benchmark("b", {"cmd": "python x.py", **entry}, Path("."))


def parameters(value):
    return [dict(variant.parameters) for variant in specs.variants(benchmark(parameters=value))]


def test_a_mapping_is_multiplied_out_with_the_first_parameter_fastest():
    assert parameters({"model": "d0,d1", "batch": "1,2"}) == [
        {"model": "d0", "batch": "1"},
        {"model": "d1", "batch": "1"},
        {"model": "d0", "batch": "2"},
        {"model": "d1", "batch": "2"},
    ]
    assert parameters({"batch": 4}) == [{"batch": "4"}]


def test_a_list_is_a_header_and_rows():
    assert parameters([["model", "batch"], ["d0", 4], ["d1", 2]]) == [
        {"model": "d0", "batch": "4"},
        {"model": "d1", "batch": "2"},
    ]


def test_variants_are_named_by_their_parameters_in_the_order_of_the_alphabet():
    names = [variant.name for variant in specs.variants(benchmark(parameters={"model": "d0", "batch": "1,2"}))]
    assert names == ["b_batch_1_model_d0", "b_batch_2_model_d0"]
    assert [variant.name for variant in specs.variants(benchmark())] == ["b"]


@pytest.mark.parametrize(
    "asked, names",
    [
        (["b"], ["b_batch_1", "b_batch_2"]),
        (["b_batch_2", "c"], ["b_batch_2", "c"]),
        ([], ["b_batch_1", "b_batch_2", "c"]),
    ],
    ids=["entry", "variant and entry", "all"],
)
def test_what_is_listed_can_be_asked_for(asked, names, tmp_path, capsys):
    spec = tmp_path / "b.yml"
    spec.write_text("b: {cmd: python x.py, parameters: {batch: '1,2'}}\nc: {cmd: python x.py}\n")
    assert run_script(lambda: run_benchmarks.main(["--spec", str(spec), "--list", *_benchmark(asked)])) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == names
    assert run_script(lambda: run_benchmarks.main(["--spec", str(spec), "--list", "--benchmark", "b_batch_3"])) == 2
    assert "--benchmark b_batch_3: there is no such benchmark. Did you mean" in capsys.readouterr().err


def _benchmark(names):
    return ["--benchmark", *names] if names else []


@pytest.mark.parametrize("value", ["d0,d1", 3, [["a", "b"], ["1"]], ["a", "b"]])
def test_parameters_of_another_shape_are_refused(value):
    with pytest.raises(UserError, match="parameters"):
        parameters(value)


def test_braces_are_filled_and_doubled_ones_stay():
    one = benchmark(cmd="python -c\n  {model} {{}}")
    assert specs.command_of(one, specs.Variant("v", {"model": "d0"})) == "python -c d0 {}"
    with pytest.raises(UserError, match="'model'"):
        specs.command_of(one, specs.Variant("v", {}))


def extracted(output, instances=1, **metrics):
    return specs.extract(benchmark(data=metrics), output, instances)


def test_all_matches_are_averaged_line_by_line():
    metric = {"regexp": "rate: *(.*?) per"}
    assert extracted("rate: 1 per s\nrate: 3 per s\nrate: x\n", rate=metric) == {"rate": 2}


@pytest.mark.parametrize(
    "reduction, skip, value",
    [
        ("mean", 0, 3),
        ("mean", 1, 11 / 3),
        ("mean", 4, None),
        ("final", 0, 4),
        ("final", 2, 4),
        ("min", 0, 1),
        ("min", 4, None),
        ("value", 0, 5),
    ],
)
def test_reductions(reduction, skip, value):
    metric = {"regexp": "r=(.*)", "reduction_type": reduction, "skip": skip}
    assert extracted("r=5\nr=1\nr=2\nr=4\n", rate=metric) == {"rate": pytest.approx(value) if value else None}


def test_the_worst_is_skipped_of_latencies_the_largest_of_the_rest_the_smallest():
    metric = {"regexp": "r=(.*)", "skip": 1}
    found = extracted("r=5\nr=1\nr=3\n", latency=metric, other=metric)
    assert found == {"latency": 2, "other": 4}


@pytest.mark.parametrize("output", ["", "r=nan", "r=1\nr=nan\n", "r=fast"])
def test_what_is_not_a_number_is_not_found(output):
    assert extracted(output, rate={"regexp": "r=(.*)"}) == {"rate": None}


@pytest.mark.parametrize(
    "command, factor",
    [
        ("mpirun --np 4 python x.py", 4),
        ("mpirun --tag-output --np=2 python x.py", 2),
        ("mpirun -np 4 python x.py", 1),
        ("poprun --num-instances 4 --num-replicas 4 python x.py", 1),
        ("python x.py --np 4", 1),
    ],
)
def test_throughput_is_multiplied_for_the_long_option_of_mpirun_alone(command, factor):
    assert specs.instances_counted_by_the_reader(command) == factor
    metrics = {"throughput": {"regexp": "r=(.*)"}, "latency": {"regexp": "r=(.*)"}}
    assert extracted("r=3", factor, **metrics) == {"throughput": 3 * factor, "latency": 3}


def test_derived_numbers_follow_from_data_and_parameters():
    one = benchmark(derived={"per_ipu": {"expr": "{throughput} / {ipus}"}, "twice": {"expr": "2 * {per_ipu}"}})
    found = specs.derive(one, specs.Variant("v", {"ipus": "4"}), {"throughput": 10.0})
    assert found == {"throughput": 10, "per_ipu": 2.5, "twice": 5}
    missing = specs.derive(one, specs.Variant("v", {"ipus": "4"}), {"throughput": None})
    assert missing == {"throughput": None, "per_ipu": None, "twice": None}


@pytest.mark.parametrize(
    "text, value", [("1 + 2 * 3", 7), ("-(2 ** 3) / 4", -2), ("max(1, 2.5)", 2.5), ("7 // 2 % 2", 1)]
)
def test_arithmetic_is_evaluated(text, value):
    assert specs.evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "().__class__", "open('x')", "1 if 1 else 2", "'a' * 9", "9 ** 9 ** 9", "[1][0]", "x", "("],
)
def test_code_is_not(text):
    with pytest.raises(ValueError):
        specs.evaluate(text)


def write(tmp_path, text):
    path = tmp_path / "benchmarks.yml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1]", "mapping"),
        ("a: 1", "mapping with a cmd"),
        ("a: {cmd: echo}", "python"),
        ("a: {cmd: python x, dta: {}}", "'dta' is not a key of a benchmark. Did you mean 'data'"),
        ("a: {cmd: python x, data: {t: {regexp: 'x'}}}", "one group"),
        ("a: {cmd: python x, data: {t: {regexp: '('}}}", "cannot be used"),
        ("a: {cmd: python x, data: {t: {regexp: '(x)', reduction_type: max}}}", "reduction_type"),
        ("a: {cmd: python x, data: {t: {regexp: '(x)', skip: -1}}}", "skip"),
        ("a: {cmd: python x, derived: {t: {}}}", "expr"),
        ("a: {cmd: python x, timeout: soon}", "timeout"),
        ("a: {", "cannot be used"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        specs.read_spec(write(tmp_path, text))


SPEC = r"""
common_options: &common
  generated: true
  data:
    throughput: {regexp: 'throughput: *(.*?) samples\/sec,'}
    latency: {regexp: 'latency avg: *(.*?) ms,'}
good:
  <<: *common
  parameters: {n: '10,20'}
  env: {UNIT: ms}
  cmd: >-
    python3 -c "import os; print('throughput: {n} samples/sec, latency avg: 5', os.environ['UNIT'] + ',')"
  derived: {ratio: {expr: '{throughput} / {latency}'}}
silent:
  <<: *common
  cmd: python -c "print(1)"
broken:
  <<: *common
  cmd: python -c "import sys; print('throughput 1 samples/sec,'); sys.exit('no engine')"
slow:
  cmd: python -c "import time; time.sleep(60)"
  timeout: 0.5
  generated: true
"""


def run(capsys, tmp_path, *arguments):
    spec = write(tmp_path, SPEC)
    status = run_script(
        lambda: run_benchmarks.main(["--spec", str(spec), "--log-dir", str(tmp_path / "logs"), *arguments])
    )
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_variants_are_run_and_their_numbers_printed(capsys, tmp_path):
    status, out, _ = run(capsys, tmp_path, "--benchmark", "good")
    assert status == 0
    assert out.splitlines() == [
        "variant             throughput              latency                ratio",
        "good_n_10               10.000                5.000                2.000",
        "good_n_20               20.000                5.000                4.000",
    ]
    results = json.loads((tmp_path / "logs" / "benchmark_results.json").read_text())
    assert [(result["params"], result["exitcode"]) for result in results] == [({"n": "10"}, 0), ({"n": "20"}, 0)]
    assert results[0]["results"] == {"throughput": 10, "latency": 5, "ratio": 2}
    assert (
        tmp_path / "logs" / "good_n_10" / "stdout.log"
    ).read_text() == "throughput: 10 samples/sec, latency avg: 5 ms,\n"


def test_one_that_fails_does_not_lose_the_others_and_shows_in_the_status(capsys, tmp_path):
    start = time.monotonic()
    status, out, err = run(capsys, tmp_path)
    assert status == 1 and time.monotonic() - start < 40
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert names == ["good_n_10", "good_n_20", "silent", "broken", "slow"]
    assert [line.split("(")[1] for line in out.splitlines() if "FAILED" in line] == [
        "status 1)",
        "status 1)",
        "status 124)",
    ]
    assert "silent FAILED: not found in the output: throughput, latency" in err
    assert "broken FAILED: status 1: no engine" in err
    assert "Timeout (0.5)" in err


def test_the_time_limit_of_the_command_line_wins(capsys, tmp_path):
    status, _, err = run(capsys, tmp_path, "--benchmark", "slow", "--timeout", "0.2")
    assert status == 1 and "Timeout (0.2)" in err


def test_a_benchmark_that_is_not_there_is_told_with_a_guess(capsys, tmp_path):
    status, _, err = run(capsys, tmp_path, "--benchmark", "goood")
    assert status == 2 and "Did you mean 'good'?" in err


def test_our_own_file_is_read_and_its_commands_are_ones_our_scripts_take():
    from ipu_utils.config.command_line import build_parser

    spec = specs.read_spec(OWN)
    assert any("poprun" in one.entry["cmd"] for one in spec.values())
    assert any("mpirun" in one.entry["cmd"] for one in spec.values())
    for one in spec.values():
        assert len(specs.variants(one)) >= 1
        for variant in specs.variants(one):
            words = specs.command_of(one, variant).split()
            script = next(word for word in words if word.endswith(".py"))
            kind = "embedded" if "embedded" in script else "throughput"
            build_parser(kind).parse_args(words[words.index(script) + 1 :])
            assert specs.instances_counted_by_the_reader(" ".join(words)) == 1
    models = [variant.parameters["model"] for variant in specs.variants(spec["efficientdet_ipu_generated_throughput"])]
    assert models == ["d0", "d1", "d2", "d3", "d4"]


def test_the_report_is_read_by_our_own_file():
    one = specs.read_spec(OWN)["efficientdet_host_embedded_latency"]
    samples = Samples((0.5, 1.0) * 6, batches_per_call=5, batch_size=2)
    text = format_report(samples) + "\n" + format_distribution(samples, (50.0,))
    found = specs.derive(one, specs.variants(one)[0], specs.extract(one, text, 1))
    assert found == {"throughput": 13.33, "latency": 150.0, "requests_per_second": pytest.approx(1000 / 150)}


@pytest.mark.slow
def test_a_real_run_is_read_by_our_own_file(tmp_path, capsys):
    status = run_benchmarks.main(
        ["--spec", str(OWN), "--benchmark", "efficientdet_host_smoke", "--log-dir", str(tmp_path)]
    )
    assert status == 0, capsys.readouterr().err
    (result,) = json.loads((tmp_path / "benchmark_results.json").read_text())
    # Batches of one image: the rate is the reciprocal of the mean latency.
    assert result["results"]["throughput"] * result["results"]["latency"] == pytest.approx(1000, rel=0.01)
    assert sys.executable not in result["command"]


def test_without_arguments_the_benchmarks_are_listed_and_none_is_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, SPEC)
    assert run_script(lambda: run_benchmarks.main(["--list"])) == 0
    listed = capsys.readouterr().out
    assert run_script(lambda: run_benchmarks.main([])) == 0
    captured = capsys.readouterr()
    assert captured.out == listed and len(listed.splitlines()) == 5
    assert "nothing was run" in captured.err and "--benchmark NAME" in captured.err
    monkeypatch.setattr(sys, "argv", ["run_benchmarks"])
    assert run_benchmarks.main() == 0 and capsys.readouterr().out == listed
    assert [path.name for path in tmp_path.iterdir()] == ["benchmarks.yml"]


def test_a_benchmark_without_its_option_is_told_which_it_is(capsys):
    with pytest.raises(SystemExit):
        run_benchmarks.main(["efficientdet_host_smoke"])
    assert "Name a benchmark by --benchmark." in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, hardware",
    [
        ("python x.py", None),
        ("python x.py --device auto", None),
        ("python x.py --device cpu", None),
        ("python x.py --device ipu", "ipu"),
        ("python x.py --device=gpu --x", "gpu"),
        ("python x.py --device ipu --device cpu", None),
        ("python x.py --device cpu --device=ipu", "ipu"),
        ("poprun --num-instances 4 python3 x.py", "ipu"),
        ("poprun --num-instances 4 python3 x.py --device cpu", None),
        ("mpirun --device ipu -np 2 python3 x.py", None),
        ("python x.py --note poprun", None),
        ("python x.py --device GPU", "gpu"),
        ("python x.py --device=cuda", "gpu"),
        ("python x.py --device=IPU", "ipu"),
        ("python x.py --device toaster", None),
        ("python x.py --device", None),
    ],
)
def test_a_command_says_what_hardware_it_is_for(command, hardware):
    assert specs.hardware_of(command.split()) == hardware


HARDWARE = """
common_options: &common
  generated: true
  data: {t: {regexp: '^(5)'}}
there:
  <<: *common
  cmd: python -c "print(5)"
for_ipu:
  <<: *common
  parameters: {n: '1,2'}
  cmd: poprun python -c "print(5)" {n}
some:
  <<: *common
  parameters: {device: 'cpu,gpu,ipu'}
  cmd: python -c "print(5)" --device {device}
"""


@pytest.fixture
def no_accelerators(monkeypatch):
    for name in ("ipu", "gpu"):
        monkeypatch.setitem(
            hardware.PROBES, name, lambda name=name: hardware.Availability(name, False, f"no {name} found")
        )
    monkeypatch.setattr(hardware, "has_ipu_wheel", lambda: False)


def run_hardware(capsys, tmp_path, *arguments):
    spec = write(tmp_path, HARDWARE)
    status = run_script(
        lambda: run_benchmarks.main(["--spec", str(spec), "--log-dir", str(tmp_path / "logs"), *arguments])
    )
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_what_is_for_other_hardware_is_skipped_and_said_to_be(capsys, tmp_path, no_accelerators):
    status, out, err = run_hardware(capsys, tmp_path)
    assert status == 0
    remarks = {line.split()[0]: line.split()[-1] for line in out.splitlines()[1:]}
    assert remarks == {
        "there": "5.000",
        "for_ipu_n_1": "skipped",
        "for_ipu_n_2": "skipped",
        "some_device_cpu": "5.000",
        "some_device_gpu": "skipped",
        "some_device_ipu": "skipped",
    }
    assert "note: for_ipu is skipped: it is for an IPU, and there is none: no ipu found.\n" in err
    assert "note: some is skipped in 2 of 3 variants: it is for a GPU, and there is none: no gpu found.\n" in err
    results = json.loads((tmp_path / "logs" / "benchmark_results.json").read_text())
    assert [result["skipped"] is None for result in results] == [True, False, False, True, False, False]
    assert "no ipu found" in results[-1]["skipped"] and results[-1]["exitcode"] == 0
    assert not (tmp_path / "logs" / "for_ipu_n_1").exists()


def test_other_words_for_a_device_are_skipped_as_well(capsys, tmp_path, no_accelerators):
    spec = write(tmp_path, HARDWARE.replace("'cpu,gpu,ipu'", "'CPU,GPU,cuda'"))
    logs = str(tmp_path / "logs")
    assert run_script(lambda: run_benchmarks.main(["--spec", str(spec), "--log-dir", logs])) == 0
    remarks = [line.split()[-1] for line in capsys.readouterr().out.splitlines()[-3:]]
    assert remarks == ["5.000", "skipped", "skipped"]


def test_what_is_asked_for_by_name_is_refused_instead(capsys, tmp_path, no_accelerators):
    status, out, err = run_hardware(capsys, tmp_path, "--benchmark", "there", "for_ipu")
    assert (status, out) == (2, "") and not (tmp_path / "logs").exists()
    (line,) = err.splitlines()
    assert line.startswith(
        "error: --benchmark for_ipu cannot run here: it is for an IPU, and there is none: no ipu found."
    )
    status, out, _ = run_hardware(capsys, tmp_path, "--benchmark", "some")  # one of its variants can run
    assert status == 0 and out.count("skipped") == 2


def test_where_the_hardware_is_everything_runs(capsys, tmp_path, no_accelerators, monkeypatch):
    for name in ("ipu", "gpu"):
        monkeypatch.setitem(hardware.PROBES, name, lambda name=name: hardware.Availability(name, True, "there"))
    status, out, _ = run_hardware(capsys, tmp_path, "--benchmark", "some")
    assert status == 0 and "skipped" not in out
    # With Graphcore's software installed a run says best what is wrong.
    monkeypatch.setitem(hardware.PROBES, "ipu", lambda: hardware.Availability("ipu", False, "no IPU is attached"))
    monkeypatch.setattr(hardware, "has_ipu_wheel", lambda: True)
    status, out, _ = run_hardware(capsys, tmp_path, "--benchmark", "some")
    assert status == 0 and "skipped" not in out
    assert "skipped" in run_hardware(capsys, tmp_path)[1]


LOG = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795662459.152262   26985 port.cc:153] oneDNN custom operations are on.",
    "2021-08-01 12:00:00.123456: E tensorflow/stream_executor/cuda/cuda_driver.cc:271] failed call to cuInit",
    "2021-08-01 12:00:00.123456: I tensorflow/compiler/plugin/poplar/driver/poplar_platform.cc:43] Poplar version",
    "[2021-08-01 12:00:00.123] [poptorch:cpp] [warning] a remark",
]
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "x.py", line 1, in <module>',
    "    f()",
    "ValueError: two",
    "lines",
]


@pytest.mark.parametrize(
    "written, reason",
    [
        (["note: a", "error: bad", *LOG], ["error: bad"]),
        (["error: 1", "error: bad:", "  use x", *LOG[:2], "or --y", *LOG], ["error: bad:", "  use x", "or --y"]),
        (["[1,0]<stderr>: error: bad", "[1,0]<stderr>: " + LOG[1]], ["error: bad"]),
        (["usage: x [-h]", "x.py: error: y is required"], ["x.py: error: y is required"]),
        ([*LOG, *TRACEBACK, *LOG], ["ValueError: two", "lines"]),
        (["words", "error: early", *LOG, *TRACEBACK], ["error: early", *TRACEBACK]),
        (["last words", *LOG * 5], ["last words"]),
        (LOG, LOG),
        ([str(number) for number in range(30)], [str(number) for number in range(20, 30)]),
        ([], [""]),
    ],
)  # fmt: skip
def test_the_reason_of_a_failure_is_its_error_and_not_a_log(written, reason):
    assert reason_of("\n".join(written) + "\n").splitlines() == [line for line in reason if line]


@pytest.mark.parametrize(
    "stderr, stdout, reason",
    [
        (["bad"], ["good"], ["bad"]),
        ([], ["[1,0]<stdout>: at work", "[1,0]<stdout>: error: bad"], ["error: bad"]),
        (LOG, ["no such engine"], ["no such engine"]),
        ([], [str(number) for number in range(30)], [str(number) for number in range(20, 30)]),
        (LOG[:1], [" "], LOG[:1]),
    ],
)
def test_where_standard_error_says_nothing_standard_output_does(stderr, stdout, reason):
    assert reason_of("\n".join(stderr), "\n".join(stdout)).splitlines() == reason


def failed(capsys, tmp_path, code):
    """Standard output, standard error and the logs' folder of running Python code that fails, or lacks its number."""
    (tmp_path / "fails.py").write_text(code)
    spec = write(
        tmp_path, f"a: {{generated: true, cmd: python {tmp_path}/fails.py, data: {{t: {{regexp: 't=(.*)'}}}}}}"
    )
    logs = tmp_path / "logs"
    assert run_script(lambda: run_benchmarks.main(["--spec", str(spec), "--log-dir", str(logs)])) == 1
    captured = capsys.readouterr()
    return captured.out, captured.err, logs / "a"


@pytest.mark.parametrize(
    "code, said, remark",
    [
        ("raise SystemExit(7)", "status 7: it said nothing\n", "FAILED (status 7)"),
        ("print('no disk'); raise SystemExit(7)", "status 7: no disk\nWhat it wrote is in {}.\n", "FAILED (status 7)"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL: it said nothing\n", "FAILED (killed by SIGKILL)"),
        (
            "print(1)",
            "not found in the output: t (finite numbers are read)\nWhat it wrote is in {}.\n",
            "FAILED (status 1)",
        ),
        ("", "not found in the output: t (finite numbers are read)\nit said nothing.\n", "FAILED (status 1)"),
    ],
    ids=["silent", "on standard output", "killed", "no number", "no output"],
)
def test_every_failure_says_why_and_where_its_output_is(capsys, tmp_path, code, said, remark):
    out, err, folder = failed(capsys, tmp_path, code)
    assert err.endswith(f"a FAILED: {said.format(folder)}") and out.endswith(f"  {remark}\n")


def test_a_failure_shows_its_reason_and_where_the_rest_is(capsys, tmp_path):
    code = f"import sys; sys.stderr.write({chr(10).join([*LOG, 'error: no such thing', *LOG])!r}); sys.exit(2)"
    script = tmp_path / "fails.py"
    script.write_text(code)
    spec = write(tmp_path, f"a: {{generated: true, cmd: python {script}}}")
    logs = tmp_path / "logs"
    assert run_script(lambda: run_benchmarks.main(["--spec", str(spec), "--log-dir", str(logs)])) == 1
    err = capsys.readouterr().err
    assert f"a FAILED: status 2: error: no such thing\nWhat it wrote is in {logs / 'a'}.\n" in err
    assert "oneDNN" not in err and "oneDNN" in (logs / "a" / "stderr.log").read_text()
