# SPDX-License-Identifier: Apache-2.0
"""The host operator of NMS against TensorFlow's operators, the NumPy reference, and cases worked out by hand."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nms_scenes import Scene, make_scene

import ipu_nms
import nms_np
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf

pytest_plugins = ["native_fixtures"]
pytestmark = pytest.mark.usefixtures("host_libraries")

MODES = ("best-class", "class-agnostic", "multi-class")
UNUSED_CLASS = np.iinfo(np.int32).max
SQUARE = [0.0, 0.0, 10.0, 10.0]
# Reproducible: whether two scores that differ in their last bit swap places must not depend on the day.
examples = settings(max_examples=60, deadline=None, derandomize=True)

seeds = st.integers(0, 2**32 - 1)
counts = st.one_of(st.sampled_from([0, 1, 2]), st.integers(3, 150))
thresholds = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1 / 3]), st.floats(0, 1, width=32))
sigmas = st.sampled_from([0.05, 0.25, 0.5, 2.0])
limits = st.one_of(st.just(1), st.integers(2, 200))


def run(scene, mode, iou=0.5, score=0.1, limit=100, sigma=0.0, classes=True):
    """Outputs of the operator as NumPy arrays; multi-class scenes have scores [B, N, C] and no classes."""
    outputs = ipu_nms.nms_op(
        iou,
        score,
        limit,
        scene.scores,
        scene.boxes,
        scene.classes if classes and mode != "multi-class" else None,
        sigma=sigma,
        mode=mode,
        device="host",
    )
    return ipu_nms.NmsOutputs(*(output.numpy() for output in outputs))


def tensorflow_nms(boxes, scores, limit, iou, score, sigma=0.0):
    """(indices, scores) of one image by TensorFlow's operator; soft suppression there also knows the IoU threshold."""
    indices, kept, _ = tf.raw_ops.NonMaxSuppressionV5(
        boxes=boxes,
        scores=scores,
        max_output_size=limit,
        iou_threshold=np.float32(1.0 if sigma else iou),
        score_threshold=np.float32(score),
        soft_nms_sigma=np.float32(sigma / 2),  # Its weight is exp(-iou^2 / (2 * sigma)).
    )
    return indices.numpy(), kept.numpy()


def kept(outputs, image):
    """(indices, scores) of one image, after checking that the rows behind them are unused."""
    length = outputs.lengths[image]
    assert (outputs.indices[image, length:] == -1).all() and not outputs.scores[image, length:].any()
    assert (outputs.classes[image, length:] == UNUSED_CLASS).all() and not outputs.boxes[image, length:].any()
    return outputs.indices[image, :length], outputs.scores[image, :length]


def test_classes_near_the_greatest_number_stay_positive():
    boxes = np.array([[[0, 0, 4, 4], [10, 0, 14, 4], [20, 0, 24, 4]]], np.float32)
    classes = np.array([[2**31 - 1, 2**31 - 2, 7]], np.int32)
    params = {"nms_configs": {"method": "hard", "iou_thresh": 0.5, "score_thresh": 0.1, "max_output_size": 4}}
    found = ipu_nms.ipu_nms(params, np.array([[0.9, 0.8, 0.7]], np.float32), boxes, classes, device="host")
    assert found.classes.numpy().tolist() == [[2**31 - 1, 2**31 - 1, 8, 0]]


@examples
@given(seed=seeds, count=counts, ties=st.booleans(), odd=st.booleans(), iou=thresholds, score=thresholds, limit=limits)
def test_class_agnostic_hard_suppression_equals_tensorflow(seed, count, ties, odd, iou, score, limit):
    scene = make_scene(seed, 2, count, ties=ties, odd_boxes=odd)
    outputs = run(scene, "class-agnostic", iou, score, limit)
    for image in range(2):
        indices, scores = kept(outputs, image)
        expected, expected_scores = tensorflow_nms(scene.boxes[image], scene.scores[image], limit, iou, score)
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_array_equal(scores, expected_scores)
        np.testing.assert_array_equal(outputs.boxes[image, : len(indices)], scene.boxes[image][indices])
        np.testing.assert_array_equal(outputs.classes[image, : len(indices)], scene.classes[image][indices])


