# SPDX-License-Identifier: Apache-2.0
"""Comparing records: what is refused, what is printed, and when a build fails."""

import copy
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from records import outcome, run_config

from ipu_utils import compare
from ipu_utils.base.console import run_script
from ipu_utils.data.sources import ImageFiles, NoiseImages
from ipu_utils.measure.throughput import Samples
from ipu_utils.report import record as records
from ipu_utils.report.comparison import ratio_interval, statistic_named
from ipu_utils.report.work import work_differences


def make(seconds, **options):
    record = records.make_record(run_config(**options), outcome(Samples(tuple(seconds), 1, 1)))
    return {**record, "started": "2026-11-24T10:00:00+00:00"}


@pytest.fixture
def files(tmp_path):
    """Write records as A.json, B.json and return their paths."""

    def write(*contents):
        paths = [tmp_path / f"{letter}.json" for letter, _ in zip("AB", contents)]
        for path, content in zip(paths, contents):
            path.write_text(json.dumps(content))
        return [str(path) for path in paths]

    return write


def run(capsys, *arguments):
    status = run_script(lambda: compare.main(list(arguments)))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


ROOT = Path(__file__).resolve().parents[2]
BASE = [0.100, 0.102, 0.098, 0.101, 0.099]


def test_the_comparison_is_printed_side_by_side(files, capsys):
    first, second = files(make(BASE), make([2 * value for value in BASE]))
    status, out, err = run(capsys, first, second)
    assert (status, err) == (0, "")
    assert out.replace(first, "A.json").replace(second, "B.json").splitlines() == [
        "A: A.json: efficientdet-d0, cpu (a, 2 threads), 2026-11-24T10:00:00+00:00",
        "B: B.json: efficientdet-d0, cpu (a, 2 threads), 2026-11-24T10:00:00+00:00",
        "                            A            B      B/A  95% interval of B/A",
        "throughput             10.000        5.000    0.500",
        "latency mean          100.000      200.000    2.000  1.968 to 2.032 (differ)",
        "latency median        100.000      200.000    2.000  1.941 to 2.061 (differ)",
        "latency p50           100.000      200.000    2.000  1.941 to 2.061 (differ)",
        "latency p90           102.000      204.000    2.000",
        "latency p95           102.000      204.000    2.000",
        "latency p99           102.000      204.000    2.000",
        "latency min            98.000      196.000    2.000",
        "latency max           102.000      204.000    2.000",
        "5 and 5 samples: no interval where they are too few to tell a difference",
        "throughput in samples/sec, latencies in ms a batch; the intervals answer for these samples, not for another "
        "day",
    ]


def test_latencies_of_requests_are_called_so(files, capsys):
    first, second = make(BASE), make(BASE)
    for record in (first, second):
        record["configuration"]["script"] = "embedded"
    assert "latencies in ms a request;" in run(capsys, *files(first, second))[1]
    _, out, _ = run(capsys, *files(first, make(BASE)), "--force")
    assert "latencies in ms;" in out


def test_two_samples_are_too_few_to_call_anything_different(files, capsys):
    status, out, _ = run(capsys, *files(make([0.100, 0.101]), make([0.2, 0.201])))
    assert status == 0 and "(differ)" not in out and "2 and 2 samples" in out


def test_a_tail_is_called_different_where_there_are_samples_of_it(files, capsys):
    many = [0.1 + 0.0001 * (number % 17) for number in range(100)]
    _, out, _ = run(capsys, *files(make(many), make([2 * value for value in many])))
    assert re.search(r"^latency p99 .*\(differ\)$", out, re.MULTILINE) and "samples: no interval" not in out


def test_a_run_does_not_differ_from_itself(files, capsys):
    status, out, _ = run(capsys, *files(make(BASE), make(BASE)), "--fail-if", "p50>+0%,p99>+0%,throughput<-0%")
    assert status == 0 and "(differ)" not in out and "FAILED" not in out


