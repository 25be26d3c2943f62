# SPDX-License-Identifier: Apache-2.0
"""What `ipu_nms` hands to the operator on the IPU, told apart from what the operator does with it."""

import json
import sys
import types

import numpy as np
import pytest

import hparams_config
import ipu_nms
from ipu_utils.base.keras2 import tf

UNUSED_CLASS = np.iinfo(np.int32).max


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Calls of the device's custom_op; it answers with zeros, and unused rows from the second on."""
    recorded = []

    def custom_op(inputs, library, attributes, outputs, codelets=None, name="CustomOp"):
        recorded.append(types.SimpleNamespace(**locals()))
        results = [tf.zeros(shape, dtype) for dtype, shape in outputs]
        results[0] -= tf.one_hot(tf.ones_like(results[0][:, 0]), results[0].shape[1], dtype=tf.int32)
        if len(results) == 5:
            results[3] += UNUSED_CLASS * tf.cast(results[0] < 0, tf.int32)
        return results

    for multi in (False, True):
        folder = tmp_path / ("tf_multi" if multi else "tf")
        folder.mkdir()
        for name in ("nms_custom_op.so", "codelet.gp"):
            (folder / name).write_text(f"{folder} {name}")
        monkeypatch.setitem(ipu_nms.IPU_LIBRARIES, multi, folder)
    module = types.ModuleType("ipu_utils.backends.ipu")
    module.custom_op = custom_op
    monkeypatch.setitem(sys.modules, "ipu_utils.backends.ipu", module)
    return recorded


def run(mode="best-class", dtype=tf.float16, classes=True, **options):
    shape = [2, 5, 3] if mode == "multi-class" else [2, 5]
    given = tf.zeros([2, 5], tf.int32) if classes and mode != "multi-class" else None
    arguments = {"threshold": 0.25, "score_threshold": 0.5, "num_detections": 4, **options}
    return ipu_nms.nms_op(
        scores=tf.zeros(shape, dtype),
        boxes=tf.zeros([2, 5, 4], dtype),
        classes=given,
        mode=mode,
        device="ipu",
        **arguments,
    )


@pytest.mark.parametrize("mode, folder", [("best-class", "tf"), ("class-agnostic", "tf"), ("multi-class", "tf_multi")])
def test_every_mode_has_its_library_and_attributes(calls, mode, folder):
    run(mode, sigma=0.75)
    (call,) = calls
    assert call.library.parent.name == folder and call.codelets.parent.name == folder
    attributes = json.loads(call.attributes)
    assert len(attributes.pop("buildId")) == 64
    assert attributes == {
        "threshold": 0.25,
        "scoreThreshold": 0.5,
        "sigma": 0.75,
        "numDetections": 4,
        "classAgnostic": mode == "class-agnostic",
    }
    assert len(call.inputs) == (2 if mode == "multi-class" else 3)


@pytest.mark.parametrize("dtype", [tf.float16, tf.float32])
def test_declared_types_are_those_of_the_inputs(calls, dtype):
    run(dtype=dtype)
    expected = [(tf.int32, [2, 4]), (dtype, [2, 4]), (dtype, [2, 4, 4]), (tf.int32, [2, 4]), (tf.int32, [2])]
    assert calls[0].outputs == expected


def test_without_classes_the_operator_returns_none_and_the_caller_zeros(calls):
    outputs = run(classes=False)
    assert len(calls[0].outputs) == 4 and len(calls[0].inputs) == 2
    assert outputs.classes.numpy().tolist() == [[0, UNUSED_CLASS, 0, 0]] * 2


def test_a_rebuilt_library_is_another_graph(calls):
    run()
    run()
    path = ipu_nms.IPU_LIBRARIES[False] / "codelet.gp"
    path.write_text("another program")
    run()
    first, again, rebuilt = (json.loads(call.attributes)["buildId"] for call in calls)
    assert first == again != rebuilt


def test_a_threshold_below_every_score_is_a_number_in_json(calls):
    run(score_threshold=float("-inf"))
    assert json.loads(calls[0].attributes)["scoreThreshold"] == float(np.finfo(np.float32).min)


def test_unused_rows_have_class_zero_and_do_not_wrap(calls):
    config = hparams_config.get_inference_config("efficientdet-d0", {"nms_configs": {"max_output_size": 4}})
    found = ipu_nms.ipu_nms(
        config.as_dict(), tf.zeros([2, 5]), tf.zeros([2, 5, 4]), tf.zeros([2, 5], tf.int32), device="ipu"
    )
    assert found.classes.numpy().tolist() == [[1, 0, 1, 1]] * 2


@pytest.mark.parametrize("mode", ["best-class", "class-agnostic", "multi-class"])
def test_scales_belong_to_the_batch_and_boxes_are_scaled_in_float32(calls, mode):
    config = hparams_config.get_inference_config("efficientdet-d0", {"image_size": 64, "num_classes": 3})

    @tf.function
    def step(scales):
        cells = [8, 4, 2, 1, 1]
        heads = [[tf.zeros([2, c, c, 9 * width], tf.float16) for c in cells] for width in (3, 4)]
        return ipu_nms.ipu_postprocessing(config, heads, scales, mode=mode, device="ipu")

    found = step(tf.constant([1.0, 2.0]))
    assert [x.dtype for x in found] == [tf.float32, tf.float16, tf.int32, tf.int32]
    assert found.boxes.shape == [2, 100, 4]
    # The scales are an input of the graph, not a constant in it.
    assert [x.shape.as_list() for x in step.get_concrete_function(tf.constant([1.0, 2.0])).inputs] == [[2]]


def test_a_missing_library_for_the_ipu_says_how_to_build_it(calls):
    path = ipu_nms.IPU_LIBRARIES[False] / "codelet.gp"
    path.unlink()
    with pytest.raises(ipu_nms.CustomOpsNotFoundException, match=r'codelet\.gp is missing\. Run "make" in'):
        run()
    (ipu_nms.IPU_LIBRARIES[True] / "nms_custom_op.so").unlink()
    assert not ipu_nms.available("ipu")


def test_inside_the_scope_of_an_ipu_strategy_the_ipu_is_meant(calls):
    class Strategy(tf.distribute.OneDeviceStrategy):
        """Stands for the SDK's, which is known by its module."""

    Strategy.__module__ = "tensorflow.python.ipu.ipu_strategy"
    arguments = 0.5, 0.1, 4, tf.zeros([2, 5]), tf.zeros([2, 5, 4]), tf.zeros([2, 5], tf.int32)
    with Strategy("/cpu:0").scope():
        ipu_nms.nms_op(*arguments)
        tf.function(ipu_nms.nms_op).get_concrete_function(*arguments)
    assert len(calls) == 2