@examples
@given(seed=seeds, count=counts, odd=st.booleans(), sigma=sigmas, score=thresholds, limit=limits)
def test_class_agnostic_soft_suppression_equals_tensorflow(seed, count, odd, sigma, score, limit):
    scene = make_scene(seed, 1, count, odd_boxes=odd)
    indices, scores = kept(run(scene, "class-agnostic", 0.5, score, limit, sigma), 0)
    expected, expected_scores = tensorflow_nms(scene.boxes[0], scene.scores[0], limit, 1.0, score, sigma)
    normal = scores >= np.finfo(np.float32).tiny  # TensorFlow's threads make zeros of smaller ones
    indices, scores = indices[normal], scores[normal]
    np.testing.assert_array_equal(indices, expected)
    # TensorFlow multiplies the same weights in another order.
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


@examples
@given(
    seed=seeds,
    count=counts,
    ties=st.booleans(),
    iou=thresholds,
    score=thresholds,
    limit=limits,
    sigma=st.sampled_from([0.0, 0.0, 0.3]),
)
def test_best_class_equals_tensorflow_class_by_class(seed, count, ties, iou, score, limit, sigma):
    scene = make_scene(seed, 1, count, ties=ties and not sigma)
    indices, scores = kept(run(scene, "best-class", iou, score, limit, sigma), 0)
    rows = []
    for label in range(3):
        mine = np.flatnonzero(scene.classes[0] == label)
        found = tensorflow_nms(scene.boxes[0][mine], scene.scores[0][mine], count, iou, score, sigma)
        rows += [(-value, mine[i]) for i, value in zip(*found)]
    expected = sorted(rows)[:limit]
    np.testing.assert_array_equal(indices, [index for _, index in expected])
    np.testing.assert_allclose(scores, [-value for value, _ in expected], rtol=1e-5 if sigma else 0)


@examples
@given(seed=seeds, count=st.integers(1, 60), classes=st.integers(1, 4), iou=thresholds, score=thresholds, limit=limits)
def test_multi_class_equals_combined_non_max_suppression(seed, count, classes, iou, score, limit):
    boxes = make_scene(seed, 2, count).boxes
    rng = np.random.RandomState(seed)
    size = count * classes  # All scores of an image differ: the operator's order of equal ones is not defined.
    scores = np.stack([rng.permutation(size) for _ in range(2)]).reshape(2, count, classes).astype(np.float32) / size
    outputs = run(Scene(boxes, scores, None), "multi-class", iou, score, limit)
    expected = tf.image.combined_non_max_suppression(
        boxes[:, :, None], scores, limit, limit, iou, score, clip_boxes=False
    )
    np.testing.assert_array_equal(outputs.lengths, expected.valid_detections)
    np.testing.assert_array_equal(outputs.boxes, expected.nmsed_boxes)
    np.testing.assert_array_equal(outputs.scores, expected.nmsed_scores)
    labels = np.where(outputs.indices < 0, 0, outputs.classes)
    np.testing.assert_array_equal(labels, expected.nmsed_classes)
    for image in range(2):
        indices, values = kept(outputs, image)
        np.testing.assert_array_equal(scores[image].reshape(-1)[indices], values)


