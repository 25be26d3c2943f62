# SPDX-License-Identifier: Apache-2.0
"""Post-processing in TensorFlow against the golden files and against an independent dense computation."""

import json
from pathlib import Path

import numpy as np
import pytest
from reference_formulas import head_outputs

import nms_np
from hparams_config import get_efficientdet_config
from ipu_automl_io import postprocess_predictions
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from tf2 import postprocess
from tf2.candidates import Candidates, logit_floor, make_anchors
from tf2.nms_settings import nms_settings
from tf2.suppression import suppress_within_class
from utils import get_feat_sizes

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "data" / "golden" / "postprocess.npz")
SCORE_ATOL = 1e-6  # a few last bits of exp, which differs between TensorFlow's releases and NumPy
BOX_ATOL = 1e-3  # pixels: the same bits of exp times sides of some hundred pixels
INT32 = np.iinfo(np.int32)


def make_params(image_size="128x128", num_classes=90, **nms_configs):
    config = get_efficientdet_config("efficientdet-d0")
    config.image_size, config.num_classes = image_size, num_classes
    config.nms_configs.update({"method": "hard", "score_thresh": 0.4, "iou_thresh": None, **nms_configs})
    return config.as_dict()


def make_heads(params, seed=0, batch=1, hot=0.05):
    sizes = get_feat_sizes(params["image_size"], params["max_level"])[params["min_level"] :]
    levels = [(size["height"], size["width"]) for size in sizes]
    return head_outputs(levels, params["num_classes"], seed, batch, hot)


def decode(params, classes, boxes):
    """Every anchor of the heads' outputs: scores [B, N, C] and boxes [B, N, 4].

    Boxes by NumPy; scores by TensorFlow's sigmoid, because its last bit decides the order of nearly equal ones.
    """
    batch, num_classes = len(classes[0]), params["num_classes"]
    logits = np.concatenate([level.reshape(batch, -1, num_classes) for level in classes], 1)
    codes = np.concatenate([level.reshape(batch, -1, 4) for level in boxes], 1)
    anchors = make_anchors(params).boxes
    decoded = np.stack([nms_np.decode_box_outputs_np(image.T, anchors.T) for image in codes])
    return tf.sigmoid(logits).numpy(), decoded.astype(np.float32)


def clip(boxes, height, width):
    return np.clip(boxes, 0, np.array([height, width, height, width], np.float32))


def assert_detections(actual, expected):
    """Compare (boxes, scores, classes, valid_len), row by row up to valid_len."""
    boxes, scores, classes, lengths = (np.asarray(part) for part in actual)
    np.testing.assert_array_equal(lengths, expected[3])
    for i, length in enumerate(lengths):
        np.testing.assert_allclose(scores[i, :length], expected[1][i][:length], atol=SCORE_ATOL)
        np.testing.assert_array_equal(classes[i, :length], expected[2][i][:length])
        np.testing.assert_allclose(boxes[i, :length], expected[0][i][:length], atol=BOX_ATOL)


@pytest.mark.parametrize("how", ["eager", "graph", "batch of unknown size"])
@pytest.mark.parametrize("case", range(5))
def test_published_modes_equal_the_reference_implementation(case, how):
    description = json.loads(str(GOLDEN[f"case_{case}"]))
    config = get_efficientdet_config(description["model"])
    config.image_size = description["image_size"]
    config.nms_configs.update(description["nms_configs"])
    heads = head_outputs(
        description["levels"], config.num_classes, description["seed"], description["batch"], description["hot"]
    )

    scales = [] if description["image_scales"] is None else [tf.constant(description["image_scales"])]

    def run(classes, boxes, *scales):
        return postprocess_predictions(config, classes, boxes, scales[0] if scales else None, description["mode"])

    if how != "eager":
        unknown = [[tf.TensorSpec([None, *x.shape[1:]], tf.float32) for x in part] for part in heads]
        unknown += [tf.TensorSpec([None], tf.float32) for _ in scales]
        run = tf.function(run, input_signature=unknown if how.startswith("batch") else None)
    outputs = run(*([tf.constant(x) for x in part] for part in heads), *scales)
    for output, name, atol in zip(outputs, ("boxes", "scores", "classes", "valid"), (BOX_ATOL, SCORE_ATOL, 0, 0)):
        golden = GOLDEN[f"{name}_{case}"]
        assert output.dtype == golden.dtype and output.shape == golden.shape
        np.testing.assert_allclose(output, golden, atol=atol)  # Unused rows too.


