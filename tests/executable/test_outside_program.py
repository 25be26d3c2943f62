# SPDX-License-Identifier: Apache-2.0
"""A program in another folder runs a compiled model, beside modules of its own that are called as ours are."""

import importlib
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from ipu_utils.executable import sources
from ipu_utils.nms import libraries

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPH = sorted((ROOT / "tests" / "data" / "images").glob("*.jpg"))[0]
PUBLISHED = ("ipu_utils.executable.runtime", "ipu_utils.embedded.runtime", "ipu_utils.data.decode")
# Modules of this project that are not in ipu_utils, modules and packages.
MODULES = sorted(path.stem for path in ROOT.glob("*.py"))
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "ipu_utils")

PROGRAM = """
import importlib, json, sys
from pathlib import Path

own = [importlib.import_module(name) for name in json.loads(sys.argv[1])] if {own_first} else []
from ipu_utils.data.decode import read_image
from ipu_utils.embedded.runtime import EmbeddedModel

found = []
if len(sys.argv) > 3:
    found = [part.tolist() for part in EmbeddedModel.load(sys.argv[3]).detect(read_image(sys.argv[2]))]
own = own or [importlib.import_module(name) for name in json.loads(sys.argv[1])]
here = Path(__file__).resolve().parent
assert all(here in Path(module.__file__).resolve().parents for module in own), own
files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
print(json.dumps([[str(Path(file).resolve()) for file in files if file], found]))
"""


@pytest.fixture
def folder(tmp_path):
    """Where a program lies that has a module of its own for each of ours."""
    folder = tmp_path / "program"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text("")
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The Python of an environment that can import this project in the way that docs/EMBEDDED.md shows."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(str(folder), symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "packages.pth").write_text("\n".join(packages))  # instead of installing OpenVINO there
    text = (ROOT / "docs" / "EMBEDDED.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    (echo .*\.pth\")$", text, re.MULTILINE)
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    subprocess.run(["sh", "-c", command], cwd=str(ROOT), env={**os.environ, "PATH": path}, check=True)
    return folder / "bin" / "python"


def run(python, folder, *arguments, own_first=True, **more):
    """Run the program in its own folder; return the files of all its modules, and what it detected."""
    (folder / "program.py").write_text(PROGRAM.format(own_first=own_first))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "program.py", json.dumps(MODULES + PACKAGES), str(PHOTOGRAPH), *map(str, arguments)],
        cwd=str(folder),
        env={**variables, **more},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return json.loads(done.stdout.decode())


def ours(files):
    """Those of this project, relative to its folder."""
    found = [Path(file).relative_to(ROOT).as_posix() for file in files if ROOT in Path(file).parents]
    return [name for name in found if not name.startswith(".venv")]


def check_imports(files):
    loaded = ours(files)
    assert "ipu_utils/executable/runtime.py" in loaded and "ipu_utils/nms/anchors.py" in loaded
    assert [name for name in loaded if not name.startswith("ipu_utils/")] == []


@pytest.mark.parametrize("own_first", [True, False])
def test_a_program_with_modules_of_these_names_imports_what_it_needs(environment, folder, own_first):
    assert {"utils", "hparams_config", "nms_np"} <= set(MODULES) and {"tf2", "backbone"} <= set(PACKAGES)
    check_imports(run(environment, folder, own_first=own_first)[0])


def test_pythonpath_does_as_well(folder):
    check_imports(run(sys.executable, folder, PYTHONPATH=str(ROOT))[0])


@pytest.mark.slow
def test_such_a_program_detects_what_this_one_detects(environment, folder, tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is not installed (there is none for Python 3.8)")
    if not libraries.libdetect_path().is_file():
        pytest.skip("NMS/host/build/libdetect.so is not built: run make")
    model = ["--model-name", "efficientdet-lite0", "--image-size", "64", "--random-weights", "--device", "cpu"]
    command = [sys.executable, "ipu_embedded_inference.py", *model, "--exec-output-dir", str(tmp_path / "kept")]
    subprocess.run([*command, "--compile-only"], cwd=str(ROOT), stdout=subprocess.DEVNULL, check=True)
    (file,) = (tmp_path / "kept").glob("*.effdet")
    decode, runtime = (importlib.import_module(name) for name in ("ipu_utils.data.decode", PUBLISHED[0]))
    expected = runtime.EmbeddedModel.load(file).detect(decode.read_image(PHOTOGRAPH))
    assert len(expected.boxes) > 5, "there is nothing to compare"
    loaded, found = run(environment, folder, file)
    check_imports(loaded)
    for wanted, got in zip(expected, found):
        np.testing.assert_array_equal(np.array(got, wanted.dtype), wanted)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_programs_import_lies_in_ipu_utils_alone(name):
    found = [path.relative_to(ROOT).as_posix() for path in sources.closure([name])]
    assert f"{name.replace('.', '/')}.py" in found
    assert [path for path in found if not path.startswith("ipu_utils/")] == []
