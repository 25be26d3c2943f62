# SPDX-License-Identifier: Apache-2.0
"""What TensorFlow logs while it starts is not seen, unless it was asked for or is the reason why it does not start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--model-name", "efficientdet-lite0", "--image-size", "64", "--device", "cpu"]
TINY += ["--num-repeats", "2", "--benchmark-repeats", "1"]
IMAGES = ["--image-path", str(ROOT / "tests" / "data" / "images"), "--random-weights"]
LOGS = [
    "I0000 00:00:1795662459.1 26985 port.cc:153] a notice",
    "E0000 00:00:1795662459.2 26985 cuda_dnn.cc:8310] a factory",
]
CURRENT = pytest.mark.skipif(sys.version_info < (3, 9), reason="2.6 logs nothing on starting")


def call(arguments, **environ):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP_")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=str(ROOT), env={**inherited, **environ}, capture_output=True, text=True
    )


THROUGHPUT = ["ipu_inference.py", *TINY, "--engine", "tensorflow"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["ipu_inference.py", "--list-devices"],
        pytest.param(THROUGHPUT, marks=pytest.mark.slow),
        pytest.param([*THROUGHPUT, "--model-precision", "half", "--onchip-nms", "false"], marks=pytest.mark.slow),
        ["-m", "ipu_utils.doctor"],
        pytest.param(["-m", "ipu_utils.compare_precision", *TINY[:4], *IMAGES], marks=pytest.mark.slow),
        pytest.param(["ipu_embedded_inference.py", *TINY[:6]], marks=[pytest.mark.slow, CURRENT]),
    ],
    ids=["list-devices", "throughput", "half", "doctor", "compare_precision", "embedded"],
)
def test_no_start_up_notices_on_standard_error(arguments):
    done = call(arguments)
    notes = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert done.returncode == 0 and notes == []


@CURRENT
@pytest.mark.slow
def test_they_are_there_for_whoever_asks(tmp_path):
    done = call(["-c", "from ipu_utils.base.keras2 import tf; tf.zeros(1) + 1"], TF_CPP_MIN_LOG_LEVEL="0")
    assert "cpu_feature_guard" in done.stderr  # the one that every CPU has
    quiet = call(["-c", "from ipu_utils.base.keras2 import tf; tf.zeros(1) + 1"], TF_CPP_MIN_LOG_LEVEL="2")
    assert "cpu_feature_guard" not in quiet.stderr  # nor for who asks for errors only


def fake(tmp_path, ending):
    """A TensorFlow that logs, says something without a line's end, and goes on as it is told."""
    written = "\\n".join([LOGS[0], "not of a log", LOGS[1], "half a line"])
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(f"import os, sys\nos.write(2, b'{written}')\n{ending}\n")
    return call(["ipu_inference.py", "--device", "cpu", "--engine", "tensorflow"], PYTHONPATH=str(tmp_path))


@CURRENT
def test_what_was_logged_is_shown_where_the_import_fails(tmp_path):
    done = fake(tmp_path, "raise ImportError('no luck')")
    *before, last = done.stderr.splitlines()
    assert sorted(before) == sorted([*LOGS, "not of a log", "half a line"])
    assert done.returncode == 2 and last.startswith("error: TensorFlow cannot be imported (no luck)")


@CURRENT
def test_what_was_logged_is_shown_where_the_import_ends_the_process(tmp_path):
    done = fake(tmp_path, "os.abort()")
    assert done.returncode < 0 and all(line in done.stderr.splitlines() for line in LOGS)


@CURRENT
def test_only_logs_are_held_back(tmp_path):
    code = (
        "import os, sys\n"
        "from ipu_utils.base.start_notices import held_back\n"
        "print('before', file=sys.stderr)\n"
        "with held_back():\n"
        f"    os.write(2, b'{LOGS[0]}\\nWARNING: All log messages before absl::InitializeLog() is called\\n')\n"
        "    print('of another thread', file=sys.stderr)\n"
        "    os.write(2, b'2026-01-01 00:00:00.123456: W tensorflow/x.cc:1] old form\\n')\n"
        "    os.write(2, b'INFO: [environment.cc:36] LiteRT\\nWARNING: [npu_registry.cc:34] LiteRT, too\\n')\n"
        f"os.write(2, b'{LOGS[1]}\\n')\n"
    )
    assert call(["-c", code]).stderr.splitlines() == ["before", "of another thread", LOGS[1]]
    closed = subprocess.run(
        f'"{sys.executable}" -c "from ipu_utils.base.start_notices import held_back\nwith held_back(): print(5)" 2>&-',
        shell=True, cwd=str(ROOT), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert closed.stdout == "5\n" and closed.returncode == 0