SETTINGS = [
    {"score_thresh": 0.4},
    {"score_thresh": 0.0, "iou_thresh": 0.0},
    {"score_thresh": None, "iou_thresh": 0.7, "max_output_size": 30},
    {"score_thresh": 0.7, "max_output_size": 7},
    {"method": "gaussian", "score_thresh": None},
    {"method": "gaussian", "score_thresh": 0.3, "sigma": 0.2},
]


@pytest.mark.parametrize("image_size, num_classes", [((64, 96), 90), ("100x75", 3)])
@pytest.mark.parametrize("settings", SETTINGS)
def test_global_suppresses_across_classes_and_clips(settings, image_size, num_classes):
    params = make_params(image_size, num_classes, **settings)
    heads = make_heads(params, seed=1, batch=2)
    scales = np.array([1.5, 0.25], np.float32)
    options = nms_settings(params["nms_configs"])
    height, width = (64, 96) if image_size == (64, 96) else (75, 100)
    expected = [[], [], [], []]
    for i, (scores, boxes) in enumerate(zip(*decode(params, *heads))):
        best, classes = nms_np.best_class(scores)
        indices, kept, length = tf.raw_ops.NonMaxSuppressionV5(
            boxes=boxes,
            scores=best,
            max_output_size=options.max_output_size,
            iou_threshold=options.iou_thresh,
            score_threshold=options.score_thresh,
            soft_nms_sigma=options.sigma / 2,
            pad_to_max_output_size=True,
        )
        rows = clip(boxes[indices.numpy()], height, width) * scales[i], kept, classes[indices.numpy()] + 1, length
        for column, value in zip(expected, rows):
            column.append(value)
    actual = postprocess.postprocess_global(params, *heads, scales)
    assert_detections(actual, expected)
    for column, values in zip(actual[:3], expected):  # Unused rows repeat the first anchor, as automl leaves them.
        np.testing.assert_allclose(column, np.stack(values), atol=BOX_ATOL)


@pytest.mark.parametrize("settings", SETTINGS)
def test_per_class_suppresses_within_classes_and_does_not_clip(settings):
    params = make_params((64, 96), 12, **settings)
    heads = make_heads(params, seed=2, batch=2)
    assert_detections(
        postprocess.postprocess_per_class(params, *heads, np.array([2.0, 3.0], np.float32)),
        expected_by_mode(params, heads, "best-class", np.array([2.0, 3.0]), clipped=False),
    )


def expected_by_mode(params, heads, mode, scales=None, clipped=True):
    """Detections by the NumPy reference from all anchors."""
    scores, boxes = decode(params, *heads)
    options = nms_settings(params["nms_configs"])
    out = nms_np.batched_nms(
        scores,
        boxes,
        mode=mode,
        threshold=options.iou_thresh,
        score_threshold=options.score_thresh,
        num_detections=options.max_output_size,
        sigma=options.sigma,
    )
    kept = clip(out.boxes, 64, 96) if clipped else out.boxes
    kept = kept if scales is None else kept * scales[:, None, None]
    return kept, out.scores, np.where(out.classes == INT32.max, 0, out.classes.clip(max=1000) + 1), out.lengths


