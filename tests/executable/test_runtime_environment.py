# SPDX-License-Identifier: Apache-2.0
"""A machine that only runs: a fresh environment from requirements-runtime.txt, and a copy of the project beside it."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipu_utils.executable.engines import ENGINES
from ipu_utils.executable.file import read_header

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TENSORFLOW = [word for word in ENGINES if word != "tensorflow"]
OPTIONAL = {"onnxruntime"}  # whoever wants them installs them, as the requirements say
MODEL = ["--device", "cpu", "--model-name", "efficientdet-lite0", "--image-size", "64", "--random-weights"]
FEW = ["--num-repeats", "3", "--warmup", "1"]
PHOTOGRAPHS = ["--image-path", str(ROOT / "tests" / "data" / "images"), "--output-predictions", "--output-dir"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info < (3, 9), reason="the engines need Python 3.9 or later"),
]


def test_requirements_txt_has_the_same_packages_and_more():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert "-r requirements-runtime.txt" in lines
    names = re.findall(r"^([\w-]+)[>=]", (ROOT / "requirements-runtime.txt").read_text(), re.MULTILINE)
    assert len(names) >= 6 and not any(name.startswith(("tensorflow", "tf-keras", "keras")) for name in names)
    assert not {*names} & {*re.findall(r"^([\w-]+)[>=]", "\n".join(lines), re.MULTILINE)}


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """A copy of the project in which nothing was built, after `make setup-runtime`."""
    folder = tmp_path_factory.mktemp("device") / "project"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=str(ROOT), stdout=subprocess.PIPE, check=True).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        if not name.startswith(("tests/", "docs/")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(ROOT / name), str(folder / name))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MAKE", "VIRTUAL"))}
    subprocess.run(["make", "setup-runtime", f"PYTHON={sys.executable}"], cwd=str(folder), env=environ, check=True)
    wanted = [name for name in OPTIONAL if importlib.util.find_spec(name) is not None]
    if wanted:
        pip = [str(folder / ".venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted]
        subprocess.run(pip, env=environ, check=True)
    return folder


def run(folder, python, *arguments):
    """What a script printed; it has to end well."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), *map(str, arguments)], cwd=str(folder), env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_no_tensorflow(device):
    found = run(
        device, device / ".venv/bin/python", "-c", "import importlib.util as u; print(u.find_spec('tensorflow'))"
    )
    assert found.split() == ["None"]
    assert (device / "NMS/host/build/libdetect.so").is_file()


@pytest.mark.parametrize("engine", WITHOUT_TENSORFLOW)
def test_both_scripts_run_what_was_kept_elsewhere(device, tmp_path, engine):
    if engine in OPTIONAL:
        pytest.importorskip(engine, reason=f"{engine} is not installed")
    here, there = sys.executable, device / ".venv" / "bin" / "python"
    kept, cache = tmp_path / "kept", tmp_path / "cache"
    embedded, throughput = ["ipu_embedded_inference.py", *MODEL], ["ipu_inference.py", *MODEL]
    run(ROOT, here, *embedded, "--engine", engine, "--exec-output-dir", kept, "--compile-only")
    (file,) = kept.glob("*.effdet")
    given = ["ipu_embedded_inference.py", "--device", "cpu", "--exec-file", file]
    expected = (
        run(ROOT, here, *given, *PHOTOGRAPHS, tmp_path / "here") and (tmp_path / "here/detections.json").read_text()
    )
    assert sum(len(entry["detections"]) for entry in json.loads(expected)) > 20
    run(device, there, *given, *PHOTOGRAPHS, tmp_path / "there", "--results-json", tmp_path / "record.json")
    assert (tmp_path / "there" / "detections.json").read_text() == expected
    assert json.loads((tmp_path / "record.json").read_text())["executable"]["engine"] == read_header(file).engine

    few = [*FEW, "--benchmark-repeats", "2", "--engine", engine, "--executable-cache-dir", cache]
    run(ROOT, here, *throughput, *few)
    (kept_there,) = cache.glob("*.effdet")
    changed = kept_there.stat().st_mtime_ns
    out = run(device, there, *throughput, *few)
    assert "Benchmark complete." in out and "libdetect, behind the network" in out
    assert [path.stat().st_mtime_ns for path in cache.glob("*")] == [changed], "it was compiled again"
    shutil.rmtree(str(cache))
    done = subprocess.run([str(there), *throughput, *map(str, few)], cwd=str(device), capture_output=True, text=True)
    assert done.returncode == 2 and re.search("TensorFlow|tf2onnx", done.stderr) and "Traceback" not in done.stderr