@examples
@given(
    seed=seeds,
    count=counts,
    batch=st.integers(1, 3),
    mode=st.sampled_from(MODES),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    ties=st.booleans(),
    odd=st.booleans(),
    iou=thresholds,
    score=st.one_of(st.just(float("-inf")), thresholds),
    limit=st.integers(1, 40),
    sigma=st.sampled_from([0.0, 0.0, 0.5]),
)
def test_all_modes_and_types_equal_the_numpy_reference(
    seed, count, batch, mode, dtype, ties, odd, iou, score, limit, sigma
):
    scene = make_scene(seed, batch, count, ties=ties, odd_boxes=odd)
    if mode == "multi-class":
        extra = make_scene(seed + 1, batch, count, ties=ties).scores
        scene = scene._replace(scores=np.stack([scene.scores, extra], axis=2))
    score = max(score, 0.0) if sigma else score
    boxes, scores = (tf.cast(values, dtype) for values in (scene.boxes, scene.scores))
    outputs = run(Scene(boxes, scores, scene.classes), mode, iou, score, limit, sigma)
    wide = [tf.cast(values, tf.float32).numpy() for values in (scores, boxes)]
    expected = nms_np.batched_nms(*wide, scene.classes, mode, iou, score, limit, sigma)
    anchors = np.where(outputs.indices < 0, -1, outputs.indices // (2 if mode == "multi-class" else 1))
    np.testing.assert_array_equal(anchors, expected.indices)
    np.testing.assert_array_equal(outputs.classes, expected.classes)
    np.testing.assert_array_equal(outputs.lengths, expected.lengths)
    np.testing.assert_array_equal(outputs.boxes.astype(np.float32), expected.boxes)
    rounded = tf.cast(expected.scores, dtype).numpy().astype(np.float32)
    # Two implementations of exp may differ in the last bit, which rounding to the type may turn into one step of it.
    step = {"float32": 1e-5, "float16": 2**-10, "bfloat16": 2**-7}[dtype] if sigma else 0
    np.testing.assert_allclose(outputs.scores.astype(np.float32), rounded, rtol=step)


@examples
@given(seed=seeds, dtype=st.sampled_from(["float32", "float16", "bfloat16"]))
def test_a_box_goes_just_above_the_threshold_and_stays_just_below(seed, dtype):
    corners = make_scene(seed, 1, 2).boxes
    corners[0, 1] = corners[0, 0] + np.random.RandomState(seed).uniform(-0.4, 0.4, 4)
    boxes = tf.cast(corners, dtype)
    overlap = np.float32(nms_np.iou(*tf.cast(boxes, tf.float32).numpy()[0]))
    scene = Scene(boxes, tf.constant([[0.9, 0.8]], dtype), np.zeros((1, 2), np.int32))
    assert run(scene, "best-class", float(overlap)).lengths == [2]  # Equal is not above.
    assert run(scene, "best-class", float(np.nextafter(overlap, np.float32(2)))).lengths == [2]
    assert run(scene, "best-class", float(np.nextafter(overlap, np.float32(-1)))).lengths == [1]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_score_equal_to_the_threshold_is_not_enough(dtype):
    scores = tf.constant([[0.5, 0.5]], dtype)
    scene = Scene(tf.constant([[SQUARE, SQUARE]], dtype), scores, np.array([[0, 1]], np.int32))
    assert run(scene, "best-class", score=0.5).lengths == [0]
    assert run(scene, "best-class", score=float(np.nextafter(np.float32(0.5), np.float32(0)))).lengths == [2]


def test_the_threshold_is_not_rounded_to_half():
    # The half-precision number next to 0.4 is 0.39990: a threshold of 0.4 is above it, one of 0.3999 is not.
    scene = Scene(np.array([[SQUARE]], np.float16), np.array([[0.4]], np.float16), np.zeros((1, 1), np.int32))
    assert run(scene, "best-class", score=0.4).lengths == [0]
    assert run(scene, "best-class", score=0.3999).lengths == [1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_an_image_gives_the_same_detections_alone_and_in_any_batch(mode, dtype, sigma):
    scene = make_scene(4, 5, 120)
    scores = scene.scores.copy()
    scores[1] = 0  # none
    scores[2, 1:] = 0  # one
    scores[3] = 0.7  # nothing but ties
    if mode == "multi-class":
        scores = np.stack([scores, scores[:, ::-1]], axis=2)
    scene = Scene(tf.cast(scene.boxes, dtype), tf.cast(scores, dtype), scene.classes)
    together = run(scene, mode, limit=30, sigma=sigma)
    for image in range(5):
        alone = run(Scene(*(part[image : image + 1] for part in scene)), mode, limit=30, sigma=sigma)
        for whole, single in zip(together, alone):
            assert whole[image].tobytes() == single[0].tobytes()
    backwards = run(Scene(*(part[::-1] for part in scene)), mode, limit=30, sigma=sigma)
    for whole, turned in zip(together, backwards):
        assert whole.tobytes() == turned[::-1].tobytes()


def test_the_thread_makes_no_difference_to_subnormal_numbers():
    # TensorFlow's own threads, on which datasets are mapped, flush them to zero; the thread that calls does not.
    scores = tf.constant([[1e-40, 2e-40]])
    boxes = tf.constant([[[0, 0, 1e-20, 1e-19], [0, 0, 1e-20, 1e-19]]])

    def suppress(scores):
        return ipu_nms.nms_op(0.5, 0.0, 2, scores, boxes).indices

    mapped = tf.data.Dataset.from_tensors(scores).repeat(4).map(suppress, num_parallel_calls=2)
    for indices in [suppress(scores), *mapped]:
        np.testing.assert_array_equal(indices, [[1, -1]])


def test_boxes_larger_than_half_can_measure_are_still_suppressed():
    # 512 x 512 is an area of 262144; half precision ends at 65504.
    boxes = np.array([[[0, 0, 512, 512], [0, 0, 512, 384], [0, 0, 512, 200]]], np.float16)
    scene = Scene(boxes, np.array([[0.9, 0.8, 0.7]], np.float16), np.zeros((1, 3), np.int32))
    np.testing.assert_array_equal(run(scene, "best-class", limit=4).indices, [[0, 2, -1, -1]])


def test_scores_that_are_not_numbers_are_never_selected():
    scene = Scene(
        np.array([[SQUARE, [20, 0, 30, 10], [40, 0, 50, 10]]], np.float32),
        np.array([[np.nan, 0.5, np.nan]], np.float32),
        np.zeros((1, 3), np.int32),
    )
    for dtype in ("float32", "float16", "bfloat16"):
        typed = Scene(tf.cast(scene.boxes, dtype), tf.cast(scene.scores, dtype), scene.classes)
        np.testing.assert_array_equal(run(typed, "best-class", score=float("-inf"), limit=3).indices, [[1, -1, -1]])


def test_boxes_without_area_neither_remove_nor_are_removed():
    boxes = np.array([[[5, 5, 5, 9], SQUARE, [5, 5, 5, 9], [np.nan, 0, 10, 10], [5, 5, 5, 5]]], np.float32)
    scene = Scene(boxes, np.array([[0.9, 0.8, 0.7, 0.6, 0.5]], np.float32), np.zeros((1, 5), np.int32))
    assert run(scene, "best-class", iou=0.0).lengths == [5]


def test_corners_may_come_in_any_order_and_leave_as_they_came():
    boxes = np.array([[SQUARE, [10, 10, 0, 0], [0, 10, 10, 0]]], np.float32)
    scene = Scene(boxes, np.array([[0.7, 0.9, 0.8]], np.float32), np.zeros((1, 3), np.int32))
    outputs = run(scene, "best-class", limit=2)
    np.testing.assert_array_equal(outputs.indices, [[1, -1]])
    np.testing.assert_array_equal(outputs.boxes[0, 0], [10, 10, 0, 0])


def test_classes_that_share_low_bits_do_not_suppress_each_other():
    labels = np.array([[0, 256, 512, -256, 0]], np.int32)
    scene = Scene(np.array([[SQUARE] * 5], np.float32), np.array([[0.9, 0.8, 0.7, 0.6, 0.5]], np.float32), labels)
    np.testing.assert_array_equal(run(scene, "best-class", limit=5).indices, [[0, 1, 2, 3, -1]])


@pytest.mark.parametrize("batch, count", [(0, 4), (2, 0), (0, 0)])
def test_empty_batches_and_images_without_boxes_are_no_special_case(batch, count):
    outputs = run(make_scene(0, batch, count), "best-class", limit=3)
    assert outputs.indices.shape == (batch, 3) and (outputs.indices == -1).all()
    assert outputs.boxes.shape == (batch, 3, 4) and outputs.lengths.tolist() == [0] * batch


def test_without_classes_all_boxes_are_of_one():
    scene = Scene(np.array([[SQUARE, SQUARE]], np.float32), np.array([[0.9, 0.8]], np.float32), None)
    outputs = run(scene, "best-class", limit=2, classes=False)
    np.testing.assert_array_equal(outputs.classes, [[0, UNUSED_CLASS]])


def test_scores_of_all_classes_are_reduced_to_the_best():
    scene = make_scene(8, 2, 50)
    every = np.stack([scene.scores / 2, scene.scores, scene.scores / 4], axis=2)
    reduced = run(Scene(scene.boxes, scene.scores, np.ones((2, 50), np.int32)), "best-class")
    for outputs in (
        run(Scene(scene.boxes, every, None), "best-class", classes=False),
        run(Scene(scene.boxes, every, np.ones((2, 50), np.int32)), "best-class"),
    ):
        for a, b in zip(outputs, reduced):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16, tf.bfloat16])