@pytest.mark.parametrize("mode", nms_np.MODES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_every_mode_equals_the_numpy_reference(settings, mode):
    params = make_params((64, 96), 5, **settings)
    heads = make_heads(params, seed=3, batch=2)
    config = get_efficientdet_config("efficientdet-d0")
    config.update(params)
    scales = np.array([0.5, 2.0], np.float32)
    boxes, scores, classes, lengths = (
        part.numpy() for part in postprocess_predictions(config, *heads, scales, mode=mode)
    )
    assert_detections((boxes, scores, classes, lengths), expected_by_mode(params, heads, mode, scales))
    assert (boxes.dtype, scores.dtype, classes.dtype, lengths.dtype) == (np.float32, np.float32, np.float32, np.int32)
    for i, length in enumerate(lengths):
        assert not boxes[i, length:].any() and not scores[i, length:].any() and not classes[i, length:].any()


def test_multi_class_equals_the_combined_operator():
    params = make_params((64, 96), 7, score_thresh=0.2)
    heads = make_heads(params, seed=4, batch=2, hot=0.1)
    assert_detections(
        postprocess.postprocess_multi_class(params, *heads), postprocess.postprocess_combined(params, *heads)
    )


@pytest.mark.parametrize("mode", ["global", "per_class"])
def test_a_limit_on_inputs_keeps_the_best_pairs_of_anchor_and_class(mode):
    params = make_params((64, 96), 6, score_thresh=None, max_nms_inputs=50)
    heads = make_heads(params, seed=5, hot=0.1)
    (scores,), (boxes,) = decode(params, *heads)
    best = np.sort(np.argsort(-scores.reshape(-1), kind="stable")[:50])  # Scores have no ties.
    anchors, classes = best // 6, best % 6
    same = classes if mode == "per_class" else None
    indices, kept = nms_np.non_max_suppression(boxes[anchors], scores.reshape(-1)[best], same, 100, 0.5)
    kept_boxes = boxes[anchors][indices]
    expected = kept_boxes if mode == "per_class" else clip(kept_boxes, 64, 96)
    actual = getattr(postprocess, f"postprocess_{mode}")(params, *heads)
    assert_detections(actual, ([expected], [kept], [classes[indices] + 1], [len(indices)]))


def test_a_limit_above_the_number_of_pairs_limits_nothing():
    heads = make_heads(make_params((64, 96), 2), seed=6)
    few, all_of_them = (make_params((64, 96), 2, max_nms_inputs=n) for n in (10**6, 0))
    few["nms_configs"]["max_output_size"] = all_of_them["nms_configs"]["max_output_size"] = 20
    first, second = (postprocess.postprocess_global(params, *heads) for params in (few, all_of_them))
    np.testing.assert_allclose(first[1][0, :5], second[1][0, :5], atol=SCORE_ATOL)


@pytest.mark.parametrize("mode", ["global", "per_class", *nms_np.MODES])
def test_an_image_gives_the_same_detections_alone_and_in_a_batch(mode):
    params = make_params((64, 96), 9)
    classes, boxes = make_heads(params, seed=7, batch=3, hot=0.1)
    for level in classes:
        level[1] = -20.0  # One image without objects
        level[2, 1:] = -20.0  # and one with few.
    config = get_efficientdet_config("efficientdet-d0")
    config.update(params)
    together = postprocess_predictions(config, classes, boxes, np.array([1.0, 2.0, 3.0], np.float32), mode=mode)
    assert together[3].numpy()[1] == 0 and 0 < together[3].numpy()[2] < together[3].numpy()[0]
    for i in range(3):
        alone = postprocess_predictions(
            config, [x[i : i + 1] for x in classes], [x[i : i + 1] for x in boxes], np.array([i + 1.0]), mode=mode
        )
        for one, all_of_them in zip(alone, together):
            np.testing.assert_array_equal(one[0], all_of_them[i])


def test_selecting_by_logits_gives_the_bits_of_decoding_everything():
    params = make_params((64, 96), 9)
    heads = make_heads(params, seed=8, batch=2)
    every_box, every_score, every_class = postprocess.pre_nms(params, *heads)
    selected = postprocess.postprocess_per_class(params, *heads)
    for part, dense in zip(selected, postprocess.per_class_nms(params, every_box, every_score, every_class)):
        np.testing.assert_array_equal(part, dense)


@pytest.mark.parametrize("threshold", [1e-9, 1e-5, 1e-3, 0.02, 0.4, 0.5, 0.9, 0.999999, 1.0, 1.5])
def test_no_score_above_the_threshold_comes_from_a_logit_below_the_floor(threshold):
    floor = logit_floor(threshold)
    logits = np.linspace(-90, 30, 200001).astype(np.float32)
    logits = np.concatenate([logits, np.float32(max(floor, -90)) + np.linspace(-0.1, 0.1, 20001, dtype=np.float32)])
    scores = tf.sigmoid(logits).numpy()
    assert not (scores[logits < floor] > threshold).any()
    passed = scores[logits >= floor]  # The floor is of use: hardly anything passes that is not above the threshold.
    assert threshold < 1e-5 or (passed > min(threshold, 1) - 1e-5).all()


def many_candidates(count, classes, seed, far=0.0):
    rng = np.random.RandomState(seed)
    corners = rng.uniform(0, 300, (count, 2)) + far
    boxes = np.concatenate([corners, corners + rng.uniform(20, 60, (count, 2))], 1).astype(np.float32)
    scores = rng.randint(1, 200, count).astype(np.float32) / 200  # with many ties
    return boxes, scores, rng.randint(0, classes, count).astype(np.int32)


@pytest.mark.parametrize("count, limit", [(0, 5), (1, 5), (511, 40), (512, 600), (1500, 100), (1500, 2000)])
def test_any_number_of_candidates_is_suppressed_within_classes_with_ties_by_index(count, limit):
    boxes, scores, classes = many_candidates(count, 4, seed=count)
    settings = nms_settings({"max_output_size": limit, "iou_thresh": 0.3, "score_thresh": 0.1})
    tensors = Candidates(*(tf.constant(x) for x in (boxes, scores, classes)))
    indices, kept = suppress_within_class(tensors, settings)
    expected, expected_scores = nms_np.non_max_suppression(boxes, scores, classes, limit, 0.3, 0.1)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(kept, expected_scores)


def test_classes_far_from_the_origin_are_told_apart_without_rounding_boxes():
    # Overlaps that straddle the threshold by less than the spacing of float32 at class * extent would lose.
    boxes, scores, classes = many_candidates(800, 90, seed=1, far=100000.0)
    settings = nms_settings({"max_output_size": 800, "iou_thresh": 0.25})
    indices, _ = suppress_within_class(Candidates(*(tf.constant(x) for x in (boxes, scores, classes))), settings)
    per_class = []
    for class_id in range(90):
        mine = np.flatnonzero(classes == class_id)
        kept = tf.image.non_max_suppression(boxes[mine], scores[mine], 800, 0.25).numpy()
        per_class += mine[kept].tolist()
    assert sorted(indices.numpy()) == sorted(per_class)
    np.testing.assert_array_equal(indices, sorted(per_class, key=lambda i: (-scores[i], i)))


def test_equal_scores_go_to_the_lower_anchor_but_per_class_to_the_lower_class():
    params = make_params((64, 96), 3, max_output_size=10)
    classes, boxes = make_heads(params, hot=0.0)
    for level in boxes:
        level[:] = 0
    classes[0][:] = -20
    logits = classes[0].reshape(1, 8, 12, 9, 3)  # A view. Cells far apart, equal scores:
    logits[0, 0, 0, 0, 2] = logits[0, 3, 5, 0, 0] = logits[0, 7, 11, 0, 1] = 1.0
    best = postprocess.postprocess_best_class(params, classes, boxes)
    automl = postprocess.postprocess_per_class(params, classes, boxes)
    assert best[2][0, :3].numpy().tolist() == [3, 1, 2]
    assert automl[2][0, :3].numpy().tolist() == [1, 2, 3]


def test_soft_suppression_breaks_ties_between_classes_by_index_too():
    boxes = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9], [60, 0, 69, 9]], np.float32)
    candidates = Candidates(tf.constant(boxes), tf.fill([4], 0.5), tf.constant([1, 0, 1, 0]))
    settings = nms_settings({"method": "gaussian", "max_output_size": 3})
    assert suppress_within_class(candidates, settings)[0].numpy().tolist() == [0, 1, 2]