@pytest.mark.parametrize(
    "condition, fails",
    [
        ("p50>+5%", True),
        ("p50>+11%", False),
        ("p50 > +5 %", True),
        ("p50<-5%", False),
        ("throughput<-5%", True),
        ("throughput<-20%", False),
        ("p99.9>+5%", True),
        ("mean>+5%, p50>+50%", True),
        ("median>+20%", False),
        ("min>+5%", True),
    ],
)
def test_conditions_fail_a_build(files, capsys, condition, fails):
    paths = files(make(BASE), make([1.1 * value for value in BASE]))
    status, out, _ = run(capsys, *paths, "--fail-if", condition)
    assert status == (1 if fails else 0)
    assert ("FAILED" in out) == fails
    if fails:
        assert "changed by -9.1 %" in out if "throughput" in condition else "changed by +10.0 %" in out


@pytest.mark.parametrize(
    "condition", ["p50", "p50>5", "p50>+5", "speed>+5%", "p101>+5%", "p0>+5%", "p50=+5%", ">+5%", ",", "", " "]
)
def test_conditions_that_mean_nothing_are_refused(files, capsys, condition):
    status, out, err = run(capsys, *files(make(BASE), make(BASE)), "--fail-if", condition)
    assert status == 2 and out == "" and err.startswith("error: ")


def test_a_condition_of_which_the_shell_has_taken_a_part_is_told_to_be_quoted(files, capsys):
    assert "in quotation marks" in run(capsys, *files(make(BASE), make(BASE)), "--fail-if", "p50")[2]


def test_the_name_that_a_sweep_was_given_leads_to_its_files(tmp_path, capsys):
    for name in ("run-10.json", "run-2.json", "run-x.json"):  # the first combination failed
        (tmp_path / name).write_text("{}")
    status, _, err = run(capsys, str(tmp_path / "run.json"), str(tmp_path / "run-2.json"))
    assert status == 2 and f"a sweep numbers its records, one for each combination: {tmp_path}/run-2.json is the" in err
    assert "a sweep" not in run(capsys, str(tmp_path / "other.json"), str(tmp_path / "run-2.json"))[2]


@pytest.mark.parametrize("path", [".", "/", "", "nowhere/a.json", "a\0b.json"])
def test_what_is_no_file_is_told_as_that(path, capsys):
    status, _, err = run(capsys, path, "b.json")
    assert status == 2 and err.startswith("error: ") and "cannot be read" in err


def test_runs_of_different_work_are_refused_with_the_keys(files, capsys):
    other = make(BASE, micro_batch_size=2, nms_mode="multi-class")
    other["nms"]["score_threshold"] = 0.05
    other["weights"]["sha256"] = "1" * 64
    paths = files(make(BASE), other)
    status, out, err = run(capsys, *paths)
    assert status == 2 and out == ""
    keys = [line.split(":")[0].strip() for line in err.splitlines()[1:-1]]
    assert keys == ["configuration.micro_batch_size", "configuration.nms_mode", "nms.score_threshold", "weights.sha256"]
    assert "configuration.micro_batch_size: 1 / 2" in err and "--force" in err
    status, out, err = run(capsys, *paths, "--force")
    assert status == 0 and "not the same work: configuration.nms_mode: best-class / multi-class" in out


@pytest.mark.parametrize("options", [{"num_repeats": 500}, {"results_json": "x.json"}, {"opt_prefetch_depth": 4}])
def test_options_that_leave_the_work_the_same_do_not_matter(files, capsys, options):
    assert run(capsys, *files(make(BASE), make(BASE, **options)))[0] == 0


def test_other_machines_and_versions_are_told(files, capsys):
    other = copy.deepcopy(make(BASE))
    other["versions"]["numpy"] = "0.1"
    other["machine"]["cpu"] = "abacus"
    status, out, _ = run(capsys, *files(make(BASE), other))
    assert status == 0
    assert f"differs: versions.numpy: {np.__version__} / 0.1" in out and "abacus" in out


def test_an_unstable_run_is_marked(files, capsys):
    _, out, _ = run(capsys, *files(make(BASE), make([*BASE * 4, 0.9])))
    assert "2026-11-24T10:00:00+00:00, UNSTABLE: tail: p99 is 9.0 times p50" in out


