# SPDX-License-Identifier: Apache-2.0
"""Comma lists: which cells they make, and what becomes of the cells' results. A stand-in takes the script's place."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ipu_utils.base import hardware
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import UserError
from ipu_utils.executable.engines import ENGINES
from ipu_utils.launch import start, sweep_cells, sweep_runs
from ipu_utils.report.record import read_record

TESTS = Path(__file__).resolve().parents[1]

SCRIPT = """
import os
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import numpy as np
from ipu_utils.base.console import run_script
from ipu_utils.base.detections import Detections
from ipu_utils.base.errors import NotSupportedError, UserError
from ipu_utils.config.run_config import load_config
from ipu_utils.data.sources import NoiseImages
from ipu_utils.launch.agreement_pass import keep_detections
from ipu_utils.report.publish import publisher
from ipu_utils.measure.throughput import Samples
from records import outcome

def detect(images, scales):
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
    return Detections(boxes[None], np.ones((1, 2), np.float32), np.array([[1, 2]]), np.array([lost]))

def main():
    global lost
    config = load_config()
    lost = 1 if config.device.engine == "litert" else 2
    if config.device.engine == "litert" and config.model.model_precision == "bfloat16":
        raise NotSupportedError("litert has no bfloat16: " + 12 * "take another ")
    if config.model.model_precision == "float16":
        raise UserError("no such engine")
    if config.model.model_precision == "bfloat16" and config.data.seed == 9:
        os.kill(os.getpid(), 9)
    keep_detections(detect, NoiseImages(3, (16, 16), 0), 1)
    with publisher(config) as results:
        seconds = (0.1 * config.data.micro_batch_size,) * 3
        asked = config.model.model_precision
        model = dict(name=config.model.model_name, image_size=[64, 64], num_classes=90, input_type="uint8",
                     precision="float32" if asked is None else asked.value)
        results.publish(outcome(Samples(seconds, 1, config.data.micro_batch_size), model=model))

sys.exit(run_script(main))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    script = SCRIPT.format(root=str(TESTS.parent), tests=str(TESTS / "support"))
    (folder / "ipu_inference.py").write_text(script)
    monkeypatch.setattr(sweep_runs, "ROOT", folder)
    for name in start.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


def run(capfd, *argv):
    status = run_script(lambda: start.start("throughput", ["--device", "cpu", *map(str, argv)]))
    captured = capfd.readouterr()
    return status, captured.out, captured.err


def combinations(*argv):
    return [dict(cell.values) for cell in sweep_cells.cells(argv)]


@pytest.mark.parametrize("script, argv", [
    ("throughput", ["--model-name", "efficientdet-d0", "--hparams", "a=1,b=2"]),
    ("embedded", []),
])  # fmt: skip
def test_without_a_comma_there_is_nothing_to_sweep(script, argv, monkeypatch):
    monkeypatch.setattr(start, "load_config", lambda argv, script, choose_device: sys.exit(f"{script} {argv}"))
    with pytest.raises(SystemExit, match=re.escape(f"{script} {argv}")):
        start.start(script, argv)


def test_every_combination_is_a_cell_and_the_model_varies_slowest():
    assert combinations("--nms-mode", "best-class,multi-class", "--model-name=efficientdet-d0,efficientdet-d1") == [
        {"model_name": "efficientdet-d0", "nms_mode": "best-class"},
        {"model_name": "efficientdet-d0", "nms_mode": "multi-class"},
        {"model_name": "efficientdet-d1", "nms_mode": "best-class"},
        {"model_name": "efficientdet-d1", "nms_mode": "multi-class"},
    ]
    assert combinations("--micro-batch-size", "1, 2,1") == [{"micro_batch_size": "1"}, {"micro_batch_size": "2"}]


def test_two_names_of_one_value_are_one_combination():
    assert combinations("--model-name", "d0,efficientdet_d0,lite0,D0") == [
        {"model_name": "d0"},
        {"model_name": "lite0"},
    ]
    assert combinations("--engine", "OpenVINO,ALL") == combinations("--engine", "all")
    assert combinations("--engine", "ort,onnx") == [{"engine": "onnxruntime"}]


