# SPDX-License-Identifier: Apache-2.0
"""Detection straight from head outputs: the fused operator, its parts one after the other, and libdetect."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import reference_formulas
from hypothesis import given, settings
from hypothesis import strategies as st
from nms_scenes import LEVELS_64X96, LEVELS_128, make_heads

import hparams_config
import ipu_nms
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.base.quantisation import HeadQuantisation, Quantisation
from ipu_utils.nms import libraries
from ipu_utils.nms.libdetect import Detector
from tf2 import postprocess
from tf2.anchor_boxes import Anchors
from tf2.nms_settings import nms_settings

pytest_plugins = ["native_fixtures"]
pytestmark = pytest.mark.usefixtures("host_libraries")

MODES = ("best-class", "class-agnostic", "multi-class")
TYPES = ("float32", "float16", "bfloat16")
GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden" / "postprocess.npz"


def make_config(image_size=(64, 96), num_classes=90, **nms_configs):
    overrides = {"image_size": image_size, "num_classes": num_classes, "nms_configs": nms_configs}
    return hparams_config.get_inference_config("efficientdet-d0", overrides)


def arrays(outputs):
    return [np.asarray(output) for output in outputs]


def as_operator(found):
    """Detections of libdetect in the order of the operator's outputs, which have no lengths."""
    return found.boxes, found.scores, found.classes, found.indices


def assert_same_bits(some, others):
    for a, b in zip(arrays(some), arrays(others)):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def one_after_the_other(config, class_outputs, box_outputs, scales, mode):
    """What `detect` does, from its parts."""
    scores, boxes, classes = ipu_nms.decode(config, class_outputs, box_outputs, mode)
    found = ipu_nms.ipu_nms(config.as_dict(), scores, boxes, classes, mode=mode, device="host")
    boxes = postprocess.clip_boxes(found.boxes, config.image_size)
    return found._replace(boxes=boxes if scales is None else boxes * scales[:, None, None])


def make_detector(config, levels, mode="best-class", threads=1, quantisation=None):
    """What a program without TensorFlow makes of a configuration."""
    chosen = nms_settings(config.nms_configs)
    keys = ("min_level", "max_level", "num_scales", "aspect_ratios", "anchor_scale", "image_size")
    return Detector(
        anchors=Anchors(*(config[key] for key in keys)).boxes,
        level_anchors=[9 * height * width for height, width in levels],
        num_classes=config.num_classes,
        image_size=config.image_size,
        iou_threshold=chosen.iou_thresh,
        score_threshold=chosen.score_thresh,
        sigma=chosen.sigma,
        max_detections=chosen.max_output_size,
        mode=mode,
        threads=threads,
        quantisation=quantisation,
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(0, 3),
    classes=st.sampled_from([1, 3, 17, 90]),
    mode=st.sampled_from(MODES),
    dtype=st.sampled_from(TYPES),
    method=st.sampled_from(["hard", "gaussian"]),
    score=st.one_of(st.sampled_from([0.0, 1.0, 0.4, 1e-7, 0.9999999]), st.floats(0, 1, width=32)),
    limit=st.integers(1, 120),
    objects=st.integers(0, 90),
    with_scales=st.booleans(),
)
def test_fused_equals_decoding_suppressing_clipping_and_scaling_bit_for_bit(
    seed, batch, classes, mode, dtype, method, score, limit, objects, with_scales
):
    config = make_config(num_classes=classes, method=method, score_thresh=score, max_output_size=limit)
    heads = make_heads(seed, LEVELS_64X96, batch, classes, objects)
    heads = [[tf.cast(output, dtype) for output in outputs] for outputs in heads]
    scales = np.linspace(0.3, 2.5, batch, dtype=np.float32) if with_scales else None
    fused = ipu_nms.detect(config, *heads, scales, mode)
    assert_same_bits(fused, one_after_the_other(config, *heads, scales, mode))
    # Without TensorFlow, and with an image cut into parts or not.
    typed = [[np.asarray(output) for output in outputs] for outputs in heads]
    if dtype == "bfloat16":
        typed = [[output.view(np.uint16) for output in outputs] for outputs in typed]
    detector = make_detector(config, LEVELS_64X96, mode, threads=1 + seed % 3)
    assert_same_bits(fused, as_operator(detector.run(*typed, scales, dtype=dtype)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 2),
    classes=st.sampled_from([1, 17, 90]),
    mode=st.sampled_from(MODES),
    method=st.sampled_from(["hard", "gaussian"]),
    score=st.sampled_from([0.0, 0.001, 0.4, 0.5, 0.99]),
)
def test_integers_give_the_detections_of_the_floats_that_they_stand_for(seed, batch, classes, mode, method, score):
    config = make_config(num_classes=classes, method=method, score_thresh=score)
    heads = make_heads(seed, LEVELS_64X96, batch, classes, objects=30)
    rng = np.random.RandomState(seed)
    units = HeadQuantisation(*([Quantisation(float(np.float32(rng.uniform(*scales))), int(rng.randint(-128, 128)))
                                for _ in LEVELS_64X96] for scales in ((0.02, 0.2), (0.001, 0.02))))  # fmt: skip
    stored = [
        [np.clip(np.rint(np.asarray(output) / unit.scale) + unit.zero_point, -128, 127).astype(np.int8)
         for output, unit in zip(outputs, of_outputs)]
        for outputs, of_outputs in zip(heads, units)
    ]  # fmt: skip
    # What TensorFlow Lite's own dequantisation gives: the product in double, rounded once.
    floats = [
        [np.float32(np.float64(np.float32(unit.scale)) * (output.astype(np.int32) - unit.zero_point))
         for output, unit in zip(outputs, of_outputs)]
        for outputs, of_outputs in zip(stored, units)
    ]  # fmt: skip
    detector = make_detector(config, LEVELS_64X96, mode, 1 + seed % 3, units)
    assert_same_bits(detector.run(*stored)[:5], detector.run(*floats)[:5])
    with pytest.raises(UserError, match="int8: give the Detector their quantisation"):
        make_detector(config, LEVELS_64X96, mode).run(*stored)


