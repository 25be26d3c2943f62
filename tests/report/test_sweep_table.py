# SPDX-License-Identifier: Apache-2.0
"""The table that ends a sweep, of records that are given; what the sweep itself adds is in tests/launch."""

import json

import pytest
from records import outcome, run_config

from ipu_utils.measure.throughput import Samples
from ipu_utils.report import record as records
from ipu_utils.report import record_rules
from ipu_utils.report.sweep_table import WIDTH, SweepRow, format_table, status, table_row

SPAN = "from asking for a batch of resized images to detections in host memory"


def make(engine="openvino", agreement=None, accuracy=None, name="efficientdet-lite3x", ends=SPAN, **executable):
    model = {"name": name, "image_size": [64, 64], "num_classes": 90, "precision": "bfloat16", "input_type": "uint8"}
    found = outcome(Samples((1.25, 1.23456, 1.5), 1, 1), measured=ends, model=model, accuracy=accuracy)
    record = records.make_record(run_config(engine=engine), found)
    record["executable"].update(executable)
    record["machine"]["own_peak_memory_mib"] = 1200.5
    if agreement is not None:
        reference, detections, again = agreement
        record["agreement"] = {
            "is_reference": reference, "reference_engine": "openvino", "iou_above": 0.5, "images": 16,
            "detections": detections, "found_again": again,
        }  # fmt: skip
    assert record_rules.first_problem(json.loads(records.to_json(record))) is None
    return record


COMPILED = {"origin": "compiled", "bytes": 17_460_000, "compile_seconds": 12.94}
KEPT = {"origin": "kept", "bytes": 999_999_999, "compile_seconds": None}
ACCURACY = {"AP": 0.58249, "AP50": 0.8, "APs": None, "images": 120}


TABLE = """\
     model   batch  precision  engine      status  images/s      p50  compile    file  memory  agreement      AP
                                                                  ms        s      MB      MB
  1  lite3x  1      bfloat16   openvino    ok          0.75  1250.00     12.9    17.5    1259        ref  0.5825
  2  lite3x  1      bfloat16   tensorflow  ok          0.75  1250.00     kept  1000.0    1259      0.955  0.5825
  3  lite3x  1      bfloat16   litert      ok          0.75  1250.00        -       -    1259          -       -
"""


def test_every_number_stands_below_its_name_and_unit():
    rows = [
        SweepRow({}, make(agreement=(True, 1570, 1570), accuracy=ACCURACY, **COMPILED)),
        SweepRow({}, make("tensorflow", agreement=(False, 1570, 1500), accuracy=ACCURACY, **KEPT)),
        SweepRow({}, make("litert")),
    ]
    assert format_table(rows).splitlines()[:5] == TABLE.splitlines()


def test_a_table_of_every_word_fits_into_120_columns():
    swept = {"engine": "onnxruntime"}
    rows = [
        SweepRow(swept, make("tensorflow", agreement=(False, 7, 7), accuracy=ACCURACY, **KEPT), "status 3"),
        SweepRow(swept, None, "not supported: " + "no " * 60, {"model": "efficientdet-lite3x", "precision": "half"}),
    ]
    text = format_table(rows, 2)
    table, below = text.splitlines()[:4], text.splitlines()[4:]
    assert max(map(len, table)) == WIDTH == 120 and table[3].endswith("no n...")
    assert below[0] == "  2: not supported: " + ("no " * 60).strip()  # whole, where the line had no room
    assert max(map(len, below[1:])) <= WIDTH
    assert below[-1] == "1 of 2 combinations have no numbers"


@pytest.mark.parametrize(
    "ends, words",
    [
        (SPAN, f"{SPAN}: NMS included; ms a batch"),
        ("from A to the network's outputs in memory", "outputs in memory: without NMS; ms a batch"),
    ],
)
def test_the_span_is_told_and_whether_nms_is_inside(ends, words):
    lines = format_table([SweepRow({}, make(ends=ends))]).splitlines()
    assert next(line for line in lines if line.startswith("measured:")).endswith(words)
    assert "agreement: no combination in float is there to compare with" in lines