def test_a_cell_keeps_the_other_options_and_leaves_results_to_the_sweep():
    argv = ["--debug", "--micro-batch-size", "1,2", "--results-json", "x.json", "--seed=3", "--results-csv=-"]
    assert [cell.arguments for cell in sweep_cells.cells(argv)] == [
        ["--debug=true", "--seed=3", "--micro-batch-size=1"],
        ["--debug=true", "--seed=3", "--micro-batch-size=2"],
    ]


def test_the_last_of_an_option_given_twice_counts():
    assert combinations("--micro-batch-size", "1,2", "--micro-batch-size", "4") == [{}]


def test_a_wrong_cell_is_told_before_anything_runs(project, capsys):
    with pytest.raises(SystemExit) as ended:
        start.start("throughput", ["--model-name", "efficientdet-d0,efficientdet-d99"])
    assert ended.value.code == 2 and "efficientdet-d99" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--coco-results", "--contact-sheet"])
def test_a_file_that_cells_would_take_from_each_other_is_refused(project, option):
    with pytest.raises(UserError, match=rf"every combination would write {option} r\.jpg anew"):
        start.start("throughput", ["--micro-batch-size", "1,2", option, "r.jpg"])


def test_a_table_ends_the_sweep_and_each_cell_has_a_record(project, capfd, tmp_path):
    argv = ("--model-name", "efficientdet-d0", "--micro-batch-size", "1,2", "--results-json", tmp_path / "run.json")
    status, out, _ = run(capfd, *argv, "--results-csv", tmp_path / "runs.csv")
    assert status == 0
    table = [re.sub(r" +\d+( +(ref|1\.000))$", r" MEMORY\1", line) for line in out.splitlines()[-9:]]
    assert table == [
        "     model  batch  precision  engine  status  images/s     p50  compile  file  memory  agreement",
        " " * 60 + "ms        s    MB      MB",
        "  1  d0     1      float      auto    ok         10.00  100.00        -     - MEMORY        ref",
        "  2  d0     2      float      auto    ok         10.00  200.00        -     - MEMORY      1.000",
        "measured:  from here to there: without NMS; ms a batch",
        "compile:   building the network with its weights and compiling it; kept: an earlier run did",
        "file:      the compiled model; memory: the largest resident size of the process, also while it compiled",
        "agreement: share of ref's detections, the first float row of its model, found again: same class, IoU > 0.5, "
        "3 images",
        "random weights: the speed is real, the detections mean nothing",
    ]
    assert out.count("Benchmark complete.") == 2 and "== 2 of 2: --micro-batch-size 2" in out
    assert [read_record(tmp_path / f"run-{i}.json")["samples"]["batch_size"] for i in (1, 2)] == [1, 2]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "runs.csv").read_text())))
    assert [row["batch_size"] for row in rows] == ["1", "2"]


def test_a_failed_cell_does_not_lose_the_others_and_shows_in_the_status(project, capfd, tmp_path):
    argv = ("--model-precision", "float,half,bfloat16", "--results-json", tmp_path / "run.json")
    status, out, err = run(capfd, *argv)
    assert status == 1 and "no such engine" in err
    head, _, *rows = out.splitlines()[-12:-7]
    assert head.split()[:5] == ["model", "batch", "precision", "engine", "status"]
    assert [row.split()[3:6] for row in rows] == [
        ["float", "auto", "ok"],
        ["half", "auto", "FAILED"],
        ["bfloat16", "auto", "ok"],
    ]
    assert rows[1].endswith("auto    FAILED (status 2): no such engine")
    assert out.splitlines()[-3].startswith("FAILED: what a combination said is above")
    assert out.splitlines()[-1] == "1 of 3 combinations have no numbers"
    assert sorted(path.name for path in tmp_path.glob("run-*.json")) == ["run-1.json", "run-3.json"]