def test_a_quantisation_is_checked():
    one = Quantisation(0.1, 0)
    for wrong in ([one], [one] * 4 + [Quantisation(0.0, 0)], [one] * 4 + [Quantisation(0.1, 128)]):
        with pytest.raises(UserError, match="quantisation"):
            make_detector(make_config(), LEVELS_64X96, quantisation=HeadQuantisation([one] * 5, wrong))


@pytest.mark.parametrize("value", [20.0, 100.0, np.inf])
def test_logits_whose_scores_round_to_one_are_ties_for_the_lower_anchor(value):
    config = make_config(score_thresh=0.4, max_output_size=3)
    class_outputs, box_outputs = make_heads(0, LEVELS_64X96, 1, objects=0)
    for column, logit in enumerate([value, value + 10, value]):
        class_outputs[0][0, 0, 4 * column, 5] = logit
    fused = ipu_nms.detect(config, class_outputs, box_outputs)
    assert_same_bits(fused, one_after_the_other(config, class_outputs, box_outputs, None, "best-class"))
    assert np.all(np.diff(fused.indices.numpy()) > 0) and np.all(fused.scores.numpy() == 1)


def test_of_equal_logits_the_lower_class_is_taken_and_nan_is_passed_over():
    config = make_config(score_thresh=0.4, max_output_size=2)
    class_outputs, box_outputs = make_heads(0, LEVELS_64X96, 1, objects=0)
    class_outputs[0][0, 0, 0, [7, 12]] = 2.0
    class_outputs[0][0, 3, 3, 0] = np.nan
    class_outputs[4][0, 0, 0, :90] = np.nan
    for dtype in TYPES:
        heads = [[tf.cast(output, dtype) for output in outputs] for outputs in (class_outputs, box_outputs)]
        found = ipu_nms.detect(config, *heads)
        np.testing.assert_array_equal(found.classes, [[8, 0]])
        np.testing.assert_array_equal(found.indices, [[0, -1]])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["hard", "gaussian"])
@pytest.mark.parametrize("image_size, levels", [((64, 96), LEVELS_64X96), ((128, 128), LEVELS_128)])
def test_detections_are_those_of_tensorflow(mode, method, image_size, levels):
    config = make_config(image_size, method=method, score_thresh=0.4)
    heads = make_heads(5, levels, 2, objects=[60, 1])
    scales = np.array([1.5, 0.5], np.float32)
    found = ipu_nms.postprocess_onchip_nms_outputs(config, ipu_nms.detect(config, *heads, scales, mode))
    function = {
        "best-class": postprocess.postprocess_best_class,
        "class-agnostic": postprocess.postprocess_class_agnostic,
        "multi-class": postprocess.postprocess_multi_class,
    }[mode]
    boxes, scores, classes, lengths = arrays(function(config.as_dict(), *heads, scales))
    np.testing.assert_array_equal(found[3], lengths)
    np.testing.assert_array_equal(found[2], classes)
    np.testing.assert_allclose(found[1], scores, atol=1e-6)  # Another exp.
    np.testing.assert_allclose(found[0], boxes, atol=1e-3)  # Pixels: some units in the last place.
    assert lengths[0] > 20