def test_half_precision_outputs_are_computed_in_float32():
    params = make_params((512, 512), 2, score_thresh=0.5)
    classes, boxes = make_heads(params, hot=0.0)
    for level in (*classes, *boxes):
        level[:] = 0
    for level in classes:
        level[:] = -10
    # Two large boxes on the coarsest level, nearly the same: 300 x 300 and more is beyond what half can square.
    classes[4].reshape(1, 4, 4, 9, 2)[0, 1:3, 1, 6, 1] = [3.0, 2.0]
    config = get_efficientdet_config("efficientdet-d0")
    config.update(params)
    for dtype in (tf.float16, tf.bfloat16):
        heads = [[tf.cast(level, dtype) for level in part] for part in (classes, boxes)]
        out_boxes, scores, out_classes, lengths = postprocess_predictions(config, *heads, None, mode="best-class")
        assert out_boxes.dtype == scores.dtype == tf.float32
        assert lengths.numpy().tolist() == [1] and out_classes[0, 0] == 2
        same = postprocess.postprocess_best_class(params, *([tf.cast(x, tf.float32) for x in part] for part in heads))
        np.testing.assert_array_equal(out_boxes, same[0])


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
def test_one_image_is_suppressed_in_its_own_type_but_measured_in_float32(dtype):
    boxes = tf.constant([[0, 0, 400, 400], [4, 4, 404, 404], [500, 0, 900, 400]], dtype)  # areas beyond half
    scores, classes = tf.constant([0.5, 0.75, 0.25], dtype), tf.constant([3, 4, 5])
    for padded, rows in ((True, 4), (False, 2)):
        params = make_params(score_thresh=None, max_output_size=4)
        kept, kept_scores, kept_classes, length = postprocess.nms(params, boxes, scores, classes, padded)
        assert (
            length == 2 and kept.shape == (rows, 4) and kept.dtype == kept_scores.dtype == kept_classes.dtype == dtype
        )
        np.testing.assert_array_equal(kept_scores[:2], [0.75, 0.25])
        np.testing.assert_array_equal(kept_classes[:2], [5, 6])
        np.testing.assert_array_equal(kept[:2], boxes.numpy()[[1, 2]])