def test_types_follow_the_inputs_and_static_shapes_are_known(dtype):
    specs = [tf.TensorSpec([None, 30], dtype), tf.TensorSpec([None, 30, 4], dtype), tf.TensorSpec([None, 30], tf.int64)]

    @tf.function(input_signature=specs)
    def suppress(scores, boxes, classes):
        return ipu_nms.nms_op(0.5, 0.1, 7, scores, boxes, classes)

    outputs = suppress.get_concrete_function().outputs
    assert [output.dtype for output in outputs] == [tf.int32, dtype, dtype, tf.int32, tf.int32]
    assert [output.shape.as_list() for output in outputs] == [[None, 7], [None, 7], [None, 7, 4], [None, 7], [None]]
    assert suppress(tf.zeros([2, 30], dtype), tf.zeros([2, 30, 4], dtype), tf.zeros([2, 30], tf.int64))[4].shape == [2]


def test_published_arguments_work_and_classes_become_one_based():
    scene = make_scene(3, 2, 60)
    params = {"nms_configs": {"method": "hard", "iou_thresh": 0.4, "score_thresh": 0.3, "max_output_size": 50}}
    raw = run(scene, "best-class", 0.4, 0.3, 50)
    boxes, _, classes, indices = ipu_nms.ipu_nms(params, scene.scores, scene.boxes, scene.classes)
    np.testing.assert_array_equal(indices, raw.indices)
    np.testing.assert_array_equal(classes, np.where(raw.indices < 0, 0, raw.classes.astype(np.int64) + 1))
    np.testing.assert_array_equal(boxes, raw.boxes)
    every = scene.scores[..., None]
    assert ipu_nms.ipu_nms(params, every, scene.boxes, None, multi_nms=True)[2].dtype == tf.int32


