# SPDX-License-Identifier: Apache-2.0
"""TensorFlow in a process of its own: what gets through to the other, and what is left of it."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import follow_hparams
from ipu_utils.executable import build_process, cache
from ipu_utils.executable.build_process import build_in_process
from ipu_utils.graph.freeze import FrozenStep, as_function

ROOT = Path(__file__).resolve().parents[2]
TRAINED = ROOT / "tests" / "data" / "trained"
MODEL = ["--model-name", "efficientdet-lite0", "--image-size", "64", "--random-weights"]


@pytest.fixture
def wanted():
    """(configuration, header): what is to be built. No OpenVINO is needed to describe it."""
    config = load_config(["--device", "cpu", *MODEL], script="throughput")
    return config, cache.plan(config, "float32", "float32", "OpenVINO 0", ("x86_64",))


@pytest.fixture
def instead_of_tensorflow(tmp_path, monkeypatch):
    """A function that puts code in the place of TensorFlow, for processes that are started from now on."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)  # which is set when TensorFlow is imported

    def write(code):
        (tmp_path / "tensorflow.py").write_text(code)

    return write


FAILS = "raise ImportError('none here')"


def heads_of(frozen, images):
    """The outputs of a network in a file."""
    graph_def = tf.compat.v1.GraphDef.FromString(frozen.path.read_bytes())
    inputs = tuple(f"{node.name}:0" for node in graph_def.node if node.op == "Placeholder")
    return as_function(FrozenStep(graph_def, inputs, frozen.outputs))(images)


@pytest.mark.slow
def test_the_network_is_the_one_that_is_built_in_this_process(tmp_path, capfd, monkeypatch):
    # Trained weights: random ones are calibrated, which turns another number of threads into other numbers.
    arguments = ["--device", "cpu", "--model-name", "efficientdet-lite0", "--model-dir", str(TRAINED)]
    config = follow_hparams(load_config(arguments, script="throughput"))
    wanted = config, cache.plan(config, "float32", "float32", "OpenVINO 0", ("x86_64",))
    size = wanted[1].image_size
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    (tmp_path / "apart").mkdir()
    apart, freeze_apart = build_in_process(*wanted)
    assert capfd.readouterr() == ("", "")  # of TensorFlow's notices
    here, freeze_here = build_process.build_here(*wanted)
    assert apart == here and apart.weights.startswith("588 of 588 variables")
    images = tf.constant(255 * (tf.random.stateless_uniform((1, *size, 3), (1, 2)) > 0.5).numpy().astype("uint8"))
    found = [heads_of(frozen, images) for frozen in (freeze_apart(str(tmp_path / "apart")), freeze_here(str(tmp_path)))]
    assert len(found[0]) == len(found[1]) == 10
    for ours, reference in zip(*found):
        assert ours.shape == reference.shape
        tf.debugging.assert_near(ours, reference, rtol=1e-3, atol=1e-3)


def test_tensorflow_that_is_here_already_is_used(wanted, monkeypatch):
    monkeypatch.setattr(build_process, "build_here", lambda config, header: ("here", None))
    monkeypatch.setattr(build_process, "build_in_process", lambda config, header: ("apart", None))
    assert build_process.build(*wanted)[0] == "here"
    monkeypatch.delitem(sys.modules, "tensorflow")
    assert build_process.build(*wanted)[0] == "apart"


def test_what_the_user_can_mend_is_raised_here(wanted, instead_of_tensorflow):
    instead_of_tensorflow(FAILS)
    with pytest.raises(UserError, match=r"needs TensorFlow: TensorFlow cannot be imported \(none here\)"):
        build_in_process(*wanted)


def test_a_defect_comes_with_the_traceback_of_the_other_process(wanted, instead_of_tensorflow):
    instead_of_tensorflow("def __getattr__(name): raise KeyError('a defect')")
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*tensorflow.py.*KeyError: 'a defect'"):
        build_in_process(*wanted)


def test_memory_that_is_full_there_is_told_as_if_it_were_full_here(wanted, instead_of_tensorflow):
    instead_of_tensorflow(
        "class ResourceExhaustedError(Exception): pass\n"
        "def __getattr__(name): raise ResourceExhaustedError('OOM when allocating')"
    )
    with pytest.raises(MemoryError, match="OOM when allocating"):
        build_in_process(*wanted)


def test_a_process_that_is_killed_is_told_with_its_last_words(wanted, instead_of_tensorflow):
    instead_of_tensorflow("import os, sys; os.write(2, b'out of memory\\n'); os.kill(os.getpid(), 9)")
    with pytest.raises(UserError, match=r"(?s)ended with signal 9.*take a smaller --model-name.*out of memory"):
        build_in_process(*wanted)


def test_what_is_logged_there_is_logged_here(wanted, instead_of_tensorflow, caplog):
    instead_of_tensorflow(f"import logging; logging.getLogger('weights').warning('%d are new', 3); {FAILS}")
    with caplog.at_level(logging.WARNING), pytest.raises(UserError):
        build_in_process(*wanted)
    assert ("weights", logging.WARNING, "3 are new") in caplog.record_tuples


def test_what_is_printed_there_is_not_taken_for_an_answer(wanted, instead_of_tensorflow, capfd):
    instead_of_tensorflow(f"import os; print('notice'); os.write(1, b'native notice'); {FAILS}")
    with pytest.raises(UserError, match="none here"):
        build_in_process(*wanted)
    assert capfd.readouterr() == ("", "")


def test_whoever_sets_the_level_of_notices_sees_them(wanted, instead_of_tensorflow, capfd, monkeypatch):
    instead_of_tensorflow(f"import os; os.write(2, b'notice'); {FAILS}")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with pytest.raises(UserError):
        build_in_process(*wanted)
    assert capfd.readouterr().err == "notice"


def is_running(process_id):
    """Is there such a process, other than as a zombie?"""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux for processes")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_process_ends_with_the_one_that_started_it(instead_of_tensorflow, tmp_path, number):
    note = tmp_path / "child"
    instead_of_tensorflow(
        f"import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'part')!r}).write_text(str(os.getpid()))\n"
        f"os.replace({str(tmp_path / 'part')!r}, {str(note)!r})\n"
        f"time.sleep(100)"
    )
    code = (
        "from ipu_utils.config.run_config import load_config; from ipu_utils.executable import build_process, cache\n"
        "from ipu_utils.base.console import run_script\n"
        f"config = load_config(['--device', 'cpu', *{MODEL}], script='throughput')\n"
        "header = cache.plan(config, 'float32', 'float32', 'OpenVINO 0', ('x86_64',))\n"
        "run_script(lambda: build_process.build_in_process(config, header))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=str(ROOT), stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 60
        while not note.exists():
            assert time.monotonic() < limit and parent.poll() is None
            time.sleep(0.05)
        child = int(note.read_text())
        assert is_running(child) and child != parent.pid
        os.kill(parent.pid, number)
        parent.wait(60)
        while is_running(child):
            assert time.monotonic() < limit
            time.sleep(0.05)
    finally:
        parent.kill()
