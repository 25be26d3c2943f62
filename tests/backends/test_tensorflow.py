# SPDX-License-Identifier: Apache-2.0
"""TensorFlow as an engine: files that hold the same numbers, in both scripts; and doing without libdetect."""

import dataclasses
import re

import numpy as np
import pytest

import ipu_embedded_inference
import ipu_inference
from ipu_automl_io import postprocess_predictions
from ipu_utils.backends.open import open_backend
from ipu_utils.base import hardware
from ipu_utils.base.console import run_script
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.executable import cache, fingerprint, sources, tensorflow
from ipu_utils.executable.file import ExecutableError, read_executable, write_executable
from ipu_utils.executable.ports import described
from ipu_utils.executable.runtime import EmbeddedModel
from ipu_utils.model import network
from ipu_utils.nms import libraries
from ipu_utils.report.record import read_record

MODEL = ["--device", "cpu", "--engine", "tensorflow", "--model-name", "efficientdet-lite0", "--image-size", "64"]
MODEL += ["--random-weights", "--model-precision", "float", "--hparams", "fpn_cell_repeats=1,box_class_repeats=1"]
FEW = ["--num-repeats", "2", "--benchmark-repeats", "2"]


def opened(folder, *arguments):
    """(what runs, the loop, outputs of one call, candidates) of a run."""
    config = load_config([*MODEL, *FEW, *map(str, arguments)], choose_device=lambda asked: "cpu")
    backend = open_backend(config, folder)
    backend.open_batches()
    info, loop = backend.prepare(), backend.loop()
    return info, loop, loop.call(), loop.candidates()


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--onchip-nms", "false"],
        ["--io-precision", "float", "--micro-batch-size", "2"],
    ],
)
def test_a_second_run_computes_the_same_and_builds_nothing(tmp_path, monkeypatch, more):
    kept = ["--executable-cache-dir", tmp_path / "kept"]
    first, _, built, candidates = opened(tmp_path, *more, *kept)
    monkeypatch.setattr(network, "build_network", None)  # would fail if called
    second, loop, found, counted = opened(tmp_path, *more, *kept)
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert counted == candidates and counted > 100
    assert (first.weights, first.identity()) == (second.weights, second.identity())
    for ours, same in zip(map(loop.results, found), map(loop.results, built)):
        for one, other in zip((ours.ids, *ours.detections[:4]), (same.ids, *same.detections[:4])):
            np.testing.assert_array_equal(one, other)
    assert loop.results(found[0]).detections.lengths.min() > 10


def test_a_graph_that_is_not_what_its_header_says_is_refused(tmp_path):
    """A network of constants, of the right form and then of another one."""
    config = load_config([*MODEL, *FEW], choose_device=lambda asked: "cpu")
    header = cache.plan(config, "float32", "float32", tensorflow.engine_name(), fingerprint.cpu_features())
    image, outputs = described(header)

    def loaded(header):
        graph = tf.Graph()
        with graph.as_default():
            tf.compat.v1.placeholder(image.type_name, image.shape, name="images")
            for port in outputs:
                tf.zeros(port.shape, port.type_name, name=port.names[0])
        write_executable(tmp_path / "a.effdet", header, graph.as_graph_def().SerializeToString())
        return tensorflow.load(read_executable(tmp_path / "a.effdet"), None, None, "cpu")

    request = loaded(header).request()
    request.run()
    assert [len(part) for part in (request.class_outputs, request.box_outputs)] == [5, 5]
    for changes, message in [
        ({"output_type": "float16"}, "output class_3 of its network is float32, its header says float16"),
        ({"batch_size": 2}, r"input of its network is \[1, 64, 64, 3\]"),
        ({"num_classes": 91}, "output class_3 of its network is"),
        ({"anchors": {**header.anchors, "max_level": 8}}, "cannot be used by TensorFlow"),
    ]:
        with pytest.raises(ExecutableError, match=message):
            loaded(dataclasses.replace(header, **changes))


def run(script, capfd, *arguments):
    """Run a script here; returns what it printed."""
    capfd.readouterr()
    assert run_script(lambda: script.main([*MODEL, *map(str, arguments)])) == 0
    return capfd.readouterr().out


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """An executable of the embedded script, and its record."""
    folder = tmp_path_factory.mktemp("compiled")
    arguments = [*MODEL, "--num-repeats", "2", "--exec-output-dir", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
        record = ["--results-json", str(folder / "record.json")]
        assert run_script(lambda: ipu_embedded_inference.main([*arguments, *record])) == 0
    return next(folder.glob("*.effdet")), read_record(folder / "record.json")


def test_the_embedded_script_compiles_for_tensorflow_and_says_so(compiled):
    path, record = compiled
    header = read_executable(path).header
    assert header.engine == f"TensorFlow {tf.__version__}" == record["device"]["engine"]
    assert record["executable"]["sources_sha256"] == sources.of_modules([cache.GRAPH])
    assert record["executable"]["versions"]["numpy"] == np.__version__


def test_a_given_executable_says_which_engine_it_is_for(compiled, capfd, monkeypatch):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
    asked = ["--device", "cpu", "--exec-file", str(compiled[0]), "--num-repeats", "2"]
    assert run_script(lambda: ipu_embedded_inference.main(asked)) == 0
    assert re.search(r"^device: .*, TensorFlow \d", capfd.readouterr().out, re.MULTILINE)
    assert run_script(lambda: ipu_embedded_inference.main([*asked, "--engine", "openvino"])) == 2
    assert f"{compiled[0]} was compiled by TensorFlow" in capfd.readouterr().err


@pytest.mark.parametrize("mode", ["best-class", "class-agnostic", "multi-class"])
def test_without_libdetect_tensorflows_operators_find_the_same(compiled, monkeypatch, mode, caplog, tmp_path):
    from ipu_utils.backends.tensorflow import Compiler

    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
    found = read_executable(compiled[0])
    header = dataclasses.replace(found.header, nms_mode=mode)
    write_executable(tmp_path / "a.effdet", header, found.network().tobytes())
    monkeypatch.setattr(libraries, "libdetect_path", lambda: tmp_path / "nothing.so")
    config = load_config([*MODEL, *FEW], choose_device=lambda asked: "cpu")
    detector, name = Compiler(config).detector(header)
    assert name == "TensorFlow's operators" and "which are slower" in caplog.text and 'Run "make"' in caplog.text
    model = EmbeddedModel(read_executable(tmp_path / "a.effdet"), detector=detector)
    session = model.session()
    session.load(np.random.RandomState(0).randint(0, 256, (1, 64, 64, 3), np.uint8), np.array([2.0], np.float32))
    session.run()
    hparams, scales = hparams_of(config.model, config.data.image_size), np.array([2], np.float32)
    wanted = postprocess_predictions(hparams, session.class_outputs, session.box_outputs, scales, mode=mode)
    for ours, theirs in zip(session.detections(), wanted):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert session.detections().lengths[0] > 5


@pytest.mark.slow
def test_another_model_option_or_damage_builds_again(tmp_path, capfd, caplog):
    def objects(*arguments):
        printed = run(ipu_inference, capfd, *FEW, "--executable-cache-dir", tmp_path, *arguments)
        return re.search("^objects: .*$", printed, re.MULTILINE)[0]

    first = objects()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    assert objects("--seed", "1") != first and len(list(tmp_path.iterdir())) == 2
    path.write_bytes(whole[:-100])
    assert objects() == first and path.stat().st_size == len(whole)
    assert "is compiled again" in caplog.text
