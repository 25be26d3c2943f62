# SPDX-License-Identifier: Apache-2.0
"""LiteRT and ONNX Runtime as engines: their files start without TensorFlow, and find what TensorFlow's find."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ipu_utils.executable.file import ExecutableError, read_executable, write_executable
from ipu_utils.executable.runtime import EmbeddedModel

ROOT = Path(__file__).resolve().parents[2]
MODEL = ["--device", "cpu", "--model-name", "efficientdet-lite0", "--image-size", "96x64", "--random-weights"]
MODEL += ["--model-precision", "float", "--hparams", "fpn_cell_repeats=1,box_class_repeats=1"]
ABSENT = ["tensorflow", "tf_keras", "keras", "openvino", "tf2onnx", "onnx"]
LOADED = f"; print([name for name in {ABSENT} if name in sys.modules])"

pytestmark = pytest.mark.slow


def run(script, *arguments):
    """Run a script in a process of its own, which says at last what it has imported; returns its output."""
    code = f"import sys, {script}; {script}.main({[*MODEL, *map(str, arguments)]!r})" + LOADED
    done = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


PACKAGES = {"litert": ["ai_edge_litert"], "onnxruntime": ["onnxruntime", "tf2onnx", "onnx"]}
TITLES = {"litert": "LiteRT", "onnxruntime": "ONNX Runtime"}


@pytest.fixture(scope="module")
def tensorflows(tmp_path_factory):
    """The executable that TensorFlow runs."""
    return compiled("tensorflow", tmp_path_factory.mktemp("tensorflow"))


@pytest.fixture(scope="module", params=list(PACKAGES))
def engine(request):
    absent = [name for name in PACKAGES[request.param] if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"{' and '.join(absent)} not installed")
    return request.param


@pytest.fixture(scope="module")
def kept(engine, tmp_path_factory):
    """The executable of an engine, in a folder of its own."""
    return compiled(engine, tmp_path_factory.mktemp(engine))


def compiled(engine, folder):
    run("ipu_embedded_inference", "--engine", engine, "--compile-only", "--exec-output-dir", folder)
    (path,) = folder.glob("*.effdet")
    return path


@pytest.mark.parametrize("threads, streams", [(2, None), (2, 2), (4, 2)])
def test_detections_are_those_of_tensorflow(kept, tensorflows, threads, streams):
    ours, theirs = EmbeddedModel.load(kept, threads, streams), EmbeddedModel.load(tensorflows, 2)
    sessions = [ours.session(), ours.session(), theirs.session()]
    images = np.random.RandomState(0).randint(0, 256, (3, 1, 64, 96, 3), np.uint8)
    for image in images:
        found = []
        for session in sessions:
            session.load(image, np.array([2.0], np.float32))
            session.run()
            found.append(session.detections().of_image(0))
        first, second, expected = found
        assert len(expected.boxes) > 5
        for one, other, wanted in zip(first, second, expected):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_allclose(one, wanted, atol=0.02)


def test_outputs_of_a_session_stay_while_another_one_runs(kept):
    model = EmbeddedModel.load(kept, 2, 2)
    sessions = [model.session(), model.session()]
    images = np.random.RandomState(1).randint(0, 256, (2, 1, 64, 96, 3), np.uint8)
    for session, image in zip(sessions, images):
        session.load(image, np.ones(1, np.float32))
    sessions[0].run()
    places = [output.ctypes.data for output in sessions[0].class_outputs]
    before = [output.copy() for output in sessions[0].class_outputs]
    sessions[1].run()
    sessions[0].run()
    assert [output.ctypes.data for output in sessions[0].class_outputs] == places
    for one, again, other in zip(before, sessions[0].class_outputs, sessions[1].class_outputs):
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()


@pytest.mark.parametrize("script", ["ipu_inference", "ipu_embedded_inference"])
def test_a_kept_file_is_run_without_tensorflow_and_the_record_names_the_engine(engine, kept, script, tmp_path):
    folder = "--executable-cache-dir" if script == "ipu_inference" else "--exec-output-dir"
    where, record = tmp_path / "cache" if script == "ipu_inference" else kept.parent, tmp_path / "record.json"
    arguments = ["--engine", engine, "--num-repeats", "3", folder, where, "--results-json", record]
    if script == "ipu_inference":
        run(script, *arguments)  # compiles
    assert run(script, *arguments).splitlines()[-1] == "[]"
    found = json.loads(record.read_text())
    assert found["device"]["engine"].startswith(f"{TITLES[engine]} ") and found["device"]["threads"] >= 1
    made_by = {"tensorflow", *PACKAGES[engine][1:]}
    assert made_by <= {*found["executable"]["versions"]}


def test_a_network_that_the_engine_cannot_read_is_the_users_error(engine, kept, tensorflows, tmp_path):
    header = read_executable(kept).header
    for number, content in enumerate((b"not a network" * 1000, tensorflows.read_bytes())):
        write_executable(tmp_path / f"{number}.effdet", header, content)
        with pytest.raises(ExecutableError, match=f"cannot be loaded by {TITLES[engine]}"):
            EmbeddedModel.load(tmp_path / f"{number}.effdet")
