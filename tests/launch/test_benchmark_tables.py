# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/peers.py and growth.py make of samples, and how they write it into a document."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import engine_children
import growth
import peers
import publish
import start
from engine_children import Engine, engines

from ipu_utils.base.errors import UserError


def result(p50):
    return {"p50": p50, "p90": 2 * p50, "cpu": 3 * p50, "first_result_s": 1.0, "peak_mib": 100.0}


def test_ratios_are_to_the_plain_conversion_at_the_same_precision():
    rounds = {
        Engine("ours-openvino", "bfloat16", "network"): [result(3), result(9), result(4)],
        Engine("openvino", "bfloat16", "network"): [result(8), result(8), result(1)],
        Engine("litert", "float32", "network"): [result(5)],
    }
    rows = peers.table(rounds)
    assert [row[1] for row in rows] == ["4.00", "8.00", "5.00"]  # medians, not means
    assert [row[4] for row in rows] == ["0.50", "1.00", ""]
    assert rows[0][2] == "3.00 to 9.00"


def test_every_engine_is_compared_in_float32_ours_beside_it_and_in_every_precision():
    names = {engine.name for engine in engines(["float32", "bfloat16"])}
    plain = {"openvino", "tensorflow", "onnxruntime", "litert"}
    assert names == {*plain, *(f"ours-{name}" for name in plain), "keras", "effdet"}
    assert {engine.name for engine in engines(["bfloat16"])} == {"ours-openvino", "openvino"}
    assert {engine.name for engine in engines(["int8"])} == {"ours-litert", "litert"}


def test_a_section_is_replaced_and_everything_else_stays(tmp_path):
    document = tmp_path / "docs" / "PERFORMANCE.md"
    publish.replace_section(document, "peers", "first")
    document.write_text(document.read_text() + "\nby hand\n")
    publish.replace_section(document, "growth-batch", "other")
    publish.replace_section(document, "growth-size", "another")
    publish.replace_section(document, "peers", "second")
    text = document.read_text()
    assert "first" not in text and text.count("second") == 1 and "by hand" in text
    assert "other" in text and "another" in text and text.count("benchmarks/growth.py") == 2


def test_a_lost_marker_is_an_error_and_nothing_is_written(tmp_path):
    document = tmp_path / "doc.md"
    publish.replace_section(document, "peers", "numbers")
    broken = document.read_text().replace("<!-- peers: end -->", "")
    document.write_text(broken)
    with pytest.raises(ValueError, match="not a pair"):
        publish.replace_section(document, "peers", "more")
    assert document.read_text() == broken


def test_costs_are_shown_beside_their_floors(tmp_path):
    case = growth.Case("models", "efficientdet-d0", "efficientdet-d0", "", 1, 300, 2)
    samples = [{"network": 20.0, "post": 1.0, "reading": 0.5, "peak_mib": 200.0}] * 2
    lines = growth.table({case: samples}, {case: {"work": 2.5, "product": 4.0}})
    assert lines == [["efficientdet-d0", "21.00", "20.00", "10.00", "1.00", "0.50", "2.50", "8.40", "200"]]
    for axis in ("models", "batch"):
        publish.write_chart(tmp_path / f"{axis}.svg", growth.chart(axis, lines))
        assert ElementTree.parse(str(tmp_path / f"{axis}.svg")).getroot().tag.endswith("svg")


def test_each_model_has_a_table_and_a_chart_of_its_own(tmp_path):
    document = tmp_path / "PERFORMANCE.md"
    rounds = {
        Engine("openvino", "float32", "network"): [result(5)],
        Engine("litert", "float32", "network"): [result(7)],
    }
    for model in ("efficientdet-d0", "efficientdet-d1", "efficientdet-d0"):
        peers.write(model, rounds, "a machine", document)
    text = document.read_text()
    assert text.count("**efficientdet-d0**") == text.count("**efficientdet-d1**") == 1
    assert text.count("medians of 1 rounds. a machine") == 2
    for model in ("efficientdet-d0", "efficientdet-d1"):
        ElementTree.parse(tmp_path / "pictures" / f"peers-{model}.svg")
        assert f"(pictures/peers-{model}.svg)" in text


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for memory")
def test_memory_of_a_start_is_that_of_all_its_processes():
    code = (
        "import subprocess, sys; x = bytearray(60 << 20)\n"
        "if len(sys.argv) > 1: child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdin=subprocess.PIPE)\n"
        "else: print('ready', flush=True)\n"
        "sys.stdin.read()"
    )
    run = subprocess.Popen([sys.executable, "-c", code, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout.readline() == "ready\n"
        assert 120 < start.resident_of_tree(run.pid) < 400
    finally:
        run.communicate("")


def test_an_engine_is_left_out_in_a_precision_that_this_processor_lacks(monkeypatch):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    rows = [engine_children.Engine(name, "bfloat16", "network") for name in ("openvino", "ours-openvino", "litert")]

    def refuse(precision):
        raise UserError(f"OpenVINO cannot compute in {precision} on this CPU: use another.")

    monkeypatch.setattr(engine_children, "check_precision", refuse)
    told = "OpenVINO cannot compute in bfloat16 on this CPU"
    assert [engine_children.why_not(row) for row in rows] == [told, told, ""]
    monkeypatch.setattr(engine_children, "check_precision", lambda precision: None)
    assert [engine_children.why_not(row) for row in rows] == ["", "", ""]
