# SPDX-License-Identifier: Apache-2.0
"""The NumPy reference of NMS against TensorFlow's operators and against cases worked out by hand."""

import numpy as np
import pytest

import nms_np
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from nms_np import batched_nms, multi_class_nms, non_max_suppression
from object_detection.box_list import iou
from tf2.nms_settings import nms_settings

# Two boxes of 10 x 10 with `shared` rows in common have an IoU of shared / (20 - shared).
SQUARE = [0.0, 0.0, 10.0, 10.0]


def moved(rows):
    return [rows, 0.0, rows + 10.0, 10.0]


def crowd(seed, count=200, classes=5):
    """Boxes of a few objects, with scores without ties and classes."""
    rng = np.random.RandomState(seed)
    centres, sides = rng.uniform(0, 100, (8, 2))[rng.randint(0, 8, count)], rng.uniform(5, 40, (count, 2))
    centres = centres + rng.standard_normal((count, 2)) * 3
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], 1).astype(np.float32)
    scores = (rng.permutation(count) + 1).astype(np.float32) / (count + 1)
    return boxes, scores, rng.randint(0, classes, count).astype(np.int32)


def tensorflow_nms(boxes, scores, limit, iou=0.5, score=-np.inf, sigma=0.0):
    indices, kept, _ = tf.raw_ops.NonMaxSuppressionV5(
        boxes=boxes,
        scores=scores,
        max_output_size=limit,
        iou_threshold=1.0 if sigma else iou,
        score_threshold=score,
        soft_nms_sigma=sigma / 2,  # The operator's weight is exp(-iou^2 / (2 * sigma)).
    )
    return indices.numpy(), kept.numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("score", [-np.inf, 0.0, 0.6])
def test_hard_suppression_equals_tensorflow(seed, iou, score):
    boxes, scores, _ = crowd(seed)
    indices, kept = non_max_suppression(boxes, scores, None, 50, iou, score)
    expected, expected_scores = tensorflow_nms(boxes, scores, 50, iou, score)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(kept, expected_scores)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("score", [0.001, 0.4])
def test_soft_suppression_equals_tensorflow(seed, sigma, score):
    boxes, scores, _ = crowd(seed)
    indices, kept = non_max_suppression(boxes, scores, None, 60, 0.5, score, sigma)
    expected, expected_scores = tensorflow_nms(boxes, scores, 60, score=score, sigma=sigma)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(kept, expected_scores, rtol=1e-5)  # Two implementations of exp.


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_suppression_within_a_class_equals_one_run_per_class(sigma):
    boxes, scores, classes = crowd(11, 300)
    rows = []
    for class_id in range(5):
        mine = np.flatnonzero(classes == class_id)
        indices, kept = tensorflow_nms(boxes[mine], scores[mine], 300, 0.5, 0.1, sigma)
        rows += [(-score, mine[i]) for i, score in zip(indices, kept)]
    expected = [index for _, index in sorted(rows)][:70]
    np.testing.assert_array_equal(non_max_suppression(boxes, scores, classes, 70, 0.5, 0.1, sigma)[0], expected)


def test_every_class_of_an_anchor_is_a_candidate_in_multi_class_mode():
    boxes, _, _ = crowd(5, 80)
    scores = np.random.RandomState(6).uniform(0, 1, (80, 4)).astype(np.float32)
    anchors, classes, kept = multi_class_nms(boxes, scores, max_output_size=40, score_threshold=0.3)
    expected = tf.image.combined_non_max_suppression(
        boxes[None, :, None], scores[None], 40, 40, iou_threshold=0.5, score_threshold=0.3, clip_boxes=False
    )
    np.testing.assert_array_equal(boxes[anchors], expected.nmsed_boxes[0])
    np.testing.assert_array_equal(kept, expected.nmsed_scores[0])
    np.testing.assert_array_equal(classes, expected.nmsed_classes[0])


def test_a_box_goes_only_when_its_overlap_is_strictly_more_than_the_threshold():
    boxes = np.array([SQUARE, moved(5.0)])  # 5 shared rows of 15: an IoU of 1/3
    for threshold, kept in ((np.float32(1 / 3), 2), (0.34, 2), (0.33, 1)):
        assert len(non_max_suppression(boxes, [0.9, 0.8], iou_threshold=threshold)[0]) == kept


def test_candidates_score_strictly_more_than_the_threshold():
    boxes = np.array([SQUARE, moved(50.0), moved(90.0)])
    assert non_max_suppression(boxes, [0.5, 0.25, 0.75], score_threshold=0.5)[0].tolist() == [2]