def test_the_page_has_every_combination_and_the_reason_of_those_that_failed(project, capfd, tmp_path):
    argv = ("--model-name", "d1", "--model-precision", "float,fp16,bf16", "--seed", "9", "--report")
    assert run(capfd, *argv, tmp_path / "r.html")[0] == 1
    rows = re.findall(r"<tr><td>\d</td>.*", (tmp_path / "r.html").read_text())
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row)[:6] for row in rows]
    assert cells == [
        ["1", "efficientdet-d1", "1", "float", "auto", "ok"],
        ["2", "efficientdet-d1", "1", "half", "auto", "FAILED (status 2): no such engine"],
        ["3", "efficientdet-d1", "1", "bfloat16", "auto", "FAILED (ended by SIGKILL)"],
    ]
    assert run(capfd, *argv[:3], "fp16,half", "--report", tmp_path / "none.html")[0] == 1
    assert (tmp_path / "none.html").read_text().count("FAILED (status 2): no such engine") == 2  # one combination


def test_an_interrupted_sweep_tells_which_combinations_did_not_run(project, capfd, tmp_path, monkeypatch):
    wait = subprocess.Popen.wait

    def interrupted(self, timeout=None):
        if "--micro-batch-size=2" in self.args and timeout is None:
            raise KeyboardInterrupt
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    status, out, _ = run(capfd, "--micro-batch-size", "1,2,3", "--report", tmp_path / "r.html")
    assert status == 130 and "2 of 3 combinations have no numbers" in out
    text = (tmp_path / "r.html").read_text()
    assert text.count("not run to its end: the sweep was interrupted</td>") == 2
    assert "d0 batch 3 - auto: not run to its end" in text
    assert re.search(r"<td>3</td><td>efficientdet-d0</td><td>3</td><td>b?float(16)?</td><td>auto</td>", text)


def planned(capfd, tmp_path, *argv):
    """Model, batch, precision and engine of each row of a sweep in which every combination fails."""
    (tmp_path / "project" / "ipu_inference.py").write_text("raise SystemExit(2)")
    _, out, _ = run(capfd, *argv)
    return [tuple(line.split()[1:5]) for line in out.splitlines() if re.match(r" +\d  \w", line)]


@pytest.mark.parametrize("flags, word", [({"amx_bf16"}, "bfloat16"), ({"avx2"}, "float")])
def test_rows_without_numbers_say_the_precision_that_an_engine_takes_by_itself(
    project, capfd, tmp_path, monkeypatch, flags, word
):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags))
    found = planned(capfd, tmp_path, "--model-name", "d0,d1", "--engine", "litert,openvino", "--micro-batch-size", "3")
    assert found == [(name, "3", *more) for name in ("d0", "d1")
                     for more in (("float", "litert"), (word, "openvino"))]  # fmt: skip
    assert planned(capfd, tmp_path, "--model-precision", "float,half") == [
        ("d0", "1", "float", "auto"), ("d0", "1", "half", "auto")
    ]  # fmt: skip
    mixed = ("--hparams", "mixed_precision=true", "--engine", "tensorflow,litert")
    assert planned(capfd, tmp_path, *mixed) == [("d0", "1", "half", "tensorflow"), ("d0", "1", "float", "litert")]
    missing = ("--image-path", "none", "--micro-batch-size", "2,3", "--engine", "openvino")  # cannot be run
    assert planned(capfd, tmp_path, *missing) == [("d0", "2", word, "openvino"), ("d0", "3", word, "openvino")]
    # of a preset that is not there, what was typed
    assert planned(capfd, tmp_path, "--engine", "litert,openvino", "--config", "none", "--micro-batch-size", "2") == [
        ("d0", "2", "-", "litert"), ("d0", "2", "-", "openvino")
    ]  # fmt: skip