def test_detections_are_those_of_the_published_code():
    golden, seen = np.load(GOLDEN), 0
    for number in range(sum(name.startswith("case_") for name in golden)):
        case = json.loads(str(golden[f"case_{number}"]))
        if case["mode"] != "global":
            continue
        config = make_config(case["image_size"], **case["nms_configs"])
        heads = reference_formulas.head_outputs(case["levels"], 90, case["seed"], case["batch"], case["hot"])
        outputs = ipu_nms.detect(config, *heads, case["image_scales"], "class-agnostic")
        boxes, scores, classes, lengths = ipu_nms.postprocess_onchip_nms_outputs(config, outputs)
        np.testing.assert_array_equal(lengths, golden[f"valid_{number}"])
        for image, length in enumerate(lengths):
            np.testing.assert_allclose(boxes[image, :length], golden[f"boxes_{number}"][image, :length], atol=1e-3)
            np.testing.assert_allclose(scores[image, :length], golden[f"scores_{number}"][image, :length], atol=1e-6)
            np.testing.assert_array_equal(classes[image, :length], golden[f"classes_{number}"][image, :length])
            seen += length
    assert seen > 200


@pytest.mark.parametrize("mode", MODES)
def test_an_image_gives_the_same_detections_alone_and_in_any_batch(mode):
    # Large enough for an image alone to be cut into parts, one a thread.
    levels, config = ((48, 48), (24, 24), (12, 12), (6, 6), (3, 3)), make_config(384, num_classes=20, score_thresh=0.4)
    class_outputs, box_outputs = make_heads(9, levels, 4, 20, objects=[0, 1, 50, 400])
    scales = np.array([1, 2, 0.5, 3], np.float32)
    together = ipu_nms.detect(config, class_outputs, box_outputs, scales, mode)
    lengths = ipu_nms.postprocess_onchip_nms_outputs(config, together)[3]
    assert lengths[0] == 0 and lengths[1] == 1 and lengths[3] == 100
    detector = make_detector(config, levels, mode, threads=3)
    for image in range(4):
        part = slice(image, image + 1)
        heads = [[output[part] for output in outputs] for outputs in (class_outputs, box_outputs)]
        alone = ipu_nms.detect(config, *heads, scales[part], mode)
        assert_same_bits(alone, [output[part] for output in together])
        assert_same_bits(alone, as_operator(detector.run(*heads, scales[part])))


def test_a_graph_of_unknown_batch_knows_the_other_dimensions():
    config = make_config(max_output_size=7)
    heads = make_heads(2, LEVELS_64X96, 3)
    specs = [[tf.TensorSpec([None, *output.shape[1:]], tf.float32) for output in outputs] for outputs in heads]

    @tf.function(input_signature=[*specs, tf.TensorSpec([None], tf.float32)])
    def detect(class_outputs, box_outputs, scales):
        return ipu_nms.detect(config, class_outputs, box_outputs, scales)

    outputs = detect.get_concrete_function().outputs
    assert [output.shape.as_list() for output in outputs] == [[None, 7, 4], [None, 7], [None, 7], [None, 7]]
    assert [output.dtype for output in outputs] == [tf.float32, tf.float32, tf.int32, tf.int32]
    assert_same_bits(detect(*heads, np.ones(3, np.float32)), ipu_nms.detect(config, *heads))


@pytest.mark.parametrize("dtype", TYPES)
def test_types_of_postprocessing_follow_the_heads_and_those_of_detect_are_float32(dtype):
    config = make_config()
    heads = [[tf.cast(output, dtype) for output in outputs] for outputs in make_heads(1, LEVELS_64X96, 1)]
    fused = ipu_nms.detect(config, *heads)
    boxes, scores, classes, indices = ipu_nms.ipu_postprocessing(config, heads)
    assert [x.dtype for x in (boxes, scores, classes, indices)] == [dtype, dtype, tf.int32, tf.int32]
    assert fused.boxes.dtype == fused.scores.dtype == tf.float32
    assert_same_bits(
        [boxes, scores, indices], [tf.cast(fused.boxes, dtype), tf.cast(fused.scores, dtype), fused.indices]
    )


