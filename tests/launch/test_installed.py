# SPDX-License-Identifier: Apache-2.0
"""Which engines can be used: asked of the engines themselves, in another process."""

import sys

import pytest

from ipu_utils.executable.engines import ENGINES
from ipu_utils.launch.installed import missing_engines

HOSTS = [word for word in ENGINES if word != "tensorflow"]  # whose import takes seconds


def test_an_engine_that_is_damaged_or_another_package_is_named_with_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text("print('hello')")
    (tmp_path / "ai_edge_litert" / "interpreter.py").touch()
    (tmp_path / "openvino.py").write_text("raise ImportError('libopenvino.so is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = missing_engines(["litert", "openvino"])
    assert list(found) == ["litert", "openvino"]
    assert "is not LiteRT: install it with" in found["litert"]
    assert found["openvino"].startswith("OpenVINO cannot be imported (libopenvino.so is missing)")
    (tmp_path / "openvino.py").write_text("raise OSError('no such file')")
    assert "no such file" in missing_engines(["openvino"])["openvino"]


def test_engines_that_are_there_are_not_named_and_not_imported_here():
    pytest.importorskip("openvino")
    before = set(sys.modules)
    assert "openvino" not in missing_engines(HOSTS)
    assert set(sys.modules) == before
    assert missing_engines([]) == {}


def test_an_engine_whose_import_ends_the_process_is_left_to_its_own_run(tmp_path, monkeypatch):
    (tmp_path / "openvino.py").write_text("import os; os._exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert missing_engines(["openvino"]) == {}


@pytest.mark.slow
def test_tensorflow_is_asked_too(tmp_path, monkeypatch):
    assert missing_engines(["tensorflow"]) == {}
    (tmp_path / "tensorflow.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "is not TensorFlow" in missing_engines(["tensorflow"])["tensorflow"]
