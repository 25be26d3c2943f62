# SPDX-License-Identifier: Apache-2.0
"""Records: against their schema, and against what was measured."""

import collections
import contextlib
import csv
import io
import json
import multiprocessing
import os
import random
import subprocess
import sys

import jsonschema
import numpy as np
import pytest
from records import SHA, outcome, publish, run_config

import ipu_inference
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import UserError
from ipu_utils.measure.requests import RequestTimes, samples_of
from ipu_utils.measure.stages import DEVICE, INPUT_WAIT, POST_PROCESSING, Stages
from ipu_utils.measure.throughput import Samples, pool
from ipu_utils.model.network import hash_arrays
from ipu_utils.report import record as records
from ipu_utils.report import record_rules
from ipu_utils.report.publish import append_rows, publisher
from ipu_utils.report.result import nms_facts, weights_facts
from ipu_utils.report.text import describe_stages


@pytest.fixture(scope="module")
def validate():
    schema = json.loads(records.SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return lambda record: jsonschema.Draft202012Validator(schema).validate(record)


REQUESTS = RequestTimes((0.01, 0.02, 0.03), (0.02, 0.03, 0.05))


@pytest.mark.parametrize(
    "found",
    [
        outcome(),
        outcome(Samples((0.5,), 1, 1), stages={}, warmup_seconds=()),
        outcome(samples_of(REQUESTS, 1, alone=False), label="Request"),
        outcome(pool([Samples((0.5, 0.4), 5, 2), Samples((0.6, 0.7, 0.8), 5, 2)])),
        outcome(objects={"candidates": None, "detections": 0.0, "images": 0}),
        outcome(nms=nms_facts({"method": "gaussian"}, "multi-class", "x", False)),
        outcome(nms=nms_facts({}, "class-agnostic", "x", False)),
        outcome(weights=weights_facts("312 of 312 variables from tmp/d0 (h5 file, raw)", False, SHA, "files")),
    ],
    ids=["plain", "one sample", "requests", "two instances", "no outputs", "soft", "any score", "checkpoint"],
)
def test_records_follow_their_schema(found, validate):
    validate(json.loads(records.to_json(records.make_record(run_config(), found))))


def test_the_embedded_script_records_its_own_options(validate):
    record = records.make_record(run_config("embedded"), outcome(samples_of(REQUESTS, 1, alone=True)))
    validate(record)
    assert record["configuration"]["requests_in_flight"] == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: record.pop("git"),
        lambda record: record.update(schema_version=99),
        lambda record: record.update(surprise=1),
        lambda record: record["samples"]["instances"][0].update(seconds=[]),
        lambda record: record["nms"].update(iou_threshold=1.5),
        lambda record: record["stage_seconds"].update(lunch=[1.0]),
    ],
)
def test_the_schema_notices_what_is_wrong(spoil, validate):
    record = records.make_record(run_config(), outcome())
    spoil(record)
    with pytest.raises(jsonschema.ValidationError):
        validate(record)


def test_every_raw_sample_is_kept_and_statistics_follow_from_them():
    samples = pool([Samples((0.5, 0.4), 5, 2), Samples((0.6, 0.7, 0.8), 5, 2)])
    record = records.make_record(run_config(), outcome(samples))
    assert [part["seconds"] for part in record["samples"]["instances"]] == [[0.5, 0.4], [0.6, 0.7, 0.8]]
    assert records.latencies_ms(record) == pytest.approx([100, 80, 120, 140, 160])
    latency = record["statistics"]["latency_ms"]
    assert latency["mean"] == pytest.approx(np.mean([100, 80, 120, 140, 160]))
    assert latency["percentiles"] == pytest.approx({"50": 120, "90": 160, "95": 160, "99": 160})
    assert record["statistics"]["images_per_second"]["mean"] == pytest.approx(20 / 0.9 + 30 / 2.1)
    assert record["statistics"]["stages_ms"]["device"]["mean"] == pytest.approx(100)