def test_none_is_the_default_and_zero_is_zero():
    scene = Scene(np.array([[SQUARE, [9, 0, 19, 10]]], np.float32), np.array([[0.9, 0.0]], np.float32), None)
    params = {"nms_configs": {"method": "hard", "iou_thresh": 0.0, "score_thresh": None, "max_output_size": 2}}
    assert ipu_nms.ipu_nms(params, scene.scores, scene.boxes, None).indices.numpy().tolist() == [[0, -1]]
    params["nms_configs"]["iou_thresh"] = None
    assert ipu_nms.ipu_nms(params, scene.scores, scene.boxes, None).indices.numpy().tolist() == [[0, 1]]


def test_rows_before_the_first_unused_one_count():
    indices = np.array([[4, -1, -1], [1, 2, 3], [-1, -1, -1], [7, 0, -1]], np.int32)
    outputs = [np.zeros((4, 3, 4)), np.zeros((4, 3)), np.zeros((4, 3), np.int32), tf.constant(indices)]
    lengths = ipu_nms.postprocess_onchip_nms_outputs(None, outputs)[3]
    assert lengths.tolist() == [1, 3, 0, 2] and lengths.dtype == np.int32


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scores": np.zeros((1, 3, 2, 1), np.float32)}, r"scores must be \[B, N\] or \[B, N, C\]"),
        (
            {"scores": np.zeros((1, 3), np.float32), "multi_nms": True},
            r"scores must be \[B, N, C\] in mode multi-class",
        ),
        ({"boxes": np.zeros((1, 3, 4), np.float16)}, "scores are float32 and boxes float16"),
        ({"scores": np.zeros((1, 3)), "boxes": np.zeros((1, 3, 4))}, "float64"),
        ({"mode": "best_class"}, "NMS mode 'best_class': expected one of best-class, class-agnostic, multi-class"),
        ({"mode": "best-class", "multi_nms": True}, "give one of them"),
    ],
)
def test_arguments_that_do_not_fit_say_what_was_expected(change, message):
    arguments = {"scores": np.zeros((1, 3), np.float32), "boxes": np.zeros((1, 3, 4), np.float32), **change}
    with pytest.raises(UserError, match=message):
        ipu_nms.nms_op(0.5, 0.1, 10, **arguments)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"boxes": np.zeros((1, 4, 4), np.float32)}, "boxes must be .* = .1,3,4. for scores"),
        ({"boxes": np.zeros((1, 3, 5), np.float32)}, "got .1,3,5."),
        ({"classes": np.zeros((1, 2), np.int32)}, "classes must be"),
        ({"threshold": float("nan")}, "iou_threshold is not a number"),
        ({"sigma": -1.0}, "sigma must be 0"),
        ({"sigma": 0.5, "score_threshold": -0.1}, "score_threshold must be at least 0"),
        ({"num_detections": 0}, "num_detections"),
    ],
)
def test_the_operator_checks_for_itself(change, message):
    arguments = {"scores": np.zeros((1, 3), np.float32), "boxes": np.zeros((1, 3, 4), np.float32)}
    arguments.update(threshold=0.5, score_threshold=0.1, num_detections=10)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
        ipu_nms.nms_op(**{**arguments, **change})


