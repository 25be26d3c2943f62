# SPDX-License-Identifier: Apache-2.0
"""The Poplar operator, built and run by the model of Poplar: against the NumPy reference and the host operator."""

import json
import subprocess

import numpy as np
import poplar_model
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from poplar_nms import LIBRARIES, assert_same, attributes_of, expected, outputs_of, run, scene

import nms_np

MODES = nms_np.MODES
# Reference and operator take exp() from different libraries, whose last bit may differ, once for every lowering.
SOFT_RTOL = 1e-5

small = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def make_scene(mode, seed, objects, anchors, **options):
    scores, boxes, classes = scene(seed, objects, anchors, multi=mode == "multi-class", **options)
    return scores, boxes, None if mode == "multi-class" else classes


@small
@given(
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 10**6),
    objects=st.lists(st.sampled_from([0, 1, 7, 50]), min_size=1, max_size=5),
    anchors=st.integers(1, 700),
    rows=st.integers(1, 60),
    tiles=st.sampled_from([1, 2, 7, 32, 64]),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    dtype=st.sampled_from([np.float32, np.float16]),
)
def test_agrees_with_the_reference(mode, seed, objects, anchors, rows, tiles, threshold, dtype):
    scores, boxes, classes = make_scene(mode, seed, objects, anchors, dtype=dtype)
    options = {"threshold": threshold, "numDetections": rows}
    assert_same(
        run(scores, boxes, classes, mode, tiles=tiles, **options), expected(scores, boxes, classes, mode, **options)
    )


@small
@given(
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 10**6),
    anchors=st.integers(1, 150),
    threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    dtype=st.sampled_from([np.float32, np.float16]),
)
def test_agrees_with_the_reference_where_boxes_and_scores_repeat(mode, seed, anchors, threshold, dtype):
    # Corners on a grid of 5 x 5 and four scores: equal boxes, boxes without area or the other way round, IoUs that are
    # exactly the threshold, and ties everywhere.
    rng = np.random.RandomState(seed)
    multi = (3,) if mode == "multi-class" else ()
    scores = rng.choice([0.3, 0.5, 0.75, np.nan], (2, anchors, *multi)).astype(dtype)
    boxes = rng.randint(0, 5, (2, anchors, 4)).astype(dtype)
    classes = None if multi else rng.randint(0, 2, (2, anchors)).astype(np.int32)
    options = {"threshold": threshold, "numDetections": 12}
    assert_same(run(scores, boxes, classes, mode, **options), expected(scores, boxes, classes, mode, **options))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_soft_suppression_agrees_with_the_reference(mode, dtype):
    scores, boxes, classes = make_scene(mode, 3, [0, 1, 40], 333, dtype=dtype)
    options = {"sigma": 0.5, "numDetections": 30}
    found = run(scores, boxes, classes, mode, **options)
    assert found.lengths[2] == 30
    rtol = SOFT_RTOL if dtype == np.float32 else 2 * np.finfo(dtype).eps
    assert_same(found, expected(scores, boxes, classes, mode, **options), score_rtol=rtol)


@pytest.fixture(scope="module")
def host_nms():
    """The host operator, or the reason why it cannot be compared with."""
    ipu_nms = pytest.importorskip("ipu_nms")
    if not ipu_nms.available("host"):
        pytest.skip("the host operator is not built for this TensorFlow: run make")

    def call(scores, boxes, classes, mode, **changes):
        outputs = ipu_nms.nms_op(
            changes.get("threshold", 0.5),
            changes.get("scoreThreshold", 0.3),
            changes.get("numDetections", 10),
            scores,
            boxes,
            classes,
            sigma=changes.get("sigma", 0.0),
            mode=mode,
            device="host",
        )
        return nms_np.NmsOutputs(*(output.numpy() for output in outputs))

    return call


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("sigma", [0.0, 0.3])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
def test_agrees_with_the_host_operator_bit_for_bit(host_nms, mode, dtype, sigma, batch):
    objects = [50, 0, 1, 17, 5][:batch]
    scores, boxes, classes = make_scene(mode, batch, objects, 611, dtype=dtype)
    options = {"sigma": sigma, "numDetections": 40}
    assert_same(run(scores, boxes, classes, mode, **options), host_nms(scores, boxes, classes, mode, **options))


