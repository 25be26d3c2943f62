# SPDX-License-Identifier: Apache-2.0
"""The step as the IPU's compiler would get it: through TensorFlow's own lowering to HLO, which stock TensorFlow has.

TensorFlow 2.6 lowers as the IPU's release does, apart from the custom operation, whose outputs are made up here.
"""

import re

import numpy as np
import pytest
import reference_formulas

import hparams_config
from ipu_utils.backends.ipu_step import Step
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import load_config
from ipu_utils.graph.freeze import as_function, freeze
from ipu_utils.graph.repeat_nearest import repeat_nearest
from ipu_utils.model.network import build_network

pytest_plugins = ("ipu_fixtures",)

# What an IPU computes with, and uint8, which only travels.
TYPES = {"f16", "f32", "s32", "u8", "pred"}
BYTES_OPERATIONS = {"parameter", "convert", "reshape", "copy", "tuple", "get-tuple-element"}


def hlo_of(frozen, inline, signature):
    """HLO text of one step, lowered for a device but not compiled for it."""
    function = tf.function(lambda *arguments: inline(frozen, arguments), jit_compile=True)
    return function.experimental_get_compiler_ir(*[tf.zeros(s.shape, s.dtype) for s in signature])(stage="hlo")


def made_up(inputs, library, attributes, outputs, codelets=None, name=None):
    """Stands for the custom operation: outputs of its types and shapes that depend on all inputs."""
    total = tf.add_n([tf.reduce_sum(tf.cast(tensor, tf.float32)) for tensor in inputs])
    return [tf.cast(tf.fill(shape, total), dtype) for dtype, shape in outputs]


@pytest.fixture
def libraries(monkeypatch, tmp_path):
    """Files in the place of the operator's libraries, so that they are found."""
    import ipu_nms

    for name in ("nms_custom_op.so", "codelet.gp"):
        (tmp_path / name).write_text("not loaded", encoding="utf-8")
    monkeypatch.setattr(ipu_nms, "IPU_LIBRARIES", {False: tmp_path, True: tmp_path})


SHALLOW = "fpn_cell_repeats=1,box_class_repeats=1"  # every kind of layer, fewer of each


@pytest.mark.parametrize(
    "precision, io_type, hparams, arguments",
    [
        ("float16", "uint8", SHALLOW, ["--nms-mode", "best-class"]),
        pytest.param("float16", "uint8", "", ["--nms-mode", "class-agnostic"], marks=pytest.mark.slow),
        pytest.param("float32", "float16", "", ["--nms-mode", "multi-class"], marks=pytest.mark.slow),
        pytest.param("float32", "float32", "", ["--onchip-nms", "false"], marks=pytest.mark.slow),
    ],
)
def test_the_whole_step_lowers_to_what_an_ipu_computes(
    open_ipu, libraries, monkeypatch, precision, io_type, hparams, arguments
):
    device = open_ipu()
    from ipu_utils.backends import ipu

    monkeypatch.setattr(ipu, "custom_op", made_up)
    config = load_config(["--device", "ipu", *arguments], choose_device=lambda requested: requested)
    hparams = hparams_config.get_inference_config("efficientdet-d0", hparams, (64, 64))
    network = build_network(hparams, device.dtype_policy(precision), device.swish)
    step = Step(network, hparams, config.nms, precision)
    signature = (
        tf.TensorSpec([2, 64, 64, 3], io_type),
        tf.TensorSpec([2], tf.float32),
        tf.TensorSpec([2], tf.int32),
    )
    text = hlo_of(device._freeze(step, signature), ipu._inline, signature)
    instructions = re.findall(r"= \(?(\w+)\[[\d,]*\]\S* ([\w-]+)\(", text)
    assert {dtype for dtype, _ in instructions} <= TYPES
    assert len([name for _, name in instructions if name == "convolution"]) > 100
    # Arithmetic on bytes would show as an instruction whose result is bytes.
    assert {name for dtype, name in instructions if dtype == "u8"} <= BYTES_OPERATIONS
    if precision == "float16":
        assert not [1 for dtype, name in instructions if name == "convolution" and dtype == "f32"]


def test_placeholders_do_not_come_along(open_ipu):
    device = open_ipu()
    from ipu_utils.backends.ipu import _inline

    signature = (tf.TensorSpec([2], tf.float32),)
    frozen = device._freeze(lambda x: (x + 1.0,), signature)
    assert "Placeholder" in {node.op for node in frozen.graph_def.node}
    assert "add(" in hlo_of(frozen, _inline, signature)  # XLA refuses a graph with placeholders in it


def test_maps_are_enlarged_by_repeating_where_the_factor_is_whole():
    features = reference_formulas.network_input(3, 5)
    sizes = [(6, 10), (3, 20), (9, 5), (7, 10), (4, 5)]

    def step(image):
        resized = [tf.raw_ops.ResizeNearestNeighbor(images=image, size=size) for size in sizes]
        return (*resized, tf.image.resize(image, (6, 10), "nearest"))

    frozen = freeze(step, (tf.TensorSpec(features.shape, tf.float32),))
    repeated = repeat_nearest(frozen)
    resizes = [node for node in repeated.graph_def.node if node.op == "ResizeNearestNeighbor"]
    assert len(resizes) == 2  # to (7, 10) and (4, 5)
    for before, after in zip(as_function(frozen)(tf.constant(features)), as_function(repeated)(tf.constant(features))):
        np.testing.assert_array_equal(before, after)