def test_a_long_call_ends_when_it_is_cancelled():
    # Boxes that do not touch, all to be kept: 5 thousand million comparisons. The session gives up after 100 ms.
    count = 100000
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        # Not a constant: folding it would compute the result before the session looks at its clock.
        edge = tf.compat.v1.placeholder(tf.float32, [1, count])
        boxes = tf.stack([edge, edge * 0, edge + 1, edge * 0 + 1], axis=2)
        lengths = ipu_nms.nms_op(0.5, 0.1, count, tf.ones_like(edge), boxes).lengths
        options = tf.compat.v1.RunOptions(timeout_in_ms=100)
        with pytest.raises((tf.errors.DeadlineExceededError, tf.errors.CancelledError)):
            session.run(lengths, {edge: np.arange(count, dtype=np.float32)[None] * 2}, options=options)


def test_calls_from_several_threads_do_not_disturb_each_other():
    scenes = [make_scene(seed, 3, 200) for seed in range(4)]
    suppress = tf.function(lambda s, b, c: ipu_nms.nms_op(0.5, 0.1, 50, s, b, c).indices)
    expected = [run(scene, "best-class", limit=50).indices for scene in scenes]
    wrong = []

    def work(number):
        scene = scenes[number]
        for _ in range(20):
            if not np.array_equal(suppress(scene.scores, scene.boxes, scene.classes), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