def test_a_table_without_numbers_says_why():
    lines = format_table([SweepRow({}, None, "FAILED (status 2): first\nsecond")], 1).splitlines()
    assert lines[2].endswith("FAILED (status 2): first second")
    assert lines[3:] == [
        "FAILED: what a combination said is above; the others are complete.",
        "1 of 1 combinations have no numbers",
    ]


OK, NO_NUMBERS = SweepRow({}, make()), SweepRow({}, None, "ok, nothing was measured")
FAILED = SweepRow({}, None, "FAILED (status 2): no")
OTHER = SweepRow({}, None, "not supported: no")


@pytest.mark.parametrize(
    "rows, total, said",
    [
        ([OK, FAILED], 2, "the others are complete"),
        ([NO_NUMBERS, FAILED], None, "the others are complete"),
        ([FAILED, FAILED], 2, "none of 2 combinations is complete"),
        ([FAILED, FAILED], None, "none of 2 combinations is complete"),
        ([OK, FAILED, OTHER], 3, "1 of 3 combinations is complete"),
        ([OK, OK, FAILED], 5, "2 of 5 combinations are complete"),
        ([FAILED], 3, "none of 3 combinations is complete"),
    ],
)
def test_of_combinations_beside_those_that_failed_the_truth_is_told(rows, total, said):
    assert f"FAILED: what a combination said is above; {said}." in format_table(rows, total).splitlines()


def with_weights(random):
    record = make()
    return SweepRow({}, {**record, "weights": {**record["weights"], "random": random}})


@pytest.mark.parametrize(
    "random, told",
    [
        ((True, True), "random weights: "),
        ((True, None, True), "random weights: "),
        ((False, True), "row 2: random weights: "),
        ((True, True, None, True, False, True, True, True), "rows 1 to 2, 4, 6 to 8: random weights: "),
        ((False, False), None),
    ],
)
def test_random_weights_are_told_of_the_rows_that_have_them(random, told):
    rows = [FAILED if one is None else with_weights(one) for one in random]
    found = [line for line in format_table(rows).splitlines() if "random weights" in line]
    assert found == ([] if told is None else [f"{told}the speed is real, the detections mean nothing"])


def test_a_precision_that_nobody_asked_for_stands_in_its_row():
    row = SweepRow({}, None, "FAILED (status 2): no", {"model": "efficientdet-d0", "batch": "4"}, "bfloat16")
    assert format_table([row], 1).splitlines()[2].split()[:4] == ["1", "d0", "4", "bfloat16"]
    assert table_row(row)["precision"] == "bfloat16"
    assert table_row(row._replace(own_precision="float"))["precision"] == "float32"
    assert table_row(row._replace(swept={"model_precision": "half"}))["precision"] == "float16"


def test_a_row_of_the_csv_has_the_numbers_as_they_were_measured():
    row = table_row(SweepRow({}, make(agreement=(False, 8, 6), accuracy=ACCURACY, **COMPILED)))
    wanted = {"status": "ok", "executable_origin": "compiled", "compile_seconds": 12.94, "agreement": 0.75,
              "executable_bytes": 17_460_000, "own_peak_memory_mib": 1200.5, "ap": 0.58249}  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert list(row) == records.columns((50.0, 90.0, 95.0, 99.0))
    expected = {"model": "efficientdet-d0", "batch": "4", "precision": "half", "engine": "litert"}
    row = table_row(SweepRow({}, None, "FAILED (status 2): no", expected))
    assert row == {"model": "efficientdet-d0", "batch_size": "4", "precision": "float16", "engine": "litert",
                   "nms_mode": None, "status": "FAILED (status 2): no"}  # fmt: skip
    assert set(row) <= set(records.columns(()))


def test_a_word_for_the_end_of_a_row():
    record = make()
    assert status(SweepRow({}, record)) == "ok"
    assert status(SweepRow({}, {**record, "unstable": ["drift"]})) == "UNSTABLE"
    assert status(SweepRow({}, record, "status 3")) == "status 3"
