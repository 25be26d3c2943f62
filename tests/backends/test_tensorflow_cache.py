# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's network from --executable-cache-dir: the same numbers, and nothing is built for them."""

import dataclasses
import re

import numpy as np
import pytest

import ipu_inference
from ipu_utils.backends.open import open_throughput
from ipu_utils.backends.tensorflow_cache import KeptPipeline
from ipu_utils.backends.tensorflow_device import HostDevice
from ipu_utils.base.console import run_script
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.executable import cache, sources
from ipu_utils.executable.file import ExecutableError, read_executable, write_executable
from ipu_utils.executable.ports import described
from ipu_utils.model import network
from ipu_utils.report.record import read_record

MODEL = ["--device", "cpu", "--engine", "tensorflow", "--model-name", "efficientdet-lite0", "--image-size", "64"]
MODEL += ["--random-weights", "--model-precision", "float", "--hparams", "fpn_cell_repeats=1,box_class_repeats=1"]
FEW = ["--num-repeats", "2", "--benchmark-repeats", "2"]


def opened(*arguments):
    """(model, pipeline, outputs of one call, candidates) of a run."""
    config = load_config([*MODEL, *FEW, *map(str, arguments)], choose_device=lambda asked: "cpu")
    engine = open_throughput(config, hparams_of(config.model, config.data.image_size))
    described, pipeline = engine.prepare()
    outputs = engine.device.compile(pipeline.step, engine.dataset, 2)()
    return described, pipeline, outputs, pipeline.count_candidates(next(iter(engine.dataset))[0])


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
    _, _, plain, candidates = opened(*more)
    first, _, built, _ = opened(*more, "--executable-cache-dir", tmp_path)
    monkeypatch.setattr(network, "build_network", None)  # would fail if called
    second, pipeline, found, counted = opened(*more, "--executable-cache-dir", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert counted == pytest.approx(candidates, abs=1) and counted > 100
    assert (first.weights, first.identity()) == (second.weights, second.identity())
    for ours, same, reference in zip(found, built, plain):
        assert len(ours) == len(reference)
        for one, other, without_file in zip(ours, same, reference):
            np.testing.assert_array_equal(one, other)
            if np.ndim(one) == 4:  # outputs of the heads
                np.testing.assert_allclose(one, without_file, rtol=1e-3, atol=1e-3)
    assert pipeline.postprocess(found[0]).detections.lengths.min() > 10


def test_a_graph_that_is_not_what_its_header_says_is_refused(tmp_path):
    """A network of constants, of the right form and then of another one."""
    config = load_config([*MODEL, *FEW], choose_device=lambda asked: "cpu")
    hparams, device = hparams_of(config.model, config.data.image_size), HostDevice("cpu")
    header = cache.plan(config, "float32", "float32", f"TensorFlow {tf.__version__}", ("x86_64",))
    image, outputs = described(header)

    def pipeline_of(header):
        graph = tf.Graph()
        with graph.as_default():
            tf.compat.v1.placeholder(image.type_name, image.shape, name="images")
            for port in outputs:
                tf.zeros(port.shape, port.type_name, name=port.names[0])
        write_executable(tmp_path / "a.effdet", header, graph.as_graph_def().SerializeToString())
        return KeptPipeline(read_executable(tmp_path / "a.effdet"), hparams, config.nms, device)

    assert len(pipeline_of(header).heads(tf.zeros(image.shape, image.type_name))[0]) == 5
    for changes, message in [
        ({"output_type": "float16"}, "output class_3 of its network is float32, its header says float16"),
        ({"batch_size": 2}, r"input of its network is \[1, 64, 64, 3\]"),
        ({"num_classes": 91}, "output class_3 of its network is"),
        ({"anchors": {**header.anchors, "max_level": 8}}, "cannot be used by TensorFlow"),
    ]:
        with pytest.raises(ExecutableError, match=message):
            pipeline_of(dataclasses.replace(header, **changes))


@pytest.mark.slow
def test_the_record_says_what_the_network_came_from(tmp_path):
    """In no file, in one that is made for the run, and in one that was there."""
    origins = []
    for number, folder in enumerate(["", "cache", "cache"]):
        path = tmp_path / f"{number}.json"
        arguments = ["--executable-cache-dir", str(tmp_path / folder)] if folder else []
        arguments += ["--results-json", str(path)]
        assert run_script(lambda more=tuple(arguments): ipu_inference.main([*MODEL, *FEW, *more])) == 0
        origins.append(read_record(path)["executable"])
    plain, built, kept = origins
    assert built == kept and built["engine"] == f"TensorFlow {tf.__version__}"
    assert plain["engine"].startswith(built["engine"])
    for key in ("sources_sha256", "versions"):
        assert plain[key] == built[key]
    assert built["sources_sha256"] == sources.of_modules([cache.GRAPH]) and built["versions"]["numpy"] == np.__version__


@pytest.mark.slow
def test_another_model_option_or_damage_builds_again(tmp_path, capfd, caplog):
    def run(*arguments):
        capfd.readouterr()
        kept = ["--executable-cache-dir", str(tmp_path)]
        assert run_script(lambda: ipu_inference.main([*MODEL, *FEW, *kept, *arguments])) == 0
        return re.search("^objects: .*$", capfd.readouterr().out, re.MULTILINE)[0]

    first = run()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    assert run("--seed", "1") != first and len(list(tmp_path.iterdir())) == 2
    path.write_bytes(whole[:-100])
    assert run() == first and path.stat().st_size == len(whole)
    assert "is compiled again" in caplog.text
