# SPDX-License-Identifier: Apache-2.0
"""Building the libraries of NMS/, finding them, and what is said when one is missing or does not fit."""

import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import ipu_nms
from ipu_utils.base.keras2 import tf
from ipu_utils.nms import libdetect, libraries

pytest_plugins = ["native_fixtures"]
NMS = libraries.ROOT / "NMS"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="building needs g++")


def make(*arguments, cwd=NMS):
    command = ["make", "--no-print-directory", "-C", str(cwd), *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def arguments_of_nms():
    return 0.5, 0.1, 2, np.ones((1, 3), np.float32), np.zeros((1, 3, 4), np.float32)


def test_a_missing_library_says_how_to_build_it(monkeypatch, tmp_path):
    monkeypatch.setattr(libraries, "HOST_BUILD", tmp_path)
    path = libraries.operators_path()
    with pytest.raises(ipu_nms.CustomOpsNotFoundException) as caught:
        ipu_nms.nms_op(*arguments_of_nms())
    expected = f'{path} is missing. Run "make" in {libraries.ROOT}, or pass --onchip-nms false.'
    assert str(caught.value).startswith(expected)
    assert not ipu_nms.available("cpu")
    libdetect._library.cache_clear()
    with pytest.raises(ipu_nms.CustomOpsNotFoundException, match=r"libdetect\.so is missing"):
        libdetect.Detector(np.zeros((9, 4)), [9], 90, (64, 64))


def test_a_library_built_for_another_tensorflow_is_not_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(libraries, "HOST_BUILD", tmp_path)
    path = libraries.operators_path()
    path.parent.mkdir()
    # Loading this would fail in another way: the record is read first.
    path.write_bytes(b"\x7fELF ... NMS_HOST_BUILD tensorflow=1.99.0 abi=0; ...")
    with pytest.raises(ipu_nms.CustomOpsNotFoundException, match=r"built for tf-1\.99\.0-abi0, this is tf-") as caught:
        ipu_nms.nms_op(*arguments_of_nms())
    assert 'Run "make" in' in str(caught.value) and f"BUILD_PYTHON={sys.executable}" in str(caught.value)


@pytest.mark.parametrize("record", [True, False])
def test_a_damaged_library_is_an_error_that_says_run_make(monkeypatch, tmp_path, record):
    monkeypatch.setattr(libraries, "HOST_BUILD", tmp_path)
    path = libraries.operators_path()
    path.parent.mkdir()
    text = f"NMS_HOST_BUILD tensorflow={tf.__version__} abi={tf.sysconfig.CXX11_ABI_FLAG};" if record else "nothing"
    path.write_text(text)
    message = "cannot be loaded" if record else "was built for something else than TensorFlow"
    with pytest.raises(ipu_nms.CustomOpsNotFoundException, match=message):
        ipu_nms.nms_op(*arguments_of_nms())


def test_the_built_library_records_its_tensorflow(host_libraries):
    wanted = f"NMS_HOST_BUILD tensorflow={tf.__version__} abi={tf.sysconfig.CXX11_ABI_FLAG};"
    assert wanted.encode() in libraries.operators_path().read_bytes()
    assert ipu_nms.available("cpu") and ipu_nms.available("gpu")


def test_a_library_of_another_interface_is_refused(host_libraries, monkeypatch):
    libdetect._library.cache_clear()
    monkeypatch.setattr(libdetect, "_INTERFACE", 999)
    with pytest.raises(ipu_nms.CustomOpsNotFoundException, match="of another version"):
        libdetect._library(libraries.libdetect_path())


def test_only_the_interface_is_exported(host_libraries):
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(libraries.libdetect_path())], stdout=subprocess.PIPE, text=True
    )
    strong = [line.split()[2] for line in listed.stdout.splitlines() if line.split()[1] in "TDRBi"]
    assert sorted(strong) == ["detect_create", "detect_destroy", "detect_interface", "detect_run"]


def test_without_the_poplar_sdk_make_says_what_it_left_out():
    result = make("poplar", "POPC=popc-is-not-here")
    assert result.returncode == 0
    assert "NMS/tf, NMS/tf_multi: skipped, popc-is-not-here was not found" in result.stdout


@needs_compiler
def test_multinms_is_a_name_for_building_every_form(host_libraries):  # Graphcore's example has it
    result = make("multinms", f"BUILD_PYTHON={sys.executable}", "POPC=popc-is-not-here", cwd=libraries.ROOT)
    assert result.returncode == 0, result.stdout
    assert "NMS/tf, NMS/tf_multi: skipped" in result.stdout


