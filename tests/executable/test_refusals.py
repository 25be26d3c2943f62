# SPDX-License-Identifier: Apache-2.0
"""What the embedded script cannot do it says at once, with OpenVINO or without."""

import sys

import pytest

import ipu_embedded_inference as script
from ipu_utils.base import hardware
from ipu_utils.base.console import EXIT_USER_ERROR, run_script
from ipu_utils.base.errors import UserError


def refused(capsys, *arguments):
    """Run the script on a CPU; returns the error, which is the last line of standard error."""
    assert run_script(lambda: script.main(["--device", "cpu", *map(str, arguments)])) == EXIT_USER_ERROR
    out, err = capsys.readouterr()
    *notes, error = err.splitlines()
    assert out == "" and error.startswith("error: ") and all(note.startswith("note: ") for note in notes)
    return error


def test_without_openvino_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "pip install openvino" in refused(capsys, "--engine", "openvino")


def test_an_image_that_cannot_be_read_is_told_before_anything_is_compiled(capsys, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    assert "bad.jpg" in refused(capsys, "--dataset-type", "single-image", "--image-path", tmp_path / "bad.jpg")


def test_predictions_that_cannot_be_written_are_told_before_anything_is_compiled(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ["--random-weights", "--output-predictions", "--output-dir", tmp_path / "file"]
    assert "--output-dir" in refused(capsys, *arguments)


def test_a_gpu_is_sent_to_the_other_script():
    with pytest.raises(UserError, match=r"A GPU runs ipu_inference\.py"):
        script.choose_device("gpu")


def test_auto_takes_an_ipu_and_else_the_cpu(monkeypatch):
    monkeypatch.setitem(hardware.PROBES, "ipu", lambda: hardware.Availability("ipu", True, "there"))
    assert script.choose_device("auto") == "ipu"
    monkeypatch.setitem(hardware.PROBES, "ipu", lambda: hardware.Availability("ipu", False, "not there"))
    assert script.choose_device("auto") == "cpu"
