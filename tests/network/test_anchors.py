# SPDX-License-Identifier: Apache-2.0
"""Anchors against the reference implementation's and against boxes worked out by hand; decoding of regressions."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hparams_config import get_efficientdet_config
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from nms_np import decode_box_outputs_np
from tf2 import anchors
from tf2.anchor_boxes import Anchors
from tf2.candidates import make_anchors
from utils import get_feat_sizes

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = np.load(ROOT / "tests" / "data" / "golden" / "anchors.npz")
RATIOS = [1.0, 2.0, 0.5]


@pytest.mark.parametrize("case", range(3))
def test_published_models_have_the_reference_anchors(case):
    description = json.loads(str(GOLDEN[f"case_{case}"]))
    config = get_efficientdet_config(description["model"])
    config.image_size = description["image_size"]
    boxes = make_anchors(config.as_dict()).boxes
    assert boxes.dtype == np.float32 and boxes.shape == (int(GOLDEN[f"count_{case}"]), 4)
    np.testing.assert_array_equal(boxes[:60], GOLDEN[f"first_{case}"])
    np.testing.assert_array_equal(boxes[-60:], GOLDEN[f"last_{case}"])
    np.testing.assert_allclose(boxes.sum(0, dtype=np.float64), GOLDEN[f"sum_{case}"], rtol=1e-9)
    np.testing.assert_allclose(np.abs(boxes).sum(0, dtype=np.float64), GOLDEN[f"abs_sum_{case}"], rtol=1e-9)


def test_one_cell_has_the_boxes_of_all_octaves_and_ratios_around_its_centre():
    boxes = Anchors(3, 3, 2, [1.0, 4.0], 4.0, 8).boxes  # One cell of 8 pixels: base side 32, octaves 1 and sqrt(2).
    big = 32 * np.sqrt(2)
    sides = [(32, 32), (16, 64), (big, big), (big / 2, big * 2)]  # (height, width); a ratio of 4 is twice as wide.
    expected = [[4 - h / 2, 4 - w / 2, 4 + h / 2, 4 + w / 2] for h, w in sides]
    np.testing.assert_allclose(boxes, expected, rtol=1e-6)


def test_cells_follow_each_other_row_by_row_from_the_finest_level():
    anchors_of_two_levels = Anchors(3, 4, 1, [1.0], 1.0, (16, 32))
    centres = (anchors_of_two_levels.boxes[:, :2] + anchors_of_two_levels.boxes[:, 2:]) / 2
    fine = [(y, x) for y in (4, 12) for x in (4, 12, 20, 28)]
    np.testing.assert_allclose(centres, fine + [(8, 8), (8, 24)])


@pytest.mark.parametrize("image_size", [(97, 131), "500x333", (1, 1), (64, 1000), 511])
def test_any_image_size_gives_an_anchor_for_every_output_of_the_heads(image_size):
    made = Anchors(3, 7, 3, RATIOS, 4.0, image_size)
    cells = sum(size["height"] * size["width"] for size in get_feat_sizes(image_size, 7)[3:])
    assert len(made.boxes) == cells * made.get_anchors_per_location() == cells * 9
    centres = (made.boxes[:, :2] + made.boxes[:, 2:]) / 2
    assert (centres > 0).all() and (centres < made.image_size).all()


def test_ratios_may_be_numbers_or_pairs_of_width_and_height():
    root = float(np.sqrt(2))
    numbers = Anchors(3, 7, 3, RATIOS, 4.0, 128).boxes
    for pair in (tuple, list):
        pairs = [pair(p) for p in ((1.0, 1.0), (root, 1 / root), (1 / root, root))]
        np.testing.assert_allclose(Anchors(3, 7, 3, pairs, 4.0, 128).boxes, numbers, rtol=1e-6, atol=1e-5)
    wide = Anchors(3, 3, 1, [(1.4, 0.7)], 4.0, 8).boxes[0]
    np.testing.assert_allclose(wide[2:] - wide[:2], [32 * 0.7, 32 * 1.4], rtol=1e-6)


def test_an_anchor_scale_may_be_given_for_every_level():
    boxes = Anchors(3, 4, 1, [1.0], [2.0, 3.0], 16).boxes
    np.testing.assert_allclose(boxes[:, 2] - boxes[:, 0], [16] * 4 + [48])
    with pytest.raises(UserError, match="2 entries for 5 levels"):
        Anchors(3, 7, 3, RATIOS, [4.0, 4.0], 128)


@pytest.mark.parametrize("ratio", [0.0, -1.0, (1.0, 2.0, 3.0)])
def test_a_ratio_without_meaning_is_refused(ratio):
    with pytest.raises(UserError, match="aspect ratio"):
        Anchors(3, 7, 3, [ratio], 4.0, 128)


def test_a_size_is_height_first_as_a_pair_and_width_first_as_text():
    np.testing.assert_array_equal(
        Anchors(3, 7, 3, RATIOS, 4.0, (64, 96)).boxes, Anchors(3, 7, 3, RATIOS, 4.0, "96x64").boxes
    )


def test_anchors_come_without_tensorflow():
    code = (
        "import sys; from tf2.anchor_boxes import Anchors; import nms_np, tf2.label_util, tf2.nms_settings; "
        "Anchors(3, 7, 3, [1.0, 2.0, 0.5], 4.0, 128); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), check=True)


def test_no_regression_gives_the_anchor_itself():
    boxes = Anchors(3, 7, 3, RATIOS, 4.0, (64, 96)).boxes
    decoded = anchors.decode_box_outputs(tf.zeros([2, len(boxes), 4]), boxes).numpy()
    np.testing.assert_allclose(decoded, np.stack([boxes, boxes]), atol=1e-4)


def test_regressions_shift_by_sides_and_grow_exponentially():
    anchor = np.array([[10, 20, 30, 60]], np.float32)  # 20 high, 40 wide, centre (20, 40)
    codes = np.array([[0.5, -0.25, np.log(2), np.log(0.5)]], np.float32)
    expected = [[30 - 20, 30 - 10, 30 + 20, 30 + 10]]  # centre (30, 30), 40 high, 20 wide
    np.testing.assert_allclose(anchors.decode_box_outputs(codes, anchor), expected, rtol=1e-6)
    np.testing.assert_allclose(decode_box_outputs_np(codes.T, anchor.T), expected, rtol=1e-6)


def test_half_precision_regressions_are_decoded_with_one_rounding():
    anchor = np.array([[900, 900, 1000, 1000]], np.float32)
    codes = tf.constant([[0.013, 0.013, 0.1, 0.1]], tf.float16)
    exact = anchors.decode_box_outputs(tf.cast(codes, tf.float32), anchor)
    decoded = anchors.decode_box_outputs(codes, anchor)
    assert decoded.dtype == tf.float16
    np.testing.assert_array_equal(decoded, tf.cast(exact, tf.float16))
