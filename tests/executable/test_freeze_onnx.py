# SPDX-License-Identifier: Apache-2.0
"""The ONNX file of a network: valid to ONNX's own checker, with our names, and what TensorFlow computes."""

import functools

import numpy as np
import pytest

from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.executable import cache
from ipu_utils.executable.freeze_onnx import freeze_network
from ipu_utils.executable.ports import described
from ipu_utils.model.host import Host
from ipu_utils.model.network import build_network, heads_of

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")

CUT = "fpn_cell_repeats=1,box_class_repeats=1"


def converted(folder, model, size, hparams=""):
    """(heads, header, path): a network of untrained weights, and its ONNX file."""
    arguments = ["--device", "cpu", "--random-weights", "--model-name", model, "--hparams", hparams]
    config = load_config([*arguments, *(["--image-size", size] if size else [])], "embedded", lambda asked: "cpu")
    found = hparams_of(config.model, config.data.image_size)
    network = build_network(found, activation=Host("cpu", 2).swish)
    heads = functools.partial(heads_of, network, found, "float32")
    header = cache.plan(config, "float32", "float32", "ONNX Runtime 0", ("any",))
    return heads, header, freeze_network(heads, header, str(folder)).path


def shape_of(value):
    return tuple(side.dim_value for side in value.type.tensor_type.shape.dim)


def check(path, header):
    """Fail unless a file is valid, all of its shapes are known, and its ends are those of the header."""
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    # Only what goes in and out is known at first, else shapes that are wrong in the file would be taken for true.
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    known = {value.name for value in (*inferred.graph.value_info, *inferred.graph.output) if shape_of(value)}
    assert {name for node in inferred.graph.node for name in node.output if name} <= known
    image, outputs = described(header)
    types = {"uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT}
    for values, ports in ((model.graph.input, [image]), (model.graph.output, outputs)):
        found = [(value.name, shape_of(value), value.type.tensor_type.elem_type) for value in values]
        assert found == [(port.names[0], port.shape, types[port.type_name]) for port in ports]


def check_outputs(path, heads, header):
    onnxruntime = pytest.importorskip("onnxruntime")
    images = np.random.RandomState(0).randint(0, 256, (header.batch_size, *header.image_size, 3), np.uint8)
    outputs = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"images": images})
    expected = [output.numpy() for level in heads(tf.constant(images)) for output in level]
    for ours, wanted in zip(outputs, expected):
        assert np.abs(ours - wanted).max() < 1e-3 * max(np.std(wanted), 1e-3)


@pytest.mark.slow
def test_a_small_network_is_valid_and_computes_the_same(tmp_path):
    # Rows of the levels: 10, 5, 3, 2, 1. From 3 to 5 tf2onnx writes a factor that gives 4.
    heads, header, path = converted(tmp_path, "efficientdet-lite0", "96x80", CUT)
    check(path, header)
    check_outputs(path, heads, header)
    operations = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert {"Gather", "Resize"} <= operations


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, size",
    [("d0", ""), ("d3", ""), ("lite0", ""), ("lite3", ""), ("d0", "200x328")],
)
def test_networks_of_all_kinds_are_valid_and_compute_the_same(tmp_path, model, size):
    heads, header, path = converted(tmp_path, f"efficientdet-{model}", size)
    check(path, header)
    check_outputs(path, heads, header)
