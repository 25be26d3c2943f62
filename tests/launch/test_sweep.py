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

from ipu_utils.base.console import run_script
from ipu_utils.base.errors import UserError
from ipu_utils.launch import sweep, sweep_runs
from ipu_utils.report.record import read_record

TESTS = Path(__file__).resolve().parents[1]

SCRIPT = """
import os
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import UserError
from ipu_utils.config.run_config import load_config
from ipu_utils.report.publish import publisher
from ipu_utils.measure.throughput import Samples
from records import outcome

def main():
    config = load_config()
    if config.model.model_precision == "float16":
        raise UserError("no such engine")
    if config.model.model_precision == "bfloat16" and config.data.seed == 9:
        os.kill(os.getpid(), 9)
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
    for name in sweep.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


def run(capfd, *argv):
    status = run_script(lambda: sweep.run_if_asked(["--device", "cpu", *map(str, argv)], "throughput"))
    captured = capfd.readouterr()
    return status, captured.out, captured.err


def combinations(*argv):
    return [dict(cell.values) for cell in sweep.cells(argv)]


def test_without_a_comma_there_is_nothing_to_sweep():
    assert sweep.run_if_asked(["--model-name", "efficientdet-d0", "--hparams", "a=1,b=2"], "throughput") is None
    assert sweep.run_if_asked([], "embedded") is None


def test_every_combination_is_a_cell_and_the_model_varies_slowest():
    assert combinations("--nms-mode", "best-class,multi-class", "--model-name=efficientdet-d0,efficientdet-d1") == [
        {"model_name": "efficientdet-d0", "nms_mode": "best-class"},
        {"model_name": "efficientdet-d0", "nms_mode": "multi-class"},
        {"model_name": "efficientdet-d1", "nms_mode": "best-class"},
        {"model_name": "efficientdet-d1", "nms_mode": "multi-class"},
    ]
    assert combinations("--micro-batch-size", "1, 2,1") == [{"micro_batch_size": "1"}, {"micro_batch_size": "2"}]


def test_a_cell_keeps_the_other_options_and_leaves_results_to_the_sweep():
    argv = ["--debug", "--micro-batch-size", "1,2", "--results-json", "x.json", "--seed=3", "--results-csv=-"]
    assert [cell.arguments for cell in sweep.cells(argv)] == [
        ["--debug=true", "--seed=3", "--micro-batch-size=1"],
        ["--debug=true", "--seed=3", "--micro-batch-size=2"],
    ]


def test_the_last_of_an_option_given_twice_counts():
    assert combinations("--micro-batch-size", "1,2", "--micro-batch-size", "4") == [{}]


def test_a_wrong_cell_is_told_before_anything_runs(project, capsys):
    with pytest.raises(SystemExit) as ended:
        sweep.run_if_asked(["--model-name", "efficientdet-d0,efficientdet-d99"], "throughput")
    assert ended.value.code == 2 and "efficientdet-d99" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--coco-results", "--contact-sheet"])
def test_a_file_that_cells_would_take_from_each_other_is_refused(project, option):
    with pytest.raises(UserError, match=rf"every combination would write {option} r\.jpg anew"):
        sweep.run_if_asked(["--micro-batch-size", "1,2", option, "r.jpg"], "throughput")


def test_a_table_ends_the_sweep_and_each_cell_has_a_record(project, capfd, tmp_path):
    argv = ("--model-name", "efficientdet-d0", "--micro-batch-size", "1,2", "--results-json", tmp_path / "run.json")
    status, out, _ = run(capfd, *argv, "--results-csv", tmp_path / "runs.csv")
    assert status == 0
    assert out.splitlines()[-4:] == [
        "     model            batch  precision   samples/sec       mean        p50        p99  ms a batch",
        "  1  efficientdet-d0  1      float             10.00     100.00     100.00     100.00",
        "  2  efficientdet-d0  2      float             10.00     200.00     200.00     200.00",
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
    head, *rows = out.splitlines()[-7:-3]
    assert head.split()[:3] == ["model", "batch", "precision"]
    assert [row.split()[-5:][0] if "FAILED" not in row else row.split()[3] for row in rows] == [
        "float",
        "half",
        "bfloat16",
    ]
    assert out.splitlines()[-3].startswith("FAILED: what a combination said is above")
    assert out.splitlines()[-1] == "1 of 3 combinations have no numbers"
    assert sorted(path.name for path in tmp_path.glob("run-*.json")) == ["run-1.json", "run-3.json"]


def test_the_page_has_every_combination_and_the_reason_of_those_that_failed(project, capfd, tmp_path):
    argv = ("--model-name", "d1", "--model-precision", "float,fp16,bf16", "--seed", "9", "--report")
    assert run(capfd, *argv, tmp_path / "r.html")[0] == 1
    rows = re.findall(r"<tr><td>\d</td>.*", (tmp_path / "r.html").read_text())
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row)[:5] for row in rows]
    assert cells == [
        ["1", "efficientdet-d1", "1", "float", ""],
        ["2", "efficientdet-d1", "1", "half", "FAILED (status 2): no such engine"],
        ["3", "efficientdet-d1", "1", "bfloat16", "FAILED (ended by SIGKILL)"],
    ]
    assert run(capfd, *argv[:3], "fp16,half", "--report", tmp_path / "none.html")[0] == 1
    assert (tmp_path / "none.html").read_text().count("FAILED (status 2): no such engine") == 4


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
    assert "d0 batch 3 -: not run to its end" in text


def test_records_on_standard_output_are_a_line_each(project, capfd):
    status, out, err = run(capfd, "--micro-batch-size", "1,2", "--results-json", "-")
    assert status == 0
    assert [json.loads(line)["samples"]["batch_size"] for line in out.splitlines()] == [1, 2]
    assert err.count("Benchmark complete.") == 2 and "samples/sec" in err.splitlines()[-4]


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
    table = sweep_runs.format_table([sweep_runs.Done(sweep_runs.Cell({"nms_mode": "best-class"}, []), 3, record)])
    assert table.splitlines()[1].endswith("900.00  UNSTABLE  (status 3)")
    assert "--min-seconds 30" in table.splitlines()[2]


def test_instances_of_a_launcher_do_not_sweep(project, capfd, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    status, _, err = run(capfd, "--micro-batch-size", "1,2")
    assert status == 2 and "one combination at a time" in err


def test_the_scripts_ask_for_a_sweep(project, capfd):
    import ipu_inference

    argv = ["--device", "cpu", "--micro-batch-size", "1,2"]
    assert run_script(lambda: ipu_inference.main(argv)) == 0
    assert capfd.readouterr().out.count("Benchmark complete.") == 2