def test_a_pipe_of_the_file_system_is_no_record_and_is_not_waited_for(files, capsys, tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    status, out, err = run(capsys, *files(make(BASE)), str(tmp_path / "pipe"))
    assert (status, out) == (2, "") and "(it is a pipe): write its content to a file first." in err


def test_what_unstable_means_is_said_once(files, capsys):
    steady, unstable = make(BASE), make([*BASE * 4, 0.9])
    for pair in [(unstable, steady), (steady, unstable), (unstable, unstable)]:
        assert run(capsys, *files(*pair))[1].count("\nUNSTABLE: One number does not stand for these times") == 1
    assert "UNSTABLE" not in run(capsys, *files(steady, steady))[1]


def test_the_longer_of_two_unstable_runs_says_how_long_to_measure(files, capsys):
    short, long = make([0.1] * 20 + [0.9]), make([2.0] * 20 + [18.0])
    for pair, seconds in [((short, short), 30), ((short, long), 120), ((long, short), 120)]:
        assert f"longer (--min-seconds {seconds})" in run(capsys, *files(*pair))[1]


def test_the_interval_of_the_ratio_covers_the_truth_about_as_often_as_it_says():
    covered, median = 0, statistic_named("median")
    for seed in range(40):
        random = np.random.RandomState(seed)
        low, high = ratio_interval(1 + 0.1 * random.randn(40), 2 + 0.2 * random.randn(40), median)
        covered += low <= 2 <= high
    assert 32 <= covered <= 40  # 38 expected


def test_percentiles_are_those_of_the_report():
    record = make(BASE + [0.3, 0.11])
    for percent, value in record["statistics"]["latency_ms"]["percentiles"].items():
        assert compare.line(record, record, f"p{percent}").values == pytest.approx((value, value))


NONSENSE = {
    "empty": b"",
    "nested": b"[" * 100000,
    "a list": b"[]",
    "not Unicode": b'{"schema": "\xff"}',
    "digits": b'{"schema": ' + b"9" * 10000 + b"}",
    "NaN": b'{"schema": NaN}',
    "a key twice": b'{"schema": 1, "schema": 2}',
}


@pytest.mark.parametrize("name", sorted(NONSENSE))
def test_a_file_that_is_no_record_has_status_2_whatever_the_condition(files, capsys, name):
    first, second = files(make(BASE), make(BASE))
    for place in (first, second):
        files(make(BASE), make(BASE))
        with open(place, "wb") as file:
            file.write(NONSENSE[name])
        status, out, err = run(capsys, first, second, "--fail-if", "p50>-50%", "--force")
        assert (status, out) == (2, "") and err.startswith(f"error: {place} ") and err.count("\n") == 1


def test_a_record_with_options_nested_deeply_is_refused(files, capsys):
    deep = make(BASE)
    for _ in range(200):
        deep["configuration"] = {"inner": deep["configuration"]}
    status, _, err = run(capsys, *files(deep, make(BASE)), "--force")
    assert status == 2 and "nested too deeply" in err


def test_what_a_terminal_obeys_is_not_printed(files, capsys):
    bad = make(BASE)
    bad["model"]["name"] = bad["device"]["name"] = bad["versions"]["numpy"] = "\x1b[31m\nthroughput: \ud800"
    bad["configuration"]["a\nb"], bad["unstable"] = 1, ["\x07"]
    status, out, _ = run(capsys, *files(bad, make(BASE)), "--force")
    assert status == 0 and "\\x1b[31m\\nthroughput" in out
    assert all(line.isprintable() for line in out.splitlines()) and "\nthroughput: " not in out


@pytest.mark.parametrize("condition, expected", [("p50>+5%", 1), ("p50>+50%", 0)])
def test_a_reader_that_stops_changes_no_status(files, condition, expected):
    paths = files(make(BASE), make([1.1 * value for value in BASE]))
    command = [sys.executable, "-m", "ipu_utils.compare", *paths, "--fail-if", condition]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, cwd=str(ROOT), stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (expected, b"")


def test_a_defect_is_not_taken_for_a_condition(files, capsys, monkeypatch):
    def broken(*arguments):
        raise KeyError("a defect")

    monkeypatch.setattr(compare, "work_differences", broken)
    assert compare.run(files(make(BASE), make(BASE))) == 2
    assert "Traceback" in capsys.readouterr().err


def image_file(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_images_are_known_by_their_content_whatever_they_are_called_and_wherever_they_lie(tmp_path, photograph):
    other = photograph[:-2] + b"xx"
    first = [image_file(tmp_path / "a" / name, content) for name, content in (("1.jpg", photograph), ("2.jpg", other))]
    again = [image_file(tmp_path / "b" / name, content) for name, content in (("x.jpg", photograph), ("y.jpg", other))]
    turned = [image_file(tmp_path / "c" / name, content) for name, content in (("1.jpg", other), ("2.jpg", photograph))]
    sources = [
        ImageFiles(paths, paths[0].parent, (64, 64), skip_bad=True) for paths in (first, again, turned, first[:1])
    ]
    digests = [source.content()["sha256"] for source in sources]
    assert digests[0] == digests[1] and len({*digests}) == 3
    assert NoiseImages(3, (64, 64), 5).content() == NoiseImages(9, (64, 64), 5).content()
    noise = [
        NoiseImages(3, size, seed).content()["sha256"] for size, seed in (((64, 64), 5), ((64, 64), 6), ((64, 32), 5))
    ]
    assert len({*noise}) == 3


@pytest.fixture
def photograph():
    return (Path(__file__).resolve().parents[1] / "data" / "images" / "rocket.jpg").read_bytes()


IMAGES = {"sha256": "1" * 64, "sha256_of": "two files"}
PATHS = {"dataset_type": "image-directory", "image_path": "a"}


def of(seconds=(0.5, 0.4), images=IMAGES, kind="cpu", changes=(), **options):
    found = outcome(Samples(seconds, 1, 1), images=images)
    found = dataclasses.replace(found, device={**found.device, "kind": kind})
    return {**records.make_record(run_config(**{**PATHS, **options}), found), **dict(changes)}


SAME = [
    {"image_path": "b"},
    {"seed": 3, "model_dir": "elsewhere", "hparams": "image_size=512", "score_preset": "deployment"},
    {"image_size": (128, 256)},
    {"executable_cache_dir": "cache"},
    {"profile_dir": "profile", "debug": True, "synthetic": True},  # an IPU's work alone
    {
        "output_predictions": True,
        "output_dir": "x",
        "coco_results": "r.json",
        "coco_annotations": "a.json",
        "contact_sheet": "c.png",
        "results_json": "x.json",
        "report": "r.html",
    },
    {"num_repeats": 5, "warmup": 2, "min_seconds": 1.0, "percentiles": "50,99", "quiet": True, "log_level": "error"},
    {"force": True, "skip_bad_images": True},
]
DIFFERENT = [
    ({"micro_batch_size": 2}, "configuration.micro_batch_size: 1 / 2"),
    ({"num_threads": 1}, "configuration.num_threads: none / 1"),
    ({"onchip_nms": False}, "configuration.onchip_nms: True / False"),
    ({"images": {**IMAGES, "sha256": "2" * 64}}, "images.sha256: " + "1" * 57 + "... / " + "2" * 57 + "..."),
    ({"images": {}, "image_path": "b"}, "configuration.image_path: a / b"),
]


@pytest.mark.parametrize("options", SAME, ids=lambda options: next(iter(options)))
def test_runs_that_differ_in_where_they_read_write_or_keep_do_the_same_work(options):
    assert work_differences(of(), of(**options)) == []


@pytest.mark.parametrize("options, line", DIFFERENT, ids=range(len(DIFFERENT)))
def test_runs_that_differ_in_what_decides_do_not(options, line):
    assert work_differences(of(), of(**options)) == [line]


def test_on_an_ipu_a_profile_is_work_and_its_folder_is_not():
    plain, one, other = (of(kind="ipu", **options) for options in ({}, {"profile_dir": "a"}, {"profile_dir": "b"}))
    assert work_differences(plain, one) == ["configuration.profile_dir: none / a"]
    assert work_differences(one, other) == []
    assert work_differences(plain, of(kind="ipu", debug=True)) == ["configuration.debug: False / True"]


def test_hyper_parameters_count_by_what_they_say():
    models = [{**of()["model"], "hparams_sha256": letter * 64} for letter in "aab"]
    assert work_differences(*(of(changes={"model": model}) for model in models[:2])) == []
    (line,) = work_differences(*(of(changes={"model": model}) for model in models[1:]))
    assert line.startswith("model.hparams_sha256: aaa")
    assert work_differences(of(), of(changes={"model": models[0]})) == []  # a record of an earlier release