def test_the_published_way_to_ask_for_every_class_works():
    config, heads = make_config(score_thresh=0.01), make_heads(4, LEVELS_64X96, 1)
    every = ipu_nms.ipu_postprocessing(config, heads, multi_nms=True)
    assert_same_bits(every, ipu_nms.detect(config, *heads, mode="multi-class"))


def test_channels_first_outputs_give_the_same_detections():
    config, heads = make_config(), make_heads(3, LEVELS_64X96, 2)
    first = make_config()
    first.override({"data_format": "channels_first"})
    turned = [[np.transpose(output, (0, 3, 1, 2)) for output in outputs] for outputs in heads]
    assert_same_bits(ipu_nms.detect(config, *heads), ipu_nms.detect(first, *turned))


def test_outputs_that_do_not_belong_to_the_configuration_are_refused():
    class_outputs, box_outputs = make_heads(0, LEVELS_64X96, 2)
    with pytest.raises(UserError, match="levels 3 to 7 need 5"):
        ipu_nms.detect(make_config(), class_outputs[:4], box_outputs[:4])
    with pytest.raises(UserError, match="the head outputs are float16, float32"):
        ipu_nms.detect(make_config(), class_outputs, [tf.cast(output, tf.float16) for output in box_outputs])
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match="1161 anchors, so anchors must be"):
        ipu_nms.detect(make_config(128), class_outputs, box_outputs)
    with pytest.raises(
        (tf.errors.InvalidArgumentError, ValueError), match="image_scales must hold one number an image"
    ):
        ipu_nms.detect(make_config(), class_outputs, box_outputs, np.ones(3, np.float32))
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match="same number of images"):
        ipu_nms.detect(make_config(), class_outputs, [output[:1] for output in box_outputs])


def test_maxima_that_the_network_computed_give_the_same_detections():
    config = make_config(score_thresh=0.4)
    class_outputs, box_outputs = make_heads(6, LEVELS_64X96, 3, objects=[30, 0, 80])
    by_class = [output.reshape(*output.shape[:3], 9, 90) for output in class_outputs]
    maxima, ids = [x.max(-1) for x in by_class], [x.argmax(-1).astype(np.int32) for x in by_class]
    for mode in ("best-class", "class-agnostic"):
        detector = make_detector(config, LEVELS_64X96, mode)
        assert_same_bits(detector.run(class_outputs, box_outputs), detector.run(maxima, box_outputs, class_ids=ids))
    with pytest.raises(UserError, match="multi-class"):
        make_detector(config, LEVELS_64X96, "multi-class").run(maxima, box_outputs, class_ids=ids)


def test_the_detector_checks_before_it_hands_out_addresses():
    config = make_config()
    class_outputs, box_outputs = make_heads(0, LEVELS_64X96, 2)
    detector = make_detector(config, LEVELS_64X96)
    for change, message in [
        ((class_outputs[:4], box_outputs), "class_outputs has 4 levels, expected 5"),
        ((class_outputs, [output[:1] for output in box_outputs]), "an array of box_outputs is float32"),
        ((class_outputs, [output.astype(np.float16) for output in box_outputs]), "expected float32"),
        (([output.astype(np.float64) for output in class_outputs], box_outputs), "the head outputs are float64"),
        ((class_outputs, box_outputs, np.ones(3, np.float32)), r"scales must be \[2\]"),
    ]:
        with pytest.raises(UserError, match=message):
            detector.run(*change)
    with pytest.raises(UserError, match="the levels have 9 anchors"):
        Detector(np.zeros((3, 4)), [9], 90, (64, 64))
    with pytest.raises(UserError, match="sigma must be 0"):
        Detector(np.zeros((9, 4)), [9], 90, (64, 64), sigma=-1.0)
    with pytest.raises(UserError, match="NMS mode 'best'"):
        Detector(np.zeros((9, 4)), [9], 90, (64, 64), mode="best")


