# SPDX-License-Identifier: Apache-2.0
"""benchmarks.yml: the semantics of Graphcore's reader, on commands that print what a test wants."""

import json
import re
import sys
import time
from pathlib import Path

import pytest

from ipu_utils import benchmark_spec as specs
from ipu_utils import run_benchmarks
from ipu_utils.console import run_script
from ipu_utils.errors import UserError
from ipu_utils.results import Samples, format_distribution, format_report

OWN = Path(__file__).resolve().parent.parent / "benchmarks.yml"


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
    from ipu_utils.arguments import build_parser

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
