# SPDX-License-Identifier: Apache-2.0
"""Engines and precisions in one table, end to end: what its columns say of a detector that was really trained."""

import csv
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ipu_utils.nms import libraries
from ipu_utils.report.record import read_record

ROOT = Path(__file__).resolve().parents[2]
TRAINED = ROOT / "tests" / "data" / "trained"
AP = json.loads((TRAINED / "automl.json").read_text())["numbers"]["hard/per_class"][0]
ARGUMENTS = [
    "--device", "cpu", "--engine", "openvino,litert", "--model-precision", "float,bfloat16", "--preset", "accuracy",
    "--model-name", "efficientdet-lite0", "--model-dir", TRAINED, "--image-path", TRAINED / "images",
    "--coco-annotations", TRAINED / "annotations.json",
]  # fmt: skip
NEEDED = ("openvino", "ai_edge_litert", "pycocotools")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not libraries.libdetect_path().is_file() or any(importlib.util.find_spec(name) is None for name in NEEDED),
        reason="libdetect.so, OpenVINO, LiteRT or pycocotools is missing",
    ),
]


def sweep(script, folder, *more):
    """The lines of the table, and the rows of the CSV."""
    table = folder / f"{script}.csv"
    command = [sys.executable, str(ROOT / script), *map(str, ARGUMENTS), "--executable-cache-dir", str(folder / "kept")]
    run = subprocess.run([*command, "--results-csv", str(table), *map(str, more)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("     model"))
    return lines[start:], list(csv.DictReader(io.StringIO(table.read_text())))


def test_each_engine_and_precision_is_a_row_and_what_cannot_be_done_too(tmp_path):
    lines, rows = sweep("ipu_inference.py", tmp_path, "--results-json", tmp_path / "r.json")
    assert lines[0].split() == [
        "model", "batch", "precision", "engine", "status", "images/s", "p50", "compile", "file", "memory", "agreement",
        "AP",
    ]  # fmt: skip
    assert max(map(len, lines[:6])) <= 120
    assert [line.split()[3:5] for line in lines[2:6]] == [
        ["float", "openvino"], ["float", "litert"], ["bfloat16", "openvino"], ["bfloat16", "litert"],
    ]  # fmt: skip
    measured = [row for row in rows if row["images_per_second"]]
    assert rows[3]["status"].startswith("not supported: --engine litert computes in float and int8, not in bfloat16")
    assert "not supported: --engine litert computes in float" in lines[5] and rows[3] not in measured
    assert rows[:2] == measured[:2] and len(measured) in (2, 3)  # not every CPU computes in bfloat16
    assert any(line.startswith("measured:  from asking for a batch") and "NMS included" in line for line in lines)
    for number, row in enumerate(rows, 1):
        if row in measured:
            line, record = lines[1 + number].split(), read_record(tmp_path / f"r-{number}.json")
            assert float(row["ap"]) == record["accuracy"]["AP"] == pytest.approx(AP, abs=0.015)
            assert f"{record['accuracy']['AP']:.4f}" == line[-1]
            size = sum(path.stat().st_size == int(row["executable_bytes"]) for path in (tmp_path / "kept").iterdir())
            assert size >= 1 and line[-4] == f"{int(row['executable_bytes']) / 1e6:.1f}"
            assert record["executable"]["origin"] == "compiled" and float(row["compile_seconds"]) > 0.5
            assert line[-5] == f"{float(row['compile_seconds']):.1f}" and 50 < float(row["own_peak_memory_mib"]) < 4000
    assert [line.split()[-2] for line in lines[2:3]] == ["ref"] and rows[0]["agreement"] == ""
    assert float(rows[1]["agreement"]) > 0.99  # another engine, the same numbers
    assert all(0.9 < float(row["agreement"]) <= 1 for row in measured[2:])

    lines, rows = sweep("ipu_embedded_inference.py", tmp_path)  # from the same files, without building anything
    kept = [row for row in rows if row["images_per_second"]]
    assert len(kept) == len(measured)
    assert all(row["executable_origin"] == "kept" and row["compile_seconds"] == "" for row in kept)
    assert lines[2].split()[-5] == "kept"
    assert [float(row["ap"]) for row in kept] == pytest.approx([float(row["ap"]) for row in measured], abs=0.003)
    assert any("to detections in memory: NMS included; ms a request" in line for line in lines)