def test_records_on_standard_output_are_a_line_each(project, capfd):
    status, out, err = run(capfd, "--micro-batch-size", "1,2", "--results-json", "-")
    assert status == 0
    assert [json.loads(line)["samples"]["batch_size"] for line in out.splitlines()] == [1, 2]
    assert err.count("Benchmark complete.") == 2 and "images/s" in err.splitlines()[-9]


@pytest.mark.skipif(sys.platform != "linux", reason="pipes as Linux has them")
def test_a_pipe_takes_all_records_a_line_each(project, capfd, tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    status, _, _ = run(capfd, "--micro-batch-size", "1,2", "--results-json", tmp_path / "pipe")
    lines = reader.communicate(timeout=60)[0].splitlines()
    assert status == 0 and [json.loads(line)["samples"]["batch_size"] for line in lines] == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "project"]


def test_a_name_that_leaves_no_room_for_the_number_is_told_before_anything_runs(project, capfd, tmp_path):
    status, _, err = run(capfd, "--micro-batch-size", "1,2", "--results-json", tmp_path / ("n" * 254))
    assert status == 2 and "File name too long" in err and "== 1 of 2" not in err


def test_an_unstable_cell_is_marked():
    from records import outcome, run_config

    from ipu_utils.measure.throughput import Samples
    from ipu_utils.report.record import make_record

    record = make_record(run_config(), outcome(Samples((0.1,) * 20 + (0.9,), 1, 1)))
    rows = [
        sweep_runs.row_of(sweep_runs.Done(sweep_runs.Cell({"nms_mode": "best-class"}, []), status, record))
        for status in (0, 3)
    ]
    table = sweep_runs.format_table(rows)
    assert "best-class  UNSTABLE  " in table.splitlines()[2] and "best-class  status 3  " in table.splitlines()[3]
    assert "--min-seconds 30" in table


def engines_of(*argv):
    return [(cell.values.get("engine"), cell.by_all) for cell in sweep_cells.cells(argv)]


def test_all_is_every_engine_also_beside_lists_and_names():
    words = list(ENGINES)
    assert engines_of("--engine", "all") == [(word, True) for word in words]
    assert combinations("--engine=all", "--model-precision", "float,half") == [
        {"model_precision": precision, "engine": word} for precision in ("float", "half") for word in words
    ]
    assert engines_of("--engine", "litert,all")[:2] == [("litert", False), ("openvino", True)]
    assert sorted(engines_of("--engine", "litert,all")) == sorted((word, word != "litert") for word in words)


@pytest.mark.parametrize("section", ["engine: all", "host: {engine: all}"])
def test_a_preset_may_ask_for_all_engines_and_the_command_line_for_one(tmp_path, section):
    preset = tmp_path / "p.yml"
    preset.write_text(f"efficientdet-d1: {{{section}}}\n")
    assert engines_of("--config", str(preset), "--model-name", "d1") == [(word, True) for word in ENGINES]
    assert engines_of("--config", str(preset), "--model-name", "d1", "--engine", "litert") == [(None, False)]
    assert len(engines_of("--config", str(preset), "--model-name", "d1,d2")) == len(ENGINES) + 1


@pytest.mark.slow
def test_engines_that_cannot_be_used_are_left_out_of_all_with_what_to_install(project, capfd, monkeypatch):
    asked = []

    def missing(words):
        asked.append(list(words))
        return {word: "X cannot be imported: `pip install x`." for word in words if word == "openvino"}

    monkeypatch.setattr(sweep_runs, "missing_engines", missing)
    note = "note: --engine all leaves out openvino: X cannot be imported: `pip install x`."
    status, out, err = run(capfd, "--engine", "all")
    assert status == 0 and f"== 1 of {len(ENGINES) - 1}: --engine litert" in out and "--engine openvino" not in out
    assert out.splitlines()[-1] == note and note in err and asked == [list(ENGINES)]
    status, out, err = run(capfd, "--engine", "all,openvino")  # named: it is run, and says itself what is missing
    assert status == 0 and "--engine openvino" in out and note not in err
    monkeypatch.setattr(sweep_runs, "missing_engines", lambda words: dict.fromkeys(words, "no"))
    status, out, err = run(capfd, "--engine", "all")
    assert status == 2 and "no engine can be used here" in err and "leaves out tensorflow: no." in err


