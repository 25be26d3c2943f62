# SPDX-License-Identifier: Apache-2.0
"""From a photograph's file to the outputs that AutoML's own preprocessing and network give, on a host's engines."""

import dataclasses
import functools
import importlib.util

import checkpoints
import golden_network
import numpy as np
import pytest
from golden_network import Golden

from hparams_config import get_inference_config
from ipu_automl_io import preprocess_normalize_image
from ipu_utils.backends.open import open_backend
from ipu_utils.base.keras2 import tf
from ipu_utils.config.normalisation import normalisation_of, padding_colour
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.data.decode import read_image
from ipu_utils.data.numpy_batches import open_feed
from ipu_utils.data.tf_batches import open_dataset
from ipu_utils.executable import cache, fingerprint, freeze_lite, freeze_onnx
from ipu_utils.executable.engines import ENGINES as ENGINE_TABLE
from ipu_utils.executable.file import write_executable
from ipu_utils.executable.freeze import compile_network
from ipu_utils.executable.freeze_graph import freeze_graph
from ipu_utils.executable.runtime import EmbeddedModel
from ipu_utils.launch.requests import open_inputs
from ipu_utils.model.host import Host
from ipu_utils.model.network import Prepared, build_network, heads_of
from ipu_utils.nms import libraries

INPUT_ERROR = 0.03  # of the normalised input: half a grey level, and half of one more where it is padding
OUTPUT_ERROR = (
    0.06  # in standard deviations, in the mean: what pixels as whole numbers cost; black padding costs 0.07 up
)

with_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None or not libraries.libdetect_path().is_file(),
    reason="OpenVINO is not installed (there is none for Python 3.8), or NMS/host/build/libdetect.so is not built",
)
with_litert = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="LiteRT is not installed (there is none for Python 3.8)"
)
with_onnxruntime = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "onnx", "tf2onnx")),
    reason="onnxruntime, onnx or tf2onnx is not installed",
)
ENGINES = [
    "tensorflow",
    pytest.param("openvino", marks=with_openvino),
    pytest.param("litert", marks=with_litert),
    pytest.param("onnxruntime", marks=with_onnxruntime),
]
FREEZE = {"litert": freeze_lite.freeze_network, "onnxruntime": freeze_onnx.freeze_network}


class Run:
    """What the throughput script makes of its options for the photograph of a golden file."""

    def __init__(self, path, script="throughput", *options):
        self.golden = Golden(path)
        height, width = self.golden.size
        arguments = ["--device", "cpu", "--model-name", self.golden.model, "--image-size", f"{width}x{height}",
                     "--model-precision", "float", "--onchip-nms", "false", "--benchmark-repeats", "1",
                     "--dataset-type", "single-image", "--image-path", str(self.golden.image), *options]  # fmt: skip
        self.config = load_config([*arguments], script, choose_device=lambda requested: requested)
        self.hparams = hparams_of(self.config.model, self.config.data.image_size, self.config.nms.score_preset)

    def backend(self, engine, folder):
        """The backend of --engine ENGINE."""
        device = dataclasses.replace(self.config.device, engine=engine)
        return open_backend(dataclasses.replace(self.config, device=device), folder)

    def batch(self):
        """(images, scales, ids) of the photograph, as the engines of a host get them."""
        hparams, batch = self.hparams, self.config.benchmark.benchmark_repeats
        return next(iter(open_feed(self.config.data, hparams.image_size, batch, hparams.mean_rgb)))

    def assert_golden(self, heads):
        """Fail where the outputs for one batch are not those for the photograph."""
        assert all(errors.mean() < OUTPUT_ERROR for errors in self.golden.errors(heads))


class Network(Run):
    """The same with the golden file's network, shared by all engines."""

    def __init__(self, path):
        super().__init__(path, "throughput", "--random-weights")
        self.keras = build_network(self.hparams, activation=Host("cpu", 2).swish)
        self.golden.set_weights(self.keras)

    def executable(self, engine, folder):
        """The network as an engine's executable: its path."""
        path = folder / f"{self.golden.model}-{engine}.effdet"
        heads = functools.partial(heads_of, self.keras, self.hparams, "float32")
        name = ENGINE_TABLE[engine].module().engine_name()
        header = cache.plan(self.config, "float32", "float32", name, fingerprint.cpu_features())
        if engine == "openvino":
            write_executable(path, header, compile_network(heads, header))
        elif engine in FREEZE:
            write_executable(path, header, FREEZE[engine](heads, header, str(folder)).path.read_bytes())
        else:
            prepared = Prepared(self.keras, "float32", "those of the golden file", True)
            write_executable(path, header, freeze_graph(prepared, self.hparams, header))
        return path

    def outputs(self, path):
        """Outputs for the photograph, of an executable."""
        session = EmbeddedModel.load(path).session()
        session.load(*self.batch()[:2])
        session.run()
        return session.class_outputs + session.box_outputs


