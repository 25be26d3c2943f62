# SPDX-License-Identifier: Apache-2.0
"""Files for other programs: each is run in the runtime that it is for and gives our outputs, and what is refused."""

import dataclasses
import functools
import importlib.util
import json
import sys

import numpy as np
import pytest

from ipu_utils import export
from ipu_utils.base.console import run_script
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.executable import cache
from ipu_utils.executable.ports import described
from ipu_utils.executable.write_formats import write_format
from ipu_utils.graph.freeze import FrozenStep, as_function
from ipu_utils.model import random_weights
from ipu_utils.model.host import Host
from ipu_utils.model.network import build_network, heads_of

SMALL = ["--model-name", "lite0", "--image-size", "128x96", "--random-weights", "--micro-batch-size", "2"]
SMALL += ["--hparams", "fpn_cell_repeats=1,box_class_repeats=1"]


def needs(*packages):
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"{' and '.join(absent)} is not installed")


class Network:
    """A small network of random weights, and what it makes of a batch of images."""

    def __init__(self):
        config = load_config(SMALL, "embedded", lambda asked: "cpu")
        hparams = hparams_of(config.model, config.data.image_size)
        keras = build_network(hparams, activation=Host("cpu", 2).swish)
        random_weights.randomise(keras, hparams, hparams.image_size, 0, 100)
        self.heads = functools.partial(heads_of, keras, hparams, "float32")
        self.header = cache.plan(config, "float32", "float32", "some format", ())
        self.images = np.random.RandomState(0).randint(0, 256, (2, 96, 128, 3), np.uint8)
        outputs = [output.numpy() for level in self.heads(tf.constant(self.images)) for output in level]
        names = [port.names[0] for port in described(self.header)[1]]
        self.expected = dict(zip(names, outputs))


@pytest.fixture(scope="module")
def network():
    return Network()


def in_litert(path, images):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path)).get_signature_runner()(images=images)


def in_onnxruntime(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, {"images": images})))


def in_openvino(path, images):
    from ipu_utils.base.openvino_api import core_of, import_openvino

    core = core_of(import_openvino())
    compiled = core.compile_model(core.read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({"images": images})
    return {name: found[name] for output in compiled.outputs for name in output.names}


def in_tensorflow(path, images):
    graph_def = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    names = [node.name for node in graph_def.node if node.name.startswith(("class_", "box_")) and "/" not in node.name]
    function = as_function(FrozenStep(graph_def, ("images:0",), tuple(f"{name}:0" for name in names)))
    return dict(zip(names, (output.numpy() for output in function(tf.constant(images)))))


def from_a_saved_model(path, images):
    found = tf.saved_model.load(str(path)).signatures["serving_default"](images=tf.constant(images))
    return {name: output.numpy() for name, output in found.items()}


RUN = {
    ".tflite": in_litert,
    ".onnx": in_onnxruntime,
    ".xml": in_openvino,
    ".pb": in_tensorflow,
    "": from_a_saved_model,
}
NEEDED = {".tflite": ["ai_edge_litert"], ".onnx": ["onnxruntime", "onnx", "tf2onnx"], ".xml": ["openvino"]}
each_format = pytest.mark.parametrize(
    "suffix", [pytest.param(suffix, marks=needs(*NEEDED.get(suffix, [])), id=suffix or "folder") for suffix in RUN]
)


def assert_same(found, expected, error):
    assert {*found} == {*expected}
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape and found[name].dtype == np.float32
        assert np.abs(found[name] - wanted).max() < error * np.std(wanted), name


@pytest.mark.slow
@each_format
def test_each_format_computes_our_outputs_in_its_own_runtime(network, suffix, tmp_path):
    *_, path = write_format(suffix, network.heads, network.header, str(tmp_path))
    assert_same(RUN[suffix](path, network.images), network.expected, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "suffix, weights",
    [
        pytest.param(".tflite", ".tflite", marks=needs("ai_edge_litert")),
        pytest.param(".xml", ".bin", marks=needs("openvino")),
    ],
)
def test_weights_in_half_take_half_the_space_and_change_little(network, suffix, weights, tmp_path):
    sizes, found = [], {}
    for precision in ("float32", "float16"):
        folder = tmp_path / precision
        folder.mkdir()
        header = dataclasses.replace(network.header, precision=precision)
        *_, path = write_format(suffix, network.heads, header, str(folder))
        sizes.append(path.with_suffix(weights).stat().st_size)
        found = RUN[suffix](path, network.images)
    assert 0.4 < sizes[1] / sizes[0] < 0.6
    assert_same(found, network.expected, 0.2)
    assert any((found[name] != network.expected[name]).any() for name in found)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("exported.tflite", marks=needs("ai_edge_litert")),
        pytest.param("exported.xml", marks=needs("openvino")),
        "exported/",
    ],
)
@pytest.mark.slow
def test_the_command_writes_the_file_and_what_belongs_to_it(tmp_path, name, capsys):
    place = tmp_path / "new" / name.rstrip("/")
    assert run_script(lambda: export.main([*SMALL, "--to", f"{tmp_path}/new/{name}"])) == 0
    written = {path.name for path in place.parent.iterdir()}
    assert written == {place.name, f"{place.name}.json", *(["exported.bin"] if name.endswith(".xml") else [])}
    assert f"{place}.json" in capsys.readouterr().out
    said = json.loads(place.with_name(f"{place.name}.json").read_text())
    assert said["input"] == {
        **{"name": "images", "shape": [2, 96, 128, 3], "type": "uint8"},
        **{"layout": "NHWC", "channels": "RGB", "padding_rgb": [127.0] * 3},
    }
    assert said["normalisation"] == {"in_network": True, "mean_rgb": [127.0] * 3, "stddev_rgb": [128.0] * 3}
    assert said["anchors"]["num_scales"] == 3 and said["num_classes"] == 90 and said["labels"]["1"] == "person"
    assert said["nms"]["score_thresh"] == 0.4 and said["nms"]["mode"] == "best-class"
    assert said["precision"] == "float32" and said["weights"]["random"]
    assert said["weights"]["origin"].startswith("random, seed 0")
    outputs = RUN[place.suffix](place, np.zeros((2, 96, 128, 3), np.uint8))
    shapes = {output: list(value.shape) for output, value in outputs.items()}
    assert {port["name"]: port["shape"] for port in said["outputs"]} == shapes


