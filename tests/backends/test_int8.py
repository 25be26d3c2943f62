# SPDX-License-Identifier: Apache-2.0
"""int8 from calibration to detections: close to float, read where it lies, told in report and record."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (there is none for Python 3.8)")

import ipu_embedded_inference
import ipu_inference
from ipu_utils.base.console import run_script
from ipu_utils.base.quantisation import Quantisation, as_float32
from ipu_utils.executable.file import read_executable
from ipu_utils.executable.runtime import EmbeddedModel, make_detector

PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "data" / "images"
MODEL = ["--device", "cpu", "--engine", "litert", "--model-name", "efficientdet-lite0", "--image-size", "128x96"]
MODEL += ["--random-weights", "--hparams", "fpn_cell_repeats=1,box_class_repeats=1"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same weights in float and in int8."""
    found = {}
    for precision in ("float", "int8"):
        folder = tmp_path_factory.mktemp(precision)
        arguments = [*MODEL, "--model-precision", precision, "--compile-only", "--exec-output-dir", str(folder)]
        assert run_script(lambda words=arguments: ipu_embedded_inference.main(words)) == 0
        (found[precision],) = folder.glob("*.effdet")
    return found


@pytest.fixture(scope="module")
def sessions(files):
    return {precision: EmbeddedModel.load(path).session() for precision, path in files.items()}


def loaded(sessions, seed=0):
    """Both sessions after a run on the same image."""
    image = np.random.RandomState(seed).randint(0, 256, (1, 96, 128, 3), np.uint8)
    for session in sessions.values():
        session.load(image, np.array([2.0], np.float32))
        session.run()
    return sessions["float"], sessions["int8"]


def test_outputs_are_integers_that_stand_for_about_the_floats(sessions, files):
    exact, ours = loaded(sessions)
    assert {output.dtype for output in ours.class_outputs + ours.box_outputs} == {np.dtype("int8")}
    for floats, integers in zip(exact.float_outputs(), ours.float_outputs()):
        for wanted, found in zip(floats, integers):
            assert found.dtype == np.float32 and found.shape == wanted.shape
            # Without calibration, or with another zero point, it is more than a deviation.
            assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.25 * wanted.std()
    size = {precision: read_executable(path).size for precision, path in files.items()}
    assert size["int8"] < 0.4 * size["float"]


def test_detections_are_those_of_the_dequantised_outputs_bit_for_bit(sessions, files):
    _, ours = loaded(sessions, seed=3)
    header = read_executable(files["int8"]).header
    expected = make_detector(header).run(*ours.float_outputs(), np.array([2.0], np.float32), dtype="float32")
    found = ours.detections()
    assert found.lengths[0] > 5
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one, other)
    logits = np.concatenate([output.reshape(-1, 90) for output in ours.float_outputs()[0]]).max(1)
    assert ours.candidates() == np.count_nonzero(1 / (1 + np.exp(-logits)) > 0.4)


def test_a_value_stands_for_scale_times_its_distance_from_the_zero_point():
    stored = np.array([-128, 0, 127], np.int8)
    np.testing.assert_allclose(as_float32(stored, Quantisation(0.5, -28)), [-50, 14, 77.5])


@pytest.mark.parametrize("script", [ipu_inference, ipu_embedded_inference])
def test_report_and_record_say_what_it_was_calibrated_on(script, files, tmp_path, capsys):
    kept = ["--exec-file", files["int8"]]
    if script is ipu_inference:
        kept = [*MODEL, "--model-precision", "int8", "--executable-cache-dir", tmp_path]
    record = tmp_path / "record.json"
    words = [str(word) for word in (*kept, "--num-repeats", "3", "--results-json", record)]
    assert run_script(lambda: script.main(words)) == 0
    output = capsys.readouterr().out
    what = "64 generated images, half of them noise"
    assert f"calibrated: on {what}; check the accuracy: python -m ipu_utils.compare_precision\n" in output
    assert "precision: int8, images travel as uint8" in output
    model = json.loads(record.read_text())["model"]
    assert model["precision"] == "int8" and model["calibration"]["images"] == what
    assert len(model["calibration"]["sha256"]) == 64


def test_engines_without_int8_say_which_have_it(capsys):
    arguments = [*MODEL, "--engine", "tensorflow", "--model-precision", "int8"]
    assert run_script(lambda: ipu_embedded_inference.main(arguments)) == 2
    assert "TensorFlow does not compute in int8: use --engine litert or openvino" in capsys.readouterr().err


def test_openvinos_int8_is_calibrated_by_nncf_and_stands_for_about_the_floats(files, tmp_path, capfd):
    pytest.importorskip("nncf", reason="NNCF is not installed")
    pytest.importorskip("openvino")
    arguments = [*MODEL, "--engine", "openvino", "--calibration-images", "8"]
    found = {}
    for precision in ("float", "int8"):
        folder = tmp_path / precision
        more = ["--model-precision", precision, "--compile-only", "--exec-output-dir", str(folder)]
        assert run_script(lambda words=(*arguments, *more): ipu_embedded_inference.main(words)) == 0
        (found[precision],) = folder.glob("*.effdet")
    said = capfd.readouterr()
    assert "Statistics" not in said.out and len(said.out.splitlines()) == 4  # nothing of NNCF's own
    sessions = {precision: EmbeddedModel.load(path).session() for precision, path in found.items()}
    exact, ours = loaded(sessions)
    for floats, others in zip(exact.float_outputs(), ours.float_outputs()):
        for wanted, output in zip(floats, others):
            assert 1e-4 < np.sqrt(np.mean((output - wanted) ** 2)) / wanted.std() < 0.3


def test_swish_becomes_one_operation():
    pytest.importorskip("openvino")
    from openvino import Model, opset4

    from ipu_utils.executable.quantise_openvino import fuse_swish

    image = opset4.parameter([1, 4], np.float32)
    gate = opset4.sigmoid(image)
    first, second = opset4.multiply(image, gate), opset4.multiply(opset4.sigmoid(image), image)
    other = opset4.multiply(first, opset4.sigmoid(second))  # a gate of something else, as squeeze-and-excitation has
    model = Model([other], [image])
    assert fuse_swish(model) == 2
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert kinds.count("Swish") == 2 and kinds.count("Multiply") == kinds.count("Sigmoid") == 1