@pytest.mark.parametrize("mode", MODES)
def test_an_image_gives_the_same_detections_alone_and_in_a_batch(mode):
    scores, boxes, classes = make_scene(mode, 11, [50, 0, 1, 20, 3], 203)
    together = run(scores, boxes, classes, mode, numDetections=25)
    for i in range(5):
        one = slice(i, i + 1)
        alone = run(scores[one], boxes[one], None if classes is None else classes[one], mode, numDetections=25)
        assert_same(alone, nms_np.NmsOutputs(*(output[one] for output in together)))


def test_more_images_than_tiles_share_them():
    scores, boxes, classes = make_scene("best-class", 5, [3, 0, 20, 1, 9, 2, 30], 50)
    assert_same(run(scores, boxes, classes, tiles=3), expected(scores, boxes, classes))
    half = scene(5, [3, 0, 20, 1, 9, 2, 30], 50, dtype=np.float16)
    assert_same(run(*half, tiles=3, numDetections=5), expected(*half, numDetections=5))


def test_without_classes_all_boxes_suppress_each_other_and_no_classes_come_back():
    scores, boxes, classes = make_scene("class-agnostic", 2, [9, 30], 150)
    found = run(scores, boxes, None)
    assert found.classes is None
    assert_same(found, expected(scores, boxes, classes, "class-agnostic"))


def test_a_run_leaves_nothing_behind_for_the_next_one():
    first, second = (scene(seed, objects, 97) for seed, objects in ((1, [40, 2]), (2, [0, 9])))
    specs = [(array.dtype.name, array.shape) for array in first]
    outputs = outputs_of(first[0], 10)
    output_specs = [(np.dtype(t).name, s) for t, s in zip(outputs["output_types"], outputs["output_shapes"])]
    op = poplar_model.CustomOp(LIBRARIES["tf"], specs, attributes_of(), output_specs)
    for arrays in (first, second, first):
        assert_same(nms_np.NmsOutputs(*op(arrays)), expected(*arrays))


