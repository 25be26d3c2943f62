# SPDX-License-Identifier: Apache-2.0
"""Differences between precisions: counted right on made-up detections, and found in a real network."""

from pathlib import Path

import numpy as np
import pytest

from hparams_config import get_inference_config
from ipu_utils import compare_precision
from ipu_utils.base.console import run_script
from ipu_utils.base.detections import ImageDetections
from ipu_utils.base.errors import UserError
from ipu_utils.data.decode import read_image
from ipu_utils.data.resize import fit_image
from ipu_utils.outputs.agreement import Agreement, pairs

PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "data" / "images"
SMALL = ["--model-name", "efficientdet-lite0", "--image-size", "128", "--random-weights",
         "--hparams", "fpn_cell_repeats=1,box_class_repeats=1"]  # fmt: skip


def found(*rows):
    """Detections from (class, score, box)."""
    classes, scores, boxes = ([row[part] for row in rows] for part in range(3))
    return ImageDetections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, int)
    )


A, A_NEAR, A_FAR = (0, 0, 100, 100), (0, 0, 100, 104), (0, 0, 100, 130)
B = (200, 200, 220, 260)


def test_detections_match_by_class_and_box_each_once():
    ours = found((1, 0.8, A_NEAR), (1, 0.7, A), (2, 0.9, B))
    assert pairs(found((1, 0.9, A), (2, 0.5, B)), ours) == [(0, 1), (1, 2)]
    assert pairs(found((1, 0.9, A), (1, 0.8, A)), ours) == [(0, 1), (1, 0)]
    assert pairs(found((1, 0.9, A), (1, 0.8, A), (1, 0.7, A)), ours) == [(0, 1), (1, 0)]
    assert pairs(found((3, 0.9, A), (1, 0.9, A_FAR)), ours) == []
    assert pairs(found(), ours) == pairs(ours, found()) == []


def test_boxes_without_area_match_by_their_corners():
    line = (10, 10, 10, 50)
    assert pairs(found((1, 0.9, line)), found((1, 0.9, (10.5, 10, 10.5, 50)))) == [(0, 0)]
    assert pairs(found((1, 0.9, line)), found((1, 0.9, (12, 10, 12, 50)))) == []


def test_drift_is_in_standard_deviations_of_the_reference():
    reference = [np.array([0.0, 2.0, 0.0, 2.0]), np.array([0.0, 20.0])]  # deviations 1 and 10
    total = Agreement()
    total.add_heads(reference, [reference[0] + [0, 0, 0, 0.4], reference[1] + 1])
    total.add_heads(reference, reference)
    assert (total.class_rms, total.class_largest) == pytest.approx((0.2, 0.4))
    assert (total.box_rms, total.box_largest) == pytest.approx((0.1, 0.1))


def test_what_overflows_is_counted_apart():
    total = Agreement()
    total.add_heads([np.array([0.0, 2.0]), np.ones(2)], [np.array([np.inf, 2.5]), np.full(2, np.nan)])
    assert total.not_finite == 3 and total.class_largest == pytest.approx(0.5)
    assert "3 outputs overflowed" in total.row("half")


def test_agreement_adds_up_over_images():
    total = Agreement()
    total.add_detections(found((1, 0.9, A), (2, 0.5, B)), found((1, 0.8, A_NEAR)))
    total.add_detections(found((1, 0.9, A)), found((1, 0.9, A), (5, 0.4, B)))
    assert (total.expected, total.found, total.same) == (3, 3, {0.5: 2, 0.75: 2, 0.9: 2})
    assert total.score_difference == pytest.approx(0.1)
    total.add_detections(found((1, 0.9, A)), found((1, 0.9, A_FAR)))  # IoU 100 / 130
    assert "3, 3, 2 of 4 found again, 1 new; scores within 0.100" in total.row("half")