def test_equal_scores_go_to_the_lower_index():
    boxes = np.array([SQUARE, SQUARE, moved(50.0), moved(50.0)])
    assert non_max_suppression(boxes, [0.5, 0.5, 0.5, 0.5])[0].tolist() == [0, 2]
    anchors, classes, _ = multi_class_nms(np.array([SQUARE, moved(50.0)]), np.full((2, 2), 0.5))
    assert list(zip(anchors, classes)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_boxes_without_area_or_without_numbers_overlap_nothing():
    line, nan = [0.0, 0.0, 0.0, 10.0], [0.0, np.nan, 10.0, 10.0]
    boxes = np.array([line, line, nan, nan, SQUARE, SQUARE])
    assert non_max_suppression(boxes, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])[0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("xp", [np, tf], ids=["numpy", "tensorflow"])
@pytest.mark.parametrize("side", [1e30, 1e-30, np.nan])
def test_boxes_whose_area_float32_cannot_hold_overlap_nothing(side, xp):
    box = np.array([0, 0, side, side], np.float32)
    small = np.array([0, 0, 1, 1], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        overlaps = iou(xp.stack([box, box, small]), xp.stack([box, small, small]), xp)
    np.testing.assert_array_equal(overlaps, [0, 0, 1])


def test_corners_may_be_swapped():
    boxes = np.array([SQUARE, [10.0, 10.0, 0.0, 0.0]])
    assert non_max_suppression(boxes, [0.9, 0.8])[0].tolist() == [0]


def test_scores_that_are_no_numbers_are_never_selected():
    boxes = np.array([SQUARE, moved(50.0)])
    assert non_max_suppression(boxes, [np.nan, 0.1])[0].tolist() == [1]
    assert non_max_suppression(boxes, [-np.inf, np.nan])[0].tolist() == []


def test_soft_suppression_lowers_a_score_by_the_square_of_the_overlap():
    boxes = np.array([SQUARE, moved(5.0), moved(50.0)])  # an IoU of 1/3, and none
    indices, scores = non_max_suppression(boxes, [0.9, 0.8, 0.7], sigma=0.5)
    assert indices.tolist() == [0, 2, 1]
    np.testing.assert_allclose(scores, [0.9, 0.7, 0.8 * np.exp(-(1 / 9) / 0.5)], rtol=1e-6)


def test_boxes_beyond_half_precision_areas_are_suppressed():
    boxes = np.array([[0, 0, 500, 500], [5, 5, 505, 505]], np.float16)  # 250000 square pixels; half ends at 65504
    assert non_max_suppression(boxes, np.array([0.9, 0.8], np.float16))[0].tolist() == [0]


def test_batches_are_padded_and_images_do_not_touch_each_other():
    boxes = np.array([[SQUARE, SQUARE, moved(50.0)], [SQUARE, SQUARE, moved(50.0)]], np.float32)
    scores = np.array([[0.9, 0.8, 0.7], [0.1, 0.1, 0.1]], np.float32)
    classes = np.array([[4, 4, 6], [4, 4, 6]])
    out = batched_nms(scores, boxes, classes, score_threshold=0.5, num_detections=3)
    unused = np.iinfo(np.int32).max
    assert out.indices.tolist() == [[0, 2, -1], [-1, -1, -1]] and out.indices.dtype == np.int32
    assert out.classes.tolist() == [[4, 6, unused], [unused] * 3] and out.classes.dtype == np.int32
    assert out.lengths.tolist() == [2, 0]
    np.testing.assert_array_equal(out.scores, np.array([[0.9, 0.7, 0], [0, 0, 0]], np.float32))
    np.testing.assert_array_equal(out.boxes[0], [SQUARE, moved(50.0), [0] * 4])
    assert not out.boxes[1].any()


def test_modes_differ_in_which_boxes_suppress_which():
    boxes = np.array([[SQUARE, SQUARE]], np.float32)
    scores = np.array([[[0.9, 0.8], [0.6, 0.7]]], np.float32)  # anchor 0: classes 0 and 1; anchor 1: best class 1
    pairs = {}
    for mode in nms_np.MODES:
        out = batched_nms(scores, boxes, mode=mode, num_detections=5)
        length = out.lengths[0]
        pairs[mode] = list(zip(out.indices[0][:length], out.classes[0][:length]))
    assert pairs["best-class"] == [(0, 0), (1, 1)]
    assert pairs["class-agnostic"] == [(0, 0)]
    assert pairs["multi-class"] == [(0, 0), (0, 1)]
    with pytest.raises(UserError, match="expected one of best-class"):
        batched_nms(scores, boxes, mode="global")


@pytest.mark.parametrize("mode", ["best-class", "class-agnostic"])
def test_without_classes_all_boxes_are_of_the_first(mode):
    boxes, scores, _ = crowd(3)
    expected, _ = tensorflow_nms(boxes, scores, 100)
    found = batched_nms(scores[None], boxes[None], mode=mode)
    assert found.lengths.tolist() == [len(expected)] and 0 < len(expected) < 100
    np.testing.assert_array_equal(found.indices[0, : len(expected)], expected)
    assert set(found.classes[0, : len(expected)]) == {0}


def test_sigmoid_neither_overflows_nor_loses_small_scores():
    with np.errstate(over="raise"):
        np.testing.assert_allclose(nms_np.sigmoid(np.array([-80.0, 0.0, 80.0])), [np.exp(-80.0), 0.5, 1.0], rtol=1e-12)


# The published interface: detections (x1, y1, x2, y2, score) of one class, the last pixel inside the box.


def test_published_hard_nms_counts_whole_pixels():
    # 10 x 10 pixels, 5 rows lower: 50 shared of 150. Without the last pixel it would be 9 x 4 / (162 - 36) = 0.2857.
    dets = np.array([[0, 0, 9, 9, 0.8], [0, 5, 9, 14, 0.9], [0, 40, 9, 49, 0.1]])
    before = dets.copy()
    assert nms_np.nms(dets, {"method": "hard", "iou_thresh": 0.32})[:, 4].tolist() == [0.9, 0.1]
    assert nms_np.nms(dets, {"method": "hard", "iou_thresh": 0.34})[:, 4].tolist() == [0.9, 0.8, 0.1]
    assert nms_np.nms(dets, {"method": "", "iou_thresh": None}).tolist() == nms_np.hard_nms(dets).tolist()
    np.testing.assert_array_equal(dets, before)


def test_published_nms_keeps_a_deliberate_threshold_of_zero():
    dets = np.array([[0, 0, 9, 9, 0.9], [0, 9, 9, 18, 0.8]])  # one shared row of 19: 0.053
    assert len(nms_np.hard_nms(dets, 0.0)) == 1
    assert len(nms_np.hard_nms(dets)) == 2


def test_published_soft_methods_lower_scores():
    dets = np.array([[0, 0, 9, 9, 0.9], [0, 5, 9, 14, 0.8]])  # an IoU of 1/3
    gaussian = nms_np.nms(dets, {"method": "gaussian", "sigma": None, "iou_thresh": None, "score_thresh": None})
    np.testing.assert_allclose(gaussian[:, 4], [0.9, 0.8 * np.exp(-(1 / 9) / 0.5)])
    linear = nms_np.soft_nms(dets, {"method": "linear"})
    np.testing.assert_allclose(linear[:, 4], [0.9, 0.8 * 2 / 3])
    assert len(nms_np.soft_nms(dets, {"score_thresh": 0.7})) == 1


def test_published_diou_spares_boxes_with_another_centre():
    dets = np.array([[0, 0, 9, 9, 0.9], [0, 5, 9, 14, 0.8]])
    penalty = 25 / (81 + 14**2)  # squared distance of the centres over the squared diagonal of the hull
    assert len(nms_np.diou_nms(dets, 1 / 3 - penalty - 0.001)) == 1
    assert len(nms_np.diou_nms(dets, 1 / 3 - penalty + 0.001)) == 2


def test_published_nms_refuses_unknown_methods_and_takes_no_detections():
    with pytest.raises(UserError, match="hard, diou, linear or gaussian"):
        nms_np.nms(np.zeros((1, 5)), {"method": "fast"})
    assert nms_np.nms(np.zeros((0, 5)), {"method": "hard"}).shape == (0, 5)


def test_published_per_class_nms_fills_up_with_dummies():
    boxes = np.array([SQUARE, SQUARE, SQUARE], np.float32)
    rows = nms_np.per_class_nms(
        boxes, np.array([0.5, 0.9, 0.7]), np.array([2, 2, 0]), np.array([7]), np.array([2.0]), 3, 4, {"method": "hard"}
    )
    assert rows.dtype == np.float32 and rows.shape == (4, 7)
    np.testing.assert_allclose(rows[0], [7, 0, 0, 20, 20, 0.9, 3], rtol=1e-6)  # id, x1, y1, x2, y2, score, class
    np.testing.assert_allclose(rows[1], [7, 0, 0, 20, 20, 0.7, 1], rtol=1e-6)
    np.testing.assert_allclose(rows[2:], [[7, 0, 0, 0, 0, -1e5, 0]] * 2)


def test_settings_fill_in_defaults_and_keep_deliberate_zeros():
    hard = nms_settings({"method": "hard", "iou_thresh": None, "score_thresh": None, "sigma": None})
    assert (hard.iou_thresh, hard.score_thresh, hard.sigma, hard.max_output_size) == (0.5, -np.inf, 0.0, 100)
    soft = nms_settings({"method": "gaussian", "max_output_size": 10})
    assert (soft.score_thresh, soft.sigma, soft.soft, soft.max_output_size) == (0.001, 0.5, True, 10)
    zero = nms_settings({"iou_thresh": 0.0, "score_thresh": 0.0})
    assert (zero.method, zero.iou_thresh, zero.score_thresh) == ("hard", 0.0, 0.0)
    assert nms_settings({"method": "gaussian", "score_thresh": 0.0}).score_thresh == 0.0


@pytest.mark.parametrize(
    "configs",
    [{"method": "linear"}, {"iou_thresh": 1.5}, {"iou_thresh": -0.1}, {"method": "gaussian", "sigma": 0.0}]
    + [{"max_output_size": 0}, {"max_nms_inputs": -1}],
)
def test_settings_without_meaning_are_refused(configs):
    with pytest.raises(UserError, match="nms_configs"):
        nms_settings(configs)