def refused(*arguments):
    """The message of a command that ends before a network is built."""
    with pytest.raises(export.UserError) as caught:
        export.main([*map(str, arguments)])
    return str(caught.value)


def test_an_error_names_the_help_of_what_was_typed(capsys):
    for wrong in (["--model-name", "d99"], ["--no-such"], ["--image-size", "1"]):
        with pytest.raises(SystemExit):
            export.main([*wrong, "--to", "x.onnx"])
        assert capsys.readouterr().err.endswith("For the options: python -m ipu_utils.export --help\n")


def test_an_address_is_no_file_to_write(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        export.main([*SMALL, "--to", "s3://bucket/x.onnx"])
    assert "--to s3://bucket/x.onnx is an address" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["network.h5", "network.onnx.gz", "", "."])
def test_an_unknown_ending_is_refused_and_the_known_ones_are_named(name):
    assert "one of .tflite, .onnx, .xml, .pb, or a folder" in refused(*SMALL, "--to", name)


@pytest.mark.parametrize(
    "name, word, known",
    [
        ("x.onnx", "half", "float"),
        ("x.tflite", "bfloat16", "float or half or int8"),
        ("x.onnx", "int8", "float"),
        ("x/", "half", "float"),
    ],
)
def test_a_precision_that_the_format_does_not_hold_is_refused(tmp_path, name, word, known):
    said = refused(*SMALL, "--model-precision", word, "--to", f"{tmp_path}/{name}")
    assert said.endswith(f"is written in {known}, not in {word}.") and not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param("x.tflite", marks=needs("ai_edge_litert")), pytest.param("x.xml", marks=needs("nncf"))]
)
def test_int8_stands_for_about_the_floats_and_says_what_it_was_calibrated_on(network, name, tmp_path):
    arguments = [
        "--model-precision",
        "int8",
        "--calibration-images",
        "8",
        "--random-candidates",
        "100",
        "--to",
        str(tmp_path / name),
    ]
    assert run_script(lambda: export.main([*SMALL, *arguments])) == 0
    told = json.loads((tmp_path / f"{name}.json").read_text())
    assert told["calibration"]["images"] == "8 generated images, half of them noise"
    found = RUN[(tmp_path / name).suffix](tmp_path / name, network.images)
    for output in told["outputs"]:
        stored, wanted = found[output["name"]], network.expected[output["name"]]
        assert (stored.dtype.name, list(stored.shape)) == (output["type"], output["shape"])
        if output["type"] == "int8":  # the best line through the points is what they stand for
            slope, start = np.polyfit(stored.ravel(), wanted.ravel(), 1)
            stored = slope * stored + start
        assert np.sqrt(np.mean((stored - wanted) ** 2)) < 0.3 * wanted.std()


def test_without_a_checkpoint_random_weights_are_not_written_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused("--model-name", "d0", "--to", "x.pb")
    assert "--to x.pb asks for trained weights" in said and "add --random-weights" in said
    assert not any(tmp_path.iterdir())


def test_a_folder_that_holds_something_stays_as_it_is(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    assert "is there already" in refused(*SMALL, "--to", tmp_path / "there")
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "file"]


@pytest.mark.parametrize(
    "name, meets", [("x.pb", "x.pb"), ("y.pb", "y.pb.json"), pytest.param("z.xml", "z.bin", marks=needs("openvino"))]
)
def test_what_is_read_is_not_overwritten(tmp_path, name, meets):
    hparams = tmp_path / "hparams.yml"
    hparams.write_text("num_classes: 5\n")
    (tmp_path / meets).symlink_to(hparams)
    assert "would overwrite --hparams" in refused(*SMALL[:-1], hparams, "--to", tmp_path / name)
    assert hparams.read_text() == "num_classes: 5\n"


def test_without_the_package_that_makes_a_format_what_to_install_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    assert "pip install" in refused(*SMALL, "--to", tmp_path / "x.onnx")
    assert not any(tmp_path.iterdir())