def test_all_engines_are_not_compared_on_an_ipu(project):
    with pytest.raises(UserError, match="add --device cpu"):
        start.start("throughput", ["--engine", "all", "--device", "ipu"])


@pytest.mark.slow
def test_what_an_engine_does_not_support_is_a_row_and_no_failure(project, capfd, tmp_path):
    argv = ("--engine", "litert,tensorflow", "--model-precision", "float,bfloat16")
    status, out, _ = run(capfd, *argv, "--results-csv", tmp_path / "r.csv", "--report", tmp_path / "r.html")
    assert status == 0
    table = out[out.index("     model") :].splitlines()
    reason = "not supported: litert has no bfloat16: " + "take another " * 11 + "take another"
    cut = table[4]
    assert cut.startswith("  3  d0     1      bfloat16   litert      not supported: litert has no bfloat16: take")
    assert len(cut) == 120 and cut.endswith("...") and f"  3: {reason}" in table
    assert table[-1] == "1 of 4 combinations have no numbers" and "FAILED" not in out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert [row["status"] for row in rows] == ["ok", "ok", reason, "ok"]
    assert [row["precision"] for row in rows] == ["float32", "float32", "bfloat16", "bfloat16"]
    # litert found one object of two in each image, and is the reference
    assert [row["agreement"] for row in rows] == ["", "1.0", "", "1.0"] and rows[2]["batch_size"] == "1"
    assert (tmp_path / "r.html").read_text().count(reason) == 2
    status, out, _ = run(capfd, "--engine", "litert", "--model-precision", "bfloat16,half")
    assert status == 1 and "2 of 2 combinations have no numbers" in out


def test_agreement_is_with_the_first_combination_in_float(project, capfd, tmp_path):
    argv = ("--engine", "tensorflow,litert", "--results-json", tmp_path / "r.json")
    status, out, _ = run(capfd, *argv, "--model-precision", "float")
    assert status == 0 and [line.split()[-1] for line in out.splitlines()[-7:-5]] == ["ref", "0.500"]
    agreement = read_record(tmp_path / "r-2.json")["agreement"]
    assert agreement == {
        "is_reference": False, "reference_engine": "tensorflow", "iou_above": 0.5, "images": 3, "detections": 6,
        "found_again": 3,
    }  # fmt: skip
    status, out, _ = run(capfd, "--micro-batch-size", "1,2", "--model-precision", "bfloat16")
    assert "agreement: no combination in float is there to compare with" in out


def test_a_rehearsal_writes_nothing(project, capfd, tmp_path):
    argv = ("--micro-batch-size", "1,2", "--dry-run", "--results-csv", tmp_path / "r.csv")
    assert run(capfd, *argv, "--report", tmp_path / "r.html")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"]


def test_a_rehearsal_shows_no_option_that_nobody_typed(project, capfd, tmp_path):
    script = tmp_path / "project" / "ipu_inference.py"
    script.write_text("import sys; print(sys.argv[1:])")
    status, out, _ = run(capfd, "--micro-batch-size", "1,2", "--dry-run")
    assert status == 0 and "--micro-batch-size=2" in out and "--results-json" not in out and "sweep-" not in out


def test_instances_of_a_launcher_do_not_sweep(project, capfd, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    status, _, err = run(capfd, "--micro-batch-size", "1,2")
    assert status == 2 and "one combination at a time" in err


def test_the_scripts_ask_for_a_sweep(project, capfd):
    import ipu_inference

    argv = ["--device", "cpu", "--micro-batch-size", "1,2"]
    assert run_script(lambda: ipu_inference.main(argv)) == 0
    assert capfd.readouterr().out.count("Benchmark complete.") == 2