def test_matched_variables_are_read_from_the_report_of_the_checkpoint():
    found = weights_facts("312 of 312 variables from tmp/d0/model (TensorFlow 1 checkpoint, averaged)", False, SHA, "x")
    assert (found["variables_matched"], found["variables_total"]) == (312, 312)
    assert weights_facts("random, seed 0", True, SHA, "x")["variables_matched"] is None


def test_the_hash_of_weights_depends_on_values_shapes_and_order():
    one, two = np.zeros((2, 3), np.float32), np.ones(6, np.float32)
    hashes = [
        hash_arrays(arrays) for arrays in ([one, two], [two, one], [one.reshape(6), two], [one, one], [one, 2 * two])
    ]
    assert len(set(hashes)) == 5
    assert hash_arrays([one, two]) == hash_arrays([one.copy(), two.copy()])


def test_a_record_on_standard_output_stands_there_alone(validate):
    out, err = publish(run_config(results_json="-"), outcome())
    validate(json.loads(out))
    assert "throughput: 20.00 samples/sec," in err


def test_a_table_on_standard_output_stands_there_alone():
    out, err = publish(run_config(results_csv="-"), outcome())
    (row,) = csv.DictReader(io.StringIO(out))
    assert float(row["images_per_second"]) == pytest.approx(20)
    assert float(row["latency_p50_ms"]) == pytest.approx(100)
    assert row["image_size"] == "256x128"
    assert "Benchmark complete." in err


def test_the_report_stays_on_standard_output_when_records_go_to_files(tmp_path, validate):
    json_file, csv_file = tmp_path / "new" / "run.json", tmp_path / "runs.csv"
    out, err = publish(run_config(results_json=json_file, results_csv=csv_file), outcome())
    assert "throughput: 20.00 samples/sec," in out and err == ""
    validate(records.read_record(json_file))
    assert len(csv_file.read_text().splitlines()) == 2
    publish(run_config(results_csv=csv_file), outcome())
    assert [row["model"] for row in csv.DictReader(io.StringIO(csv_file.read_text()))] == ["efficientdet-d0"] * 2
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["run.json", "runs.csv"]


def test_both_on_standard_output_are_refused():
    with pytest.raises(UserError, match="cannot both"):
        publish(run_config(results_json="-", results_csv="-"), outcome())


def test_a_place_that_cannot_be_written_is_told_before_the_run(tmp_path):
    (tmp_path / "file").touch()
    for name in ("results_json", "results_csv"):
        with pytest.raises(UserError, match="cannot be written"), publisher(
            run_config(**{name: tmp_path / "file" / "x"})
        ):
            raise AssertionError("the run began")
    with pytest.raises(UserError, match="is a folder"), publisher(run_config(results_json=tmp_path)):
        raise AssertionError("the run began")


@pytest.mark.parametrize("content", ["my notes\n", "started,script,model\n"])
def test_a_file_that_is_no_such_table_is_not_touched(tmp_path, content):
    path = tmp_path / "runs.csv"
    path.write_text(content)
    with pytest.raises(UserError, match="other columns"), publisher(run_config(results_csv=path)):
        raise AssertionError("the run began")
    assert path.read_text() == content


def test_other_percentiles_are_other_columns(tmp_path):
    path = tmp_path / "runs.csv"
    publish(run_config(results_csv=path, percentiles="50,99.9"), outcome())
    assert "latency_p99.9_ms" in path.read_text()
    with pytest.raises(UserError, match="--percentiles"):
        publish(run_config(results_csv=path), outcome())


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_whose_last_line_has_no_end_gets_one_first(tmp_path, rows):
    path = tmp_path / "runs.csv"
    _append(path, rows)
    if not rows:
        path.write_text(",".join(records.columns((50.0, 90.0, 95.0, 99.0))) + "\n")
    path.write_bytes(path.read_bytes()[:-1])
    _append(path, 1)
    found = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["measured"] for row in found] == ["from here to there"] * (rows + 1)