each_file = pytest.mark.parametrize("path", golden_network.files("photograph"), ids=lambda path: path.stem)


@pytest.fixture(scope="module", params=golden_network.files("photograph"), ids=lambda path: path.stem)
def network(request):
    return Network(request.param)


@pytest.fixture(scope="module")
def executable(network, tmp_path_factory):
    return network.executable("openvino", tmp_path_factory.mktemp("executable"))


def test_there_is_a_file_with_and_one_without_squeeze_and_excitation():
    assert {Golden(path).model for path in golden_network.files("photograph")} == {
        "efficientdet-d0",
        "efficientdet-lite0",
    }


@each_file
def test_the_network_gets_what_automls_preprocessing_makes_of_the_file(path):
    run = Run(path, "throughput", "--random-weights")
    images, scales, _ = run.batch()
    assert scales.tolist() == [run.golden.values["scale"]]
    made = preprocess_normalize_image(images, tf.float32, *normalisation_of(run.hparams)).numpy()[0, ::7, ::7]
    assert made.shape == run.golden.values["input"].shape
    assert np.abs(made - run.golden.values["input"]).max() < INPUT_ERROR
    padding = (images[0] == padding_colour(run.hparams.mean_rgb)).all(-1)
    assert 0.2 < padding.mean() < 0.8  # these photographs have other shapes than the input


@each_file
def test_requests_and_an_ipus_dataset_carry_the_same_pixels(path):
    run = Run(path, "embedded", "--random-weights")
    header = cache.plan(run.config, "float32", "float32", "some engine", ("some processor",))
    inputs = open_inputs(run.config, header, 3)
    (image,), (scale,), _ = run.batch()
    dataset = open_dataset(run.config.data, run.hparams.image_size, 1, run.hparams.mean_rgb).dataset
    tensors = [np.asarray(tensor) for tensor in next(iter(dataset))[:2]]
    for images, scales in ((inputs.images[0], inputs.scales[0]), inputs.decode(0), tensors):
        np.testing.assert_array_equal(images[0], image)
        assert scales.tolist() == [scale]


@pytest.mark.parametrize("hparams", ["", "mean_rgb=0.0,stddev_rgb=1.0,scale_range=true"])
def test_what_every_engine_computes_begins_with_the_configurations_normalisation(hparams):
    config = get_inference_config("efficientdet-lite0", hparams)
    pixels = np.arange(256, dtype=np.uint8)[None, :, None, None].repeat(3, 3)
    network = lambda images, training: ([images], [images])  # noqa: E731
    (seen,), _ = heads_of(network, config, "float32", tf.constant(pixels))
    expected = (pixels.astype(np.float64) - 127) / 128 if not hparams else pixels / 127.5 - 1
    np.testing.assert_allclose(seen, expected, atol=1e-6)


@pytest.mark.parametrize(
    "engine",
    [
        "tensorflow",
        pytest.param("litert", marks=with_litert),
        pytest.param("onnxruntime", marks=[with_onnxruntime, pytest.mark.slow]),
    ],
)
def test_engines_compute_the_reference_outputs(network, engine, tmp_path):
    network.assert_golden(network.outputs(network.executable(engine, tmp_path)))


@with_openvino
def test_openvino_computes_the_reference_outputs(network, executable):
    network.assert_golden(network.outputs(executable))


@with_openvino
def test_detect_computes_the_reference_outputs_with_the_mean_from_the_file(network, executable, monkeypatch):
    from ipu_utils.executable import runtime

    seen = []

    def detections(worker):
        seen.extend(output.copy() for output in worker.class_outputs + worker.box_outputs)
        return original(worker)

    original = runtime.Session.detections
    monkeypatch.setattr(runtime.Session, "detections", detections)
    model = EmbeddedModel.load(executable)
    assert model.header.mean_rgb == normalisation_of(network.hparams).mean
    assert len(model.detect(read_image(network.golden.image)).scores)
    network.assert_golden(seen)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@each_file
def test_a_checkpoint_and_a_file_give_the_reference_outputs(path, engine, tmp_path):
    weights = Golden(path).weights()
    checkpoints.write_tf1_checkpoint(tmp_path, {name: value + 1 for name, value in weights.items()}, averages=weights)
    run = Run(path, "throughput", "--model-dir", str(tmp_path))
    backend = run.backend(engine, tmp_path)
    backend.open_batches()
    assert f"{len(weights)} of {len(weights)} variables" in backend.prepare().weights
    (heads,) = backend.loop().call()
    assert heads.ids.tolist() == [0] and heads.scales.tolist() == [run.golden.values["scale"]]
    run.assert_golden(heads.class_outputs + heads.box_outputs)