def test_channels_first_outputs_are_transposed_and_left_as_they_were():
    params = make_params((64, 96), 4)
    heads = make_heads(params, seed=9)
    transposed = [[np.ascontiguousarray(level.transpose(0, 3, 1, 2)) for level in part] for part in heads]
    copies = [list(part) for part in transposed]
    first = {**params, "data_format": "channels_first"}
    for one, other in zip(
        postprocess.postprocess_global(first, *transposed), postprocess.postprocess_global(params, *heads)
    ):
        np.testing.assert_array_equal(one, other)
    assert all(a is b for part, copy in zip(transposed, copies) for a, b in zip(part, copy))


def test_outputs_may_be_dictionaries_by_level():
    params = make_params((64, 96), 4)
    classes, boxes = make_heads(params, seed=10)
    as_dicts = [dict(zip(range(3, 8), part)) for part in (classes, boxes)]
    np.testing.assert_array_equal(
        postprocess.postprocess_global(params, *as_dicts)[0], postprocess.postprocess_global(params, classes, boxes)[0]
    )


def test_without_reduction_every_anchor_keeps_all_scores_and_its_best_class():
    params = make_params((64, 96), 4)
    heads = make_heads(params, seed=11, batch=2)
    scores, boxes = decode(params, *heads)
    made = postprocess.pre_nms(params, *heads, topk=False)
    np.testing.assert_allclose(made[0], boxes, atol=BOX_ATOL)
    np.testing.assert_allclose(made[1], scores, atol=SCORE_ATOL)
    np.testing.assert_array_equal(made[2], scores.argmax(-1))


def test_decoding_keeps_static_shapes_and_the_type_of_the_outputs():
    params = make_params((64, 96), 4)
    heads = make_heads(params, batch=2)

    @tf.function
    def shapes():
        half = [[tf.cast(level, tf.float16) for level in part] for part in heads]
        made = postprocess.pre_nms(params, *half, topk=False)
        assert [x.shape.as_list() for x in made] == [[2, 1161, 4], [2, 1161, 4], [2, 1161]]
        assert made[0].dtype == made[1].dtype == tf.float16
        detections = postprocess.postprocess_multi_class(params, *half)
        assert [x.shape.as_list() for x in detections] == [[2, 100, 4], [2, 100], [2, 100], [2]]

    shapes()


def test_boxes_are_clipped_to_height_and_width():
    boxes = tf.constant([[[-5.0, -6.0, 70.0, 110.0], [10.0, 20.0, 30.0, 40.0], [200.0, 300.0, 210.0, 310.0]]])
    clipped = postprocess.clip_boxes(boxes, "96x64").numpy()[0]
    np.testing.assert_array_equal(clipped, [[0, 0, 64, 96], [10, 20, 30, 40], [64, 96, 64, 96]])


def test_without_a_mode_the_heads_outputs_come_back():
    heads = make_heads(make_params((64, 96), 2))
    assert postprocess_predictions({}, *heads, None, mode=None) == tuple(heads)


def test_what_does_not_fit_together_is_refused():
    params = make_params((64, 96), 2)
    heads = make_heads(params)
    with pytest.raises(UserError, match="set image_size"):
        postprocess.postprocess_global({**params, "image_size": 128}, *heads)
    with pytest.raises(UserError, match="levels 3 to 7 need 5"):
        postprocess.postprocess_global(params, heads[0][:4], heads[1][:4])
    with pytest.raises(UserError, match="expected one of global"):
        postprocess_predictions(params, *heads, None, mode="fast")
    params["nms_configs"]["method"] = "linear"
    with pytest.raises(UserError, match="hard or gaussian"):
        postprocess.postprocess_global(params, *heads)