def test_without_a_clang_lint_says_that_the_codelets_were_not_checked():
    result = make("lint-codelets", "CLANG=", cwd=libraries.ROOT)
    assert result.returncode == 0
    assert "codelets: not checked, no clang was found (apt-get install clang" in result.stdout


@pytest.mark.skipif(shutil.which("clang++") is None, reason="needs a clang")
def test_codelets_give_a_clang_nothing_to_warn_of(tmp_path):
    result = make("lint-codelets", cwd=libraries.ROOT)
    assert result.returncode == 0 and "NMS/codelet.cpp" in result.stdout, result.stdout
    text = (NMS / "codelet.cpp").read_text().replace("  NmsSelect();\n", "")
    (tmp_path / "codelet.cpp").write_text(text)
    result = make("lint-codelets", f"CODELETS={tmp_path / 'codelet.cpp'}", cwd=libraries.ROOT)
    assert result.returncode != 0
    assert "does not declare any constructor to initialize its non-modifiable members" in result.stdout


@needs_compiler
def test_without_tensorflow_make_says_what_it_left_out(host_libraries):
    # -S leaves out site-packages.
    result = make("host", f"PYTHON={sys.executable} -S")
    assert result.returncode == 0, result.stdout
    assert "cannot import TensorFlow" in result.stdout and "operators for TensorFlow skipped" in result.stdout


def test_without_a_compiler_make_says_what_to_install(tmp_path):
    result = make("libdetect", f"BUILD={tmp_path}", "CXX=no-such-compiler", cwd=NMS / "host")
    assert result.returncode != 0 and "no-such-compiler was not found. Install g++" in result.stdout


@pytest.mark.slow
def test_nothing_is_built_twice(host_libraries):
    result = make("host", f"PYTHON={sys.executable}")
    assert result.returncode == 0 and result.stdout == ""


@pytest.mark.slow
@needs_compiler
def test_a_changed_header_rebuilds_what_includes_it_and_nothing_else(tmp_path):
    for folder in ("NMS", "ipu_utils"):
        shutil.copytree(
            libraries.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("build", "__pycache__")
        )
    host = tmp_path / "NMS" / "host"
    assert make("libdetect", cwd=host).returncode == 0
    later = time.time() + 2
    os.utime(host / "scan.hpp", (later, later))
    result = make("libdetect", cwd=host)
    assert [name for name in ("scan.cpp", "pipeline.cpp", "libdetect.cpp") if f"compiling {name}" in result.stdout] == [
        "scan.cpp",
        "pipeline.cpp",
    ]


def test_flags_reach_the_compiler_through_make_and_a_shell_as_they_are(tmp_path):
    words = ["-isystem", "/a b/$HOME/#1", "it's", "-D_X=1"]
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import build_flags; print(build_flags.for_make(sys.argv[2:]))"
    )
    command = [sys.executable, "-c", script, str(NMS / "host"), *words]
    flags = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    (tmp_path / "Makefile").write_text(f"FLAGS := {flags}all:\n\t@printf '%s\\n' $(FLAGS)\n")
    assert make(cwd=tmp_path).stdout.splitlines() == words


@pytest.mark.slow
@needs_compiler
def test_a_checkout_and_an_environment_in_folders_with_a_space_are_built(tmp_path):
    root = tmp_path / "a folder" / "its checkout"
    for folder in ("NMS", "ipu_utils"):
        shutil.copytree(libraries.ROOT / folder, root / folder, ignore=shutil.ignore_patterns("build", "__pycache__"))
    shutil.copy(libraries.ROOT / "Makefile", root)
    packages = root / "packages"  # TensorFlow's folder, whose path the compiler and the library get to know
    packages.mkdir()
    (packages / "tensorflow").symlink_to(Path(tf.__file__).parent, target_is_directory=True)
    python = root / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    result = make(f"BUILD_PYTHON={python}", cwd=root)
    assert result.returncode == 0 and list(root.glob("NMS/host/build/tf-*/host_nms.so")), result.stdout


@pytest.mark.slow
@needs_compiler
def test_two_makes_at_once_do_not_damage_each_other(tmp_path):
    command = ["make", "-C", str(NMS / "host"), "libdetect", f"BUILD={tmp_path}"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(3)]
    for process in running:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert ctypes.CDLL(str(tmp_path / "libdetect.so")).detect_interface() == 3
    assert not [path for path in Path(tmp_path).rglob("*") if ".tmp" in path.name]


@pytest.mark.slow
@needs_compiler
def test_the_library_passes_its_tests_under_sanitizers():
    result = make("sanitize")
    assert result.returncode == 0, result.stdout
    assert "all tests of the host library passed" in result.stdout
    assert result.stdout.count("all tests of careless calls passed") == 2  # once more with ThreadSanitizer
