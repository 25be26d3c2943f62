# SPDX-License-Identifier: Apache-2.0
"""The throughput script on OpenVINO: TensorFlow's detections, kept executables, and starts without TensorFlow."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed (there is none for Python 3.8 in requirements.txt)")

import ipu_inference
from ipu_automl_io import postprocess_predictions
from ipu_utils.backends.devices import get_device
from ipu_utils.backends.openvino_device import OpenVinoDevice
from ipu_utils.backends.openvino_pipeline import OpenVinoPipeline
from ipu_utils.backends.openvino_requests import wanted
from ipu_utils.backends.tensorflow_pipeline import TensorFlowPipeline
from ipu_utils.base import hardware, openvino_api
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import UserError
from ipu_utils.config.run_config import NmsConfig, load_config
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.data.numpy_batches import open_feed
from ipu_utils.data.tf_batches import open_dataset
from ipu_utils.executable import fingerprint
from ipu_utils.executable.file import read_executable, write_executable
from ipu_utils.executable.freeze import compile_network
from ipu_utils.measure.stages import Stages
from ipu_utils.model.network import prepare
from ipu_utils.nms import libraries
from ipu_utils.report.record import read_record

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = ROOT / "tests" / "data" / "images"
HEIGHT, WIDTH = 96, 128
MODES = ("best-class", "class-agnostic", "multi-class")
MODEL = ["--device", "cpu", "--model-name", "efficientdet-lite0", "--image-size", f"{WIDTH}x{HEIGHT}",
         "--random-weights", "--hparams", "fpn_cell_repeats=1,box_class_repeats=1"]  # fmt: skip
FEW = ["--engine", "openvino", "--num-repeats", "2", "--benchmark-repeats", "4"]
FROM_PHOTOGRAPHS = ["--dataset-type", "image-directory", "--image-path", str(PHOTOGRAPHS)]

pytestmark = pytest.mark.skipif(
    not libraries.libdetect_path().is_file(), reason="NMS/host/build/libdetect.so is not built: run make"
)


@pytest.fixture(autouse=True)
def _stand_still(monkeypatch):
    """The same default precision wherever the tests run, and sources that nobody edits meanwhile."""
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
    monkeypatch.setattr(fingerprint, "of_sources", lambda builder: "5" * 64)


class Network:
    """One network for both engines, compiled once a batch size."""

    def __init__(self, folder):
        self.config = load_config([*MODEL, *FROM_PHOTOGRAPHS], choose_device=lambda requested: "cpu")
        self.hparams = hparams_of(self.config.model, self.config.data.image_size)
        self.device = get_device("cpu")
        self.model = prepare(self.config, self.hparams, self.device)
        self.pipeline = TensorFlowPipeline(
            self.model.network, self.hparams, NmsConfig(onchip_nms=False), "float32", self.device
        )
        self._folder, self._made = folder, {}

    def data(self, batch):
        return dataclasses.replace(self.config.data, micro_batch_size=batch)

    def made(self, batch):
        """(TensorFlow's outputs of the heads for two batches, OpenVINO's network)."""
        if batch not in self._made:
            dataset = open_dataset(self.data(batch), (HEIGHT, WIDTH), 2).dataset
            outputs = self.device.compile(self.pipeline.step, dataset, 2)()
            header = wanted(dataclasses.replace(self.config, data=self.data(batch)))
            self._made[batch] = outputs, header, compile_network(self.pipeline.heads, header)
        return self._made[batch]

    def openvino(self, batch, mode, onchip):
        """(the call of OpenVINO's device for two batches, its pipeline)."""
        _, header, network = self.made(batch)
        header = dataclasses.replace(header, nms_mode=mode)
        path = self._folder / f"{batch}-{mode}.effdet"
        write_executable(path, header, network)
        pipeline = OpenVinoPipeline(path, header, onchip)
        feed = open_feed(self.data(batch), (HEIGHT, WIDTH), 2)
        return OpenVinoDevice(pipeline.pixels).compile(pipeline.step, feed, 2), pipeline


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
        return Network(tmp_path_factory.mktemp("network"))


@pytest.mark.parametrize("onchip", [True, False], ids=["behind-the-network", "on-the-host"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batch", [1, 3])
def test_detections_are_those_of_tensorflow(network, batch, mode, onchip):
    call, pipeline = network.openvino(batch, mode, onchip)
    found = 0
    for outputs, (ids, scales, *heads) in zip(call(), network.made(batch)[0]):
        expected = postprocess_predictions(network.hparams, heads[:5], heads[5:], scales, mode)
        boxes, scores, classes, lengths = (np.asarray(value) for value in expected)
        ours = pipeline.postprocess(outputs)
        np.testing.assert_array_equal(ours.ids, ids)
        np.testing.assert_array_equal(ours.detections.lengths, lengths)
        for row, length in enumerate(lengths):
            used = row, slice(0, length)
            np.testing.assert_allclose(ours.detections.scores[used], scores[used], atol=1e-4)
            np.testing.assert_array_equal(ours.detections.classes[used], classes[used])
            np.testing.assert_allclose(ours.detections.boxes[used], boxes[used], atol=0.05)
        found += lengths.sum()
    assert found > 0


def test_outputs_of_a_batch_outlive_the_next_call(network):
    call, _ = network.openvino(1, "best-class", onchip=False)
    first = call()
    kept = [[output.copy() for output in outputs] for outputs in first]
    call()
    for outputs, copies in zip(first, kept):
        for output, copy in zip(outputs, copies):
            np.testing.assert_array_equal(output, copy)


def test_calls_go_on_where_the_last_one_stopped(network):
    call, _ = network.openvino(1, "best-class", onchip=True)
    assert [outputs[0].tolist() for outputs in call() + call() + call()] == [[0], [1], [2], [3], [0], [1]]


def test_candidates_are_counted_as_tensorflow_counts_them(network):
    _, pipeline = network.openvino(3, "best-class", onchip=True)
    images, _, _ = next(iter(open_feed(network.data(3), (HEIGHT, WIDTH), 2)))
    pipeline.load(None, 1, 1, Stages())
    assert pipeline.count_candidates(images) == pytest.approx(network.pipeline.count_candidates(images), abs=1 / 3)


def test_a_precision_that_the_cpu_lacks_is_the_users_error(monkeypatch):
    class OpenVino:
        Core = type("Core", (), {"get_property": lambda self, device, name: ["FP32"]})

    monkeypatch.setattr(openvino_api, "import_openvino", lambda: OpenVino)
    monkeypatch.setattr(openvino_api, "engine_name", lambda openvino: "OpenVINO")
    with pytest.raises(UserError, match="cannot compute in float16 on this CPU, only in float32"):
        OpenVinoDevice(64).check_precision("float16")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder with the executable of a first run, and what that run printed."""
    folder = tmp_path_factory.mktemp("cache")
    arguments = [*MODEL, *FEW, "--executable-cache-dir", str(folder)]
    code = f"import sys, ipu_inference; sys.exit(ipu_inference.main({arguments!r}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return folder, run.stdout


LOADED = "; print([name for name in ('tensorflow', 'tf_keras', 'keras', 'openvino_telemetry') if name in sys.modules])"


@pytest.mark.slow
@pytest.mark.parametrize("data", [[], FROM_PHOTOGRAPHS], ids=["generated", "photographs"])
def test_a_second_start_imports_no_tensorflow_and_detects_the_same(cache, data, tmp_path):
    folder, first = cache
    arguments = [*MODEL, *FEW, *data, "--executable-cache-dir", str(folder)]
    code = f"import sys, ipu_inference; ipu_inference.main({arguments!r})" + LOADED
    run = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "[]"
    assert "Benchmark complete." in run.stdout
    if not data:
        objects = re.compile("^objects: .*$", re.MULTILINE)
        assert objects.search(run.stdout)[0] == objects.search(first)[0]
    assert len(list(folder.iterdir())) == 1


def run(capfd, *arguments):
    """Run the script here; (status, standard output, standard error)."""
    capfd.readouterr()
    status = run_script(lambda: ipu_inference.main([*MODEL, *FEW, *map(str, arguments)]))
    return (status, *capfd.readouterr())


@pytest.mark.slow
def test_the_report_names_engine_streams_and_precision(capfd, caplog, tmp_path):
    arguments = ["--num-threads", "2", "--num-streams", "1", "--model-precision", "float", *FROM_PHOTOGRAPHS]
    arguments += ["--output-predictions", "--output-dir", tmp_path / "out", "--executable-cache-dir", tmp_path / "kept"]
    status, out, _ = run(capfd, *arguments)
    assert status == 0
    device = re.search("^device: +(.*)$", out, re.MULTILINE)[1]
    assert re.fullmatch(r"cpu \(.*, 2 threads\), OpenVINO \S+, one stream", device)
    assert "precision: float, images travel as uint8" in out and "libdetect, behind the network" in out
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 4
    # A damaged file is told and replaced.
    (path,) = (tmp_path / "kept").iterdir()
    header = read_executable(path).header
    path.write_bytes(path.read_bytes()[:-100])
    assert run(capfd, *arguments)[0] == 0 and "is compiled again" in caplog.text
    assert read_executable(path).header == header


def test_the_record_says_what_the_executable_came_from_whether_or_not_this_run_made_it(capfd, tmp_path):
    origins = []
    for name in ("compiled.json", "kept.json"):
        arguments = ["--executable-cache-dir", tmp_path / "kept", "--results-json", tmp_path / name]
        assert run(capfd, *arguments)[0] == 0
        origins.append(read_record(tmp_path / name)["executable"])
    compiled, kept = origins
    assert kept == compiled and kept["sources_sha256"] == "5" * 64 and kept["nms_operator_sha256"] is None
    assert re.fullmatch(r"OpenVINO \S+", kept["engine"])
    assert kept["versions"] == fingerprint.versions() and set(kept["versions"]) == {"tensorflow", "keras", "numpy"}