def test_options_of_the_model_are_left_to_the_throughput_scripts_parser():
    options, rest = compare_precision.parse([*SMALL, "--image-path", str(PHOTOGRAPHS)])
    assert options.precisions == ["float", "bfloat16", "half", "int8"] and rest == SMALL


def test_precisions_and_engines_are_named_as_in_the_scripts_with_spaces_or_commas():
    def parsed(*more):
        options, rest = compare_precision.parse(["--image-path", "x", *more])
        assert rest == []
        return options.precisions, options.engines

    everything = parsed()
    assert parsed("--precisions", "all", "--engines", "all") == everything
    assert parsed("--precisions", "fp16,float32", "--engines", "tf", "OpenVINO") == (
        ["half", "float"], ["tensorflow", "openvino"])  # fmt: skip
    assert parsed("--precisions", "half,", "fp16", "INT8")[0] == ["half", "int8"]


@pytest.mark.parametrize("typed", ["fp17", "uint8", "halv"])
def test_a_precision_that_is_none_is_refused(typed, capsys):
    with pytest.raises(SystemExit) as caught:
        compare_precision.parse(["--image-path", "x", "--precisions", typed])
    message = capsys.readouterr().err
    assert caught.value.code == 2 and "--precisions takes some of float, bfloat16, half, int8, or all" in message
    assert ("Did you mean 'half'?" in message) == (typed == "halv")
    assert ("--io-precision uint8" in message) == (typed == "uint8")


@pytest.mark.parametrize("typed, ours", [("--engine", "--engines"), ("--model-precision=int8", "--precisions")])
def test_what_is_compared_is_not_chosen_by_the_options_of_one_run(typed, ours, capsys):
    with pytest.raises(SystemExit):
        compare_precision.parse(["--image-path", "x", typed, "tf"])
    assert f"is chosen here by {ours}, which takes several" in capsys.readouterr().err


@pytest.mark.parametrize("path", [PHOTOGRAPHS, PHOTOGRAPHS / "astronaut.png"])
def test_images_are_fitted_as_for_a_run(path):
    source = compare_precision.open_images(path, 3, get_inference_config("efficientdet-lite0", "", (32, 64)))
    assert source.count == (3 if path.is_dir() else 1) and source.name(0) == "astronaut.png"
    expected = fit_image(read_image(PHOTOGRAPHS / "astronaut.png"), (32, 64), 127.0)
    np.testing.assert_array_equal(source.fitted(0).image, expected.image)


@pytest.mark.slow
def test_half_and_bfloat16_differ_from_float_as_their_mantissas_do(capsys):
    command = [*SMALL, "--image-path", str(PHOTOGRAPHS), "--max-images", "2", "--engines", "tensorflow",
               "--precisions", "float", "half", "bfloat16"]  # fmt: skip
    assert run_script(lambda: compare_precision.main(command)) == 0
    output, notes = capsys.readouterr()
    assert "images:    2 of" in output and "weights:   random" in output and output.isascii()
    rows = {line.split()[1]: line.split() for line in output.splitlines() if line.startswith("tensorflow ")}
    assert "float" not in rows  # it is the reference
    # 11 bits of mantissa and 8: a factor of 8 apart, less where sums are kept in float.
    assert 1e-4 < float(rows["half"][2]) < 0.1
    if "bfloat16" in rows:
        assert 1.5 < float(rows["bfloat16"][2]) / float(rows["half"][2]) < 30
    else:  # TensorFlow 2.6 has no such convolutions.
        assert "tensorflow bfloat16 is left out" in notes


def test_options_of_the_run_that_are_wrong_are_told(capsys):
    with pytest.raises(SystemExit):
        compare_precision.main(["--image-path", str(PHOTOGRAPHS), "--model-nam", "efficientdet-d0"])
    assert "--model-name" in capsys.readouterr().err
    with pytest.raises((UserError, SystemExit)):
        compare_precision.main(["--image-path", str(PHOTOGRAPHS / "none.png")])