def stack_of_boxes(sizes, dtype=np.float32):
    """Boxes [1, n, 4] with one common corner, n scores falling from 0.9, all of class 0."""
    boxes = np.array([[[10, 10, 10 + size, 10 + size] for size in sizes]], dtype)
    scores = np.linspace(0.9, 0.5, len(sizes)).astype(dtype)[None]
    return scores, boxes, np.zeros((1, len(sizes)), np.int32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_boxes_larger_than_half_can_measure_are_still_suppressed(dtype):
    # 600 x 600 pixels are 360000, half ends at 65504. The IoUs with the first are (590 / 600)^2 and (300 / 600)^2.
    found = run(*stack_of_boxes([600, 590, 300], dtype))
    np.testing.assert_array_equal(found.indices[0, :3], [0, 2, -1])


@pytest.mark.parametrize("mode", MODES)
def test_unused_rows_are_padded_and_lengths_count_the_rest(mode):
    scores, boxes, classes = make_scene(mode, 4, [2, 0], 60)
    found = run(scores, boxes, classes, mode, numDetections=40)
    for b, length in enumerate(found.lengths):
        assert 0 <= length < 40
        assert (found.indices[b, :length] >= 0).all()
        assert (found.scores[b, :length] > 0.3).all()
        assert (found.indices[b, length:] == -1).all()
        assert (found.scores[b, length:] == 0).all()
        assert (found.boxes[b, length:] == 0).all()
        assert (found.classes[b, length:] == np.iinfo(np.int32).max).all()


def test_thresholds_are_strict():
    scores, boxes, classes = stack_of_boxes([8, 4, 2])  # IoU of neighbours: 16 / 64 = 0.25 exactly
    assert list(run(scores, boxes, classes, threshold=0.25).indices[0, :4]) == [0, 1, 2, -1]
    assert list(run(scores, boxes, classes, threshold=0.2499999).indices[0, :3]) == [0, 2, -1]
    assert run(scores, boxes, classes, threshold=1.0, scoreThreshold=float(scores[0, 2])).lengths == [2]


def test_a_threshold_that_half_cannot_hold_is_not_rounded():
    # The half next to 0.4 is 0.39990234: less, so not a candidate. Rounding the threshold would not change that; but
    # 0.3999 rounds to the same half, and the score is more than 0.3999.
    scores, boxes, classes = stack_of_boxes([100], np.float16)
    scores[:] = 0.4
    assert run(scores, boxes, classes, scoreThreshold=0.4).lengths == [0]
    assert run(scores, boxes, classes, scoreThreshold=0.3999).lengths == [1]


def test_equal_scores_go_to_the_lower_index():
    corner = np.arange(300, dtype=np.float32)[:, None] * 10
    boxes = np.concatenate([corner, corner, corner + 5, corner + 5], -1)[None]
    scores = np.full((1, 300), 0.5, np.float32)
    found = run(scores, boxes, np.zeros((1, 300), np.int32), numDetections=20)
    np.testing.assert_array_equal(found.indices[0], np.arange(20))


def test_numbers_that_are_not_numbers_and_boxes_without_area_take_no_part():
    scores, boxes, classes = stack_of_boxes([50, 50, 50, 50, 50])
    scores[0, 0] = np.nan
    boxes[0, 1] = boxes[0, 2] = [20, 20, 20, 60]  # no height
    boxes[0, 3] = boxes[0, 3][[2, 3, 0, 1]]  # the same box, corners the other way round
    found = run(scores, boxes, classes)
    np.testing.assert_array_equal(found.indices[0, :4], [1, 2, 3, -1])
    np.testing.assert_array_equal(found.boxes[0, 2], boxes[0, 3])


@pytest.mark.parametrize(
    ("tiles", "anchors", "batch", "per_iteration"),
    [(12, 300, 1, 2), (64, 1600, 1, 3), (512, 12000, 1, 4), (12, 300, 3, 2), (192, 1600, 3, 3)],
)
def test_an_iteration_takes_two_to_four_supersteps_whatever_the_batch(tiles, anchors, batch, per_iteration):
    # One joins the records of a tile's workers, none to two those of groups of tiles, one suppresses.
    scores, boxes, classes = scene(8, [40] * batch, anchors)
    arrays, rows = [scores, boxes, classes], 12
    outputs = outputs_of(scores, rows)
    op = poplar_model.CustomOp(
        LIBRARIES["tf"],
        [(array.dtype.name, array.shape) for array in arrays],
        attributes_of(numDetections=rows),
        [(np.dtype(t).name, s) for t, s in zip(outputs["output_types"], outputs["output_shapes"])],
        tiles=tiles,
    )
    outputs = nms_np.NmsOutputs(*op(arrays))
    assert_same(outputs, expected(*arrays, numDetections=rows))
    assert (outputs.lengths == rows).all()
    passes = rows + (batch > 1)  # joined flags arrive one pass late
    assert op.statistics()[0] == 1 + per_iteration * passes


def test_the_loop_ends_with_the_last_detection():
    scores, boxes, classes = stack_of_boxes([600, 590, 100])
    op = poplar_model.CustomOp(
        LIBRARIES["tf"],
        [("float32", (1, 3)), ("float32", (1, 3, 4)), ("int32", (1, 3))],
        attributes_of(numDetections=1000),
        [(n, s) for n, s in zip(["int32", "float32"], [(1, 1000), (1, 1000)])],
    )
    op([scores, boxes, classes])
    assert op.statistics()[0] == 1 + 2 * 3  # two detections, and a pass that finds none


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"buildId": "x", "treshold": 0.5}', '"treshold" is not known'),
        ('{"buildId": "x", "threshold": "0.5"}', '"threshold" must be a number'),
        ('{"buildId": "x", "threshold": .5}', '"threshold" must be a number'),
        ('{"buildId": "x", "threshold": 01}', '"threshold" must be a number'),
        ('{"buildId": "x", "threshold": NaN}', '"threshold" must be a number'),
        ('{"buildId": "x", "threshold": 1e39}', "greater than a float"),
        ('{"buildId": "x", "numDetections": 0}', "whole number from 1 on"),
        ('{"buildId": "x", "numDetections": 2.5}', "whole number from 1 on"),
        ('{"buildId": "x", "useGather": 1}', "must be true or false"),
        ('{"buildId": "x", "inPlace": true}', "inputs of this operator are never written"),
        ('{"buildId": "x", "buildId": "y"}', "given twice"),
        ('{"buildId": "x"', "'}' expected"),
        ('{"buildId": "x"} {}', "nothing may follow"),
        ('{"buildId": "x\\n"}', "escapes"),
        ("[]", "'{' expected"),
        ("{}", "buildId is missing"),
        ('{"buildId": "x", "sigma": 0.5, "scoreThreshold": -1}', "score threshold of at least 0"),
        ('{"buildId": "x", "sigma": -0.5}', "sigma must be 0"),
    ],
)
def test_attributes_are_read_strictly(text, complaint):
    scores, boxes, classes = stack_of_boxes([10])
    with pytest.raises(poplar_model.PoplarModelError) as error:
        poplar_model.run(LIBRARIES["tf"], [scores, boxes, classes], text, outputs_of(scores, 100))
    assert complaint in str(error.value)