def at_an_odd_address(array, shift=1):
    """A copy of an array that lies `shift` bytes beyond an aligned address."""
    array = np.ascontiguousarray(array)
    memory = np.zeros(array.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + shift
    found = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_arrays_at_odd_addresses_give_the_same(dtype):
    config = make_config(score_thresh=0.3)
    heads = [[output.astype(dtype) for output in outputs] for outputs in make_heads(8, LEVELS_64X96, 2, objects=60)]
    scales = np.array([1.5, 0.5], np.float32)
    detector = make_detector(config, LEVELS_64X96)
    moved = [[at_an_odd_address(output) for output in outputs] for outputs in heads]
    assert not moved[0][0].flags.aligned
    assert_same_bits(detector.run(*moved, at_an_odd_address(scales)), detector.run(*heads, scales))
    maxima = [output.reshape(*output.shape[:3], 9, 90).max(-1) for output in heads[0]]
    ids = [output.reshape(*output.shape[:3], 9, 90).argmax(-1).astype(np.int32) for output in heads[0]]
    assert_same_bits(
        detector.run(maxima, moved[1], class_ids=[at_an_odd_address(one) for one in ids]),
        detector.run(maxima, heads[1], class_ids=ids),
    )


@pytest.mark.skipif(not hasattr(np.ndarray, "__dlpack__"), reason="this NumPy cannot lend its memory")
@pytest.mark.parametrize("shift", [1, 2, 4])
def test_tensors_at_odd_addresses_give_the_same(shift):
    def tensor(array):
        return tf.experimental.dlpack.from_dlpack(at_an_odd_address(array, shift).__dlpack__())

    config = make_config(score_thresh=0.3)
    class_outputs, box_outputs = make_heads(8, LEVELS_64X96, 2, objects=60)
    scales = np.array([1.5, 0.5], np.float32)
    moved = [[tensor(output) for output in outputs] for outputs in (class_outputs, box_outputs)]
    assert_same_bits(
        ipu_nms.detect(config, *moved, tensor(scales)), ipu_nms.detect(config, class_outputs, box_outputs, scales)
    )
    scores, boxes, classes = ipu_nms.decode(config, class_outputs, box_outputs, "best-class")
    assert_same_bits(ipu_nms.decode(config, *moved, "best-class"), (scores, boxes, classes))
    arguments = [part.numpy() for part in (scores, boxes, classes)]
    assert_same_bits(
        ipu_nms.ipu_nms(config.as_dict(), *map(tensor, arguments), device="host"),
        ipu_nms.ipu_nms(config.as_dict(), *arguments, device="host"),
    )


@pytest.mark.parametrize("wrong", [2**31 - 1, 2**31 - 2, 90, -1, -(2**31)])
def test_a_class_that_does_not_exist_is_refused(wrong):
    class_outputs, box_outputs = make_heads(8, LEVELS_64X96, 1, objects=5)
    maxima = [output.reshape(*output.shape[:3], 9, 90).max(-1) for output in class_outputs]
    ids = [np.zeros(output.shape, np.int32) for output in maxima]
    detector = make_detector(make_config(), LEVELS_64X96)
    ids[2][0, 1, 1, 4] = wrong
    with pytest.raises(UserError, match="class_ids has a class that is not 0 to 89"):
        detector.run(maxima, box_outputs, class_ids=ids)
    ids[2][0, 1, 1, 4] = 89
    detector.run(maxima, box_outputs, class_ids=ids)


@pytest.mark.parametrize("name", ["num_classes", "max_detections", "threads"])
@pytest.mark.parametrize("value", [0, -1, 2**31, 2**32 + 1])
def test_numbers_that_an_integer_of_32_bits_does_not_hold_are_refused(name, value):
    arguments = {"num_classes": 3, "max_detections": 10, "threads": 1, name: value}
    with pytest.raises(UserError, match=rf"{name} is -?\d+: expected 1 to 2147483647"):
        Detector(np.zeros((9, 4)), [9], image_size=(64, 64), **arguments)


def test_one_detector_serves_several_threads():
    config = make_config(score_thresh=0.3)
    detector = make_detector(config, LEVELS_64X96, threads=2)
    heads = [make_heads(seed, LEVELS_64X96, 2, objects=50) for seed in range(3)]
    expected = [detector.run(*head) for head in heads]
    wrong = []

    def work(number):
        for _ in range(30):
            found = detector.run(*heads[number])
            if any(a.tobytes() != b.tobytes() for a, b in zip(found, expected[number])):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_detecting_without_tensorflow_loads_none_of_it():
    code = (
        "import sys, numpy as np; from ipu_utils.nms.libdetect import Detector;"
        "detector = Detector(np.array([[0, 0, 8, 8]] * 2), [2], 3, (8, 8));"
        "found = detector.run([np.ones((1, 2, 3), 'f')], [np.zeros((1, 2, 4), 'f')]);"
        "print(found.lengths[0], sorted(name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'keras')))"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, cwd=str(libraries.ROOT), stdout=subprocess.PIPE, check=True, text=True)
    assert output.stdout.split(maxsplit=1) == ["1", "[]\n"]