def test_a_table_is_appended_to_where_a_link_leads(tmp_path):
    (tmp_path / "link").symlink_to("deep/../runs.csv")
    for _ in range(2):
        publish(run_config(results_csv=tmp_path / "link"), outcome())
    assert (tmp_path / "link").is_symlink() and len((tmp_path / "runs.csv").read_text().splitlines()) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="pipes as Linux has them")
def test_a_pipe_gets_a_table_of_its_own(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    publish(run_config(results_csv=tmp_path / "pipe"), outcome())
    (row,) = csv.DictReader(io.StringIO(reader.communicate(timeout=60)[0]))
    assert row["measured"] == "from here to there"


def _append(path, count):
    row = records.row(records.make_record(run_config(), outcome()))
    for _ in range(count):
        append_rows(path, (50.0, 90.0, 95.0, 99.0), [row])


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and locks")
def test_rows_of_runs_that_end_together_do_not_mix(tmp_path):
    path = tmp_path / "runs.csv"
    fork = multiprocessing.get_context("fork")
    runs = [fork.Process(target=_append, args=(path, 5)) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert len(rows) == 20
    assert all(None not in row and row["measured"] == "from here to there" for row in rows)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "cannot be read"),
        ("{", "is not a JSON file"),
        ("[1]", "is not a record"),
        ('{"schema": "efficientdet-benchmark-record", "schema_version": 2}', "schema version 2"),
        ('{"schema": "efficientdet-benchmark-record", "schema_version": 1}', "is not whole"),
        ('{"schema": "efficientdet-benchmark-record", "schema_version": 1, "samples": NaN}', "NaN"),
    ],
)
def test_what_is_no_record_is_refused_with_the_reason(tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        records.read_record(path)


def test_stages_are_timed_apart_and_the_warm_up_forgotten():
    now = [0.0]
    stages = Stages(lambda: now[0])
    for wait, work in ((50, 50), (1, 10), (3, 30)):
        with stages.span(INPUT_WAIT):
            now[0] += wait
        with stages.span(DEVICE):
            now[0] += work
        if wait == 50:
            stages.clear()
    assert stages.seconds() == {INPUT_WAIT: (1, 3), DEVICE: (10, 30)}
    text = describe_stages(stages.seconds())
    assert "input wait 2000.00 ms, device 20000.00 ms a batch (means of 2;" in text
    assert "overlap" in text and describe_stages(stages.seconds(), overlap=False).endswith(
        "a batch (means of 2; one at a time)"
    )
    assert describe_stages(Stages().seconds()) is None


def test_a_stage_that_fails_is_no_sample():
    stages = Stages()
    with contextlib.suppress(KeyError), stages.span(POST_PROCESSING):
        raise KeyError
    assert stages.seconds() == {}


def _bend(rng, record):
    """Exchange a value, or take a key away."""
    from fuzz.json_surfaces import ODD, places_of

    container, key = rng.choice(places_of(record))
    if isinstance(container, dict) and rng.random() < 0.3:
        del container[key]
    else:
        container[key] = rng.choice([value for value in ODD if not isinstance(value, float) or np.isfinite(value)])
    return record


def test_records_are_refused_where_their_schema_refuses_them(tmp_path, validate):
    rng, agreed = random.Random(0), collections.Counter()
    whole = records.to_json(records.make_record(run_config(), outcome()))
    path = tmp_path / "x.json"
    for _ in range(250):
        record = _bend(rng, json.loads(whole))
        path.write_text(json.dumps(record))
        try:
            validate(record)
            follows = True
        except jsonschema.ValidationError:
            follows = False
        try:
            assert records.read_record(path) == record
            read = True
        except UserError:
            read = False
        # Numbers are bounded here, which JSON Schema's are not.
        assert read <= follows, record
        agreed[read, follows] += 1
    assert agreed[True, True] > 40 and agreed[False, False] > 90
    assert agreed[False, True] < 20, agreed


@pytest.mark.parametrize(
    "spoil, words",
    [
        (
            lambda record: record["samples"]["instances"][0]["seconds"].append("1"),
            r"samples.instances\[0\].seconds\[3\]",
        ),
        (lambda record: record["samples"]["instances"][0]["seconds"].append(1e400), r"seconds\[3\] is Infinity"),
        (lambda record: record["samples"]["instances"][0]["seconds"].append(1e-300), r"no time of a call"),
        (lambda record: record["samples"].update(batches_per_call=10**400), "samples.batches_per_call"),
        (lambda record: record["samples"].update(batches_per_call=10**16), "batches_per_call is 10{16}[.] Measure"),
        (lambda record: record["samples"].update(batches_per_call=1.5), "batches_per_call is 1.5, expected integer"),
        (lambda record: record["statistics"]["latency_ms"].update(mean=1e16), r"latency_ms.mean is 1e.16[.] Measure"),
        (lambda record: record["nms"].update(mode="none"), '"none", expected best-class or class-agnostic or multi'),
        (lambda record: record["nms"].update(mode=[1]), "nms.mode is .1., expected best-class"),
        (lambda record: record["weights"].update(sha256="x"), 'weights.sha256 is "x"'),
        (lambda record: record["device"].pop("name"), "device.name is missing"),
        (lambda record: record["samples"].update(batches_per_call=0), "samples.batches_per_call is 0"),
        (lambda record: record["samples"].update(instances=[]), "samples.instances has 0 values"),
        (lambda record: record["statistics"]["images_per_second"].update(mean=5e-324), "which is no rate"),
        (lambda record: record["statistics"]["latency_ms"]["percentiles"].update({"...": 1}), "no percentage"),
        (lambda record: record["statistics"]["latency_ms"]["percentiles"].update({"500": 1}), "no percentage"),
        (lambda record: record["statistics"]["latency_ms"]["percentiles"].update({"a": 1}), "does not belong there"),
        (lambda record: record.update(unstable="x"), 'unstable is "x", expected array'),
        (lambda record: record["model"].update(name=None), "model.name is null, expected string"),
        (lambda record: record.update(configuration=[]), r"configuration is \[\], expected object"),
        (lambda record: record["versions"].update(a={"b": 1}), "versions.a is an object"),
    ],
)
def test_a_record_that_cannot_be_calculated_with_is_refused_with_the_place(tmp_path, spoil, words):
    record = records.make_record(run_config(), outcome())
    spoil(record)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(record).replace("Infinity", "1e400"))
    with pytest.raises(UserError, match=words):
        records.read_record(path)


