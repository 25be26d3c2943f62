# SPDX-License-Identifier: Apache-2.0
"""The throughput script on OpenVINO: TensorFlow's detections, kept executables, and starts without TensorFlow."""

import dataclasses
import functools
import itertools
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
from ipu_utils.backends.contract import Compiled
from ipu_utils.backends.host_runtime import HostRuntime
from ipu_utils.backends.in_flight import Loop
from ipu_utils.backends.openvino import wanted
from ipu_utils.base import hardware, openvino_api
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import UserError
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.data.numpy_batches import open_feed
from ipu_utils.executable import fingerprint
from ipu_utils.executable.file import read_executable, write_executable
from ipu_utils.executable.freeze import compile_network
from ipu_utils.measure.objects import mean_candidates
from ipu_utils.model.host import Host
from ipu_utils.model.network import heads_of, prepare
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
        arguments = [*MODEL, "--engine", "openvino", *FROM_PHOTOGRAPHS]
        self.config = load_config(arguments, choose_device=lambda requested: "cpu")
        self.hparams = hparams_of(self.config.model, self.config.data.image_size)
        network = prepare(self.config, self.hparams, Host("cpu", 2)).network
        self.heads = functools.partial(heads_of, network, self.hparams, "float32")
        self._folder, self._made = folder, {}

    def feed(self, batch):
        return open_feed(dataclasses.replace(self.config.data, micro_batch_size=batch), (HEIGHT, WIDTH), 2)

    def made(self, batch):
        """(ids, scales and TensorFlow's outputs of the heads for two batches, OpenVINO's network)."""
        if batch not in self._made:
            two = [
                (ids, scales, [np.asarray(output) for level in self.heads(images) for output in level])
                for images, scales, ids in itertools.islice(iter(self.feed(batch)), 2)
            ]
            header = dataclasses.replace(wanted(self.config), batch_size=batch)
            self._made[batch] = two, header, compile_network(self.heads, header)
        return self._made[batch]

    def openvino(self, batch, mode, onchip):
        """Calls of two batches in OpenVINO."""
        _, header, network = self.made(batch)
        header = dataclasses.replace(header, nms_mode=mode)
        path = self._folder / f"{batch}-{mode}.effdet"
        write_executable(path, header, network)
        compiled = Compiled(path, header, "given", read_executable(path))
        return Loop(HostRuntime(compiled, self.config, None, "libdetect"), self.feed(batch), 2, onchip)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
        return Network(tmp_path_factory.mktemp("network"))


@pytest.mark.parametrize("onchip", [True, False], ids=["behind-the-network", "on-the-host"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batch", [1, 3])
def test_detections_are_those_of_tensorflow(network, batch, mode, onchip):
    loop = network.openvino(batch, mode, onchip)
    found = 0
    for outputs, (ids, scales, heads) in zip(loop.call(), network.made(batch)[0]):
        expected = postprocess_predictions(network.hparams, heads[:5], heads[5:], scales, mode)
        boxes, scores, classes, lengths = (np.asarray(value) for value in expected)
        ours = loop.results(outputs)
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
    loop = network.openvino(1, "best-class", onchip=False)
    first = loop.call()
    kept = [[output.copy() for output in batch.class_outputs + batch.box_outputs] for batch in first]
    loop.call()
    for batch, copies in zip(first, kept):
        for output, copy in zip(batch.class_outputs + batch.box_outputs, copies):
            np.testing.assert_array_equal(output, copy)


def test_calls_go_on_where_the_last_one_stopped(network):
    call = network.openvino(1, "best-class", onchip=True).call
    assert [results.ids.tolist() for results in call() + call() + call()] == [[0], [1], [2], [3], [0], [1]]


def test_candidates_are_counted_as_tensorflow_counts_them(network):
    loop, (first, _) = network.openvino(3, "best-class", onchip=True), network.made(3)[0]
    expected = mean_candidates(first[2][:5], 90, network.hparams.nms_configs.score_thresh, every_class=False)
    assert loop.candidates() == pytest.approx(expected, abs=1 / 3) and expected > 10


def test_a_precision_that_the_cpu_lacks_is_the_users_error(monkeypatch):
    class OpenVino:
        Core = type("Core", (), {"get_property": lambda self, device, name: ["FP32"]})

    monkeypatch.setattr(openvino_api, "import_openvino", lambda: OpenVino)
    monkeypatch.setattr(openvino_api, "engine_name", lambda openvino: "OpenVINO")
    with pytest.raises(UserError, match="cannot compute in float16 on this CPU, only in float32") as refused:
        openvino_api.check_precision("float16")
    assert "only in float32 (float): use --model-precision float" in str(refused.value)  # as the option is typed


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
    size = sum(path.stat().st_size for path in (tmp_path / "kept").glob("*.effdet"))
    assert [one.pop("bytes") for one in origins] == [size, size] and size > 0
    assert [one.pop("origin") for one in origins] == ["compiled", "kept"]
    assert compiled.pop("compile_seconds") > 0 and kept.pop("compile_seconds") is None
    assert kept == compiled and kept["sources_sha256"] == "5" * 64 and kept["nms_operator_sha256"] is None
    assert re.fullmatch(r"OpenVINO \S+", kept["engine"])
    assert kept["versions"] == fingerprint.versions() and set(kept["versions"]) == {"tensorflow", "keras", "numpy"}