def test_attributes_of_the_former_operator_and_every_form_of_json_are_understood():
    scores, boxes, classes = stack_of_boxes([10])
    text = ' {\n"buildId":"x" , "useGather" : true,\t"inPlace":false,"threshold":5e-1,"scoreThreshold":-1.5E+0}\r\n'
    outputs = poplar_model.run(LIBRARIES["tf"], [scores, boxes, classes], text, outputs_of(scores, 100))
    assert outputs[4] == [1]


@pytest.mark.parametrize(
    ("form", "shapes", "types", "complaint"),
    [
        ("tf", [(2, 9, 3), (2, 9, 4)], "ff", "use NMS/tf_multi/build/nms_custom_op.so"),
        ("tf_multi", [(2, 9), (2, 9, 4)], "ff", "use NMS/tf/build/nms_custom_op.so"),
        ("tf_multi", [(2, 9, 3), (2, 9, 4), (2, 9)], "ffi", "got 3 inputs"),
        ("tf", [(2, 9)], "f", "got 1 inputs"),
        ("tf", [(2, 9), (2, 8, 4)], "ff", "boxes must be [B, N, 4] for scores [2, 9], got [2, 8, 4]"),
        ("tf", [(2, 9), (2, 9, 4), (9,)], "ffi", "classes must be [B, N]"),
        ("tf", [(2, 9), (2, 9, 4), (2, 9)], "fff", "classes must be int"),
        ("tf", [(2, 9), (2, 9, 4)], "fe", "boxes and scores must have one type, got half and float"),
        ("tf", [(2, 9), (2, 9, 4)], "ii", "scores must be float or half, got int"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_what_was_found(form, shapes, types, complaint):
    inputs = [np.zeros(shape, {"f": np.float32, "e": np.float16, "i": np.int32}[t]) for shape, t in zip(shapes, types)]
    with pytest.raises(poplar_model.PoplarModelError) as error:
        poplar_model.run(LIBRARIES[form], inputs, attributes_of(), None)
    assert complaint in str(error.value)


@pytest.mark.parametrize("form", ["tf", "tf_multi"])
def test_make_without_the_sdk_says_what_is_missing(form, tmp_path):
    command = ["make", "-C", str(poplar_model.NMS / form), f"BUILD={tmp_path}", "POPC=popc-is-not-here"]
    made = subprocess.run(command, capture_output=True, check=False)
    assert made.returncode != 0
    assert b"popc-is-not-here was not found" in made.stderr
    assert b"Enable the Poplar SDK" in made.stderr
    assert not list(tmp_path.iterdir())


def test_attributes_made_by_json_dumps_are_valid():
    assert json.loads(attributes_of())["buildId"] == "test"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_batch_of_the_size_of_efficientdet_d0_on_all_tiles(dtype):
    arrays = scene(1, [60, 0, 300], 49104, num_classes=90, dtype=dtype)
    options = {"numDetections": 100}
    assert_same(run(*arrays, tiles=1472, **options), expected(*arrays, **options))