@pytest.mark.parametrize("change", [{"new": 1}, {"model": "new"}, {"device": "new"}])
def test_keys_of_a_later_release_are_let_through(tmp_path, change):
    record = records.make_record(run_config(), outcome())
    for key, value in change.items():
        (record if key == "new" else record[key])["new"] = value
    path = tmp_path / "x.json"
    path.write_text(json.dumps(record))
    assert records.read_record(path) == json.loads(json.dumps(record))


def test_a_record_cannot_be_read_without_jsonschema_and_a_sweep_does_not_begin(tmp_path, monkeypatch, capsys):
    path = tmp_path / "x.json"
    path.write_text(records.to_json(records.make_record(run_config(), outcome())))
    argv = ["--device", "cpu", "--random-weights", "--micro-batch-size", "1,2"]
    for module in [module for module in sys.modules if module.split(".")[0] == "jsonschema"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    record_rules.validator.cache_clear()
    for main in (lambda: records.read_record(path), lambda: ipu_inference.main(argv)):
        assert run_script(main) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "error: the Python package jsonschema " in err, err


def test_of_requests_in_flight_together_the_time_of_the_run_counts_for_what_to_do_about_unstable_ones():
    seconds = (8.0,) * 20 + (80.0,)  # 240 s, which four in flight at a time took in 60 s
    times = RequestTimes(seconds, tuple(np.linspace(2, 60, 21).tolist()))
    unstable = records.make_record(run_config(), outcome(samples_of(times, 1, alone=False)))
    assert "--min-seconds 120)" in records.unstable_explained([unstable])[0]
    assert records.unstable_explained([records.make_record(run_config(), outcome())]) == []
