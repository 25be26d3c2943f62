# SPDX-License-Identifier: Apache-2.0
"""What tells one executable from another."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipu_utils.base import hardware, machine
from ipu_utils.config.model_options import ModelConfig
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.executable import cache, file, fingerprint
from ipu_utils.model import checkpoint_files

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkpoint(tmp_path):
    """A folder as a published archive leaves it."""
    folder = tmp_path / "efficientdet-d0"
    folder.mkdir()
    for name in ("checkpoint", "model.index", "model.meta", "model.data-00000-of-00001", "d0_coco_test-dev2017.txt"):
        (folder / name).write_text(name)
    return folder


def names(path):
    return [path.name for path in checkpoint_files.checkpoint_files(path)]


WHOLE = ["checkpoint", "model.data-00000-of-00001", "model.index"]


def test_a_folder_a_prefix_and_a_part_name_the_same_weights(checkpoint):
    assert names(checkpoint) == WHOLE
    assert names(checkpoint.parent) == WHOLE  # an archive unpacked into a folder of its own
    assert names(checkpoint / "model") == WHOLE[1:]
    assert names(checkpoint / "model.index") == WHOLE[1:]
    assert names(checkpoint / "model.data-00000-of-00001") == WHOLE[1:]


@pytest.mark.parametrize("name", ["d0.h5", "efficientdet-d0.tar.gz", "lite0.tgz"])
def test_a_single_file_may_hold_the_weights(tmp_path, name):
    (tmp_path / name).write_text("")
    assert names(tmp_path / name) == names(tmp_path) == [name]


def test_there_may_be_none(tmp_path):
    (tmp_path / "checkpoint").write_text("names a file that is not there")
    assert names(tmp_path) == names(tmp_path / "absent") == names(tmp_path / "no" / "such" / "prefix") == []


def test_the_one_checkpoint_of_a_path_has_a_name(checkpoint, tmp_path):
    assert (
        checkpoint_files.checkpoint_name(checkpoint)
        == checkpoint_files.checkpoint_name(checkpoint.parent)
        == checkpoint / "model"
    )
    assert checkpoint_files.checkpoint_name(checkpoint / "model") == checkpoint / "model"
    (checkpoint / "other.index").write_text("")
    assert checkpoint_files.checkpoint_name(checkpoint) == checkpoint
    assert checkpoint_files.checkpoint_name(tmp_path / "none") == tmp_path / "none"


def test_checkpoints_of_equal_content_are_one_executable_and_two_places(checkpoint, tmp_path):
    copy = tmp_path / "copy (2)" / "efficientdet-d0"
    shutil.copytree(str(checkpoint), str(copy))
    headers = []
    for folder in (checkpoint, copy):
        config = load_config(["--model-dir", str(folder)], "embedded", choose_device=lambda asked: "cpu")
        headers.append(cache.plan(config, "float32", "float32", "OpenVINO", ("x86_64",)))
    assert headers[0] == headers[1] and not headers[0].random_weights
    written = cache.with_weights(
        headers[0], f"7 of 7 variables from {checkpoint}/model (TensorFlow 1 checkpoint, averaged)", False
    )
    told = cache.told_anew(written, config)
    assert told.weights == f"7 of 7 variables from {copy}/model (TensorFlow 1 checkpoint, averaged)"


def test_weights_are_known_by_content_not_by_age(checkpoint):
    recipe = {"no_ema": False}
    before = fingerprint.of_weights(checkpoint, False, recipe)
    os.utime(str(checkpoint / "model.index"), (0, 0))
    assert fingerprint.of_weights(checkpoint, False, recipe) == before
    (checkpoint / "model.data-00000-of-00001").write_text("retrained")
    assert fingerprint.of_weights(checkpoint, False, recipe) != before
    assert fingerprint.of_weights(checkpoint, False, {"no_ema": True}) != fingerprint.of_weights(
        checkpoint, False, recipe
    )


def test_random_weights_do_not_depend_on_a_checkpoint(checkpoint, tmp_path):
    seed = {"seed": 1}
    assert fingerprint.of_weights(checkpoint, True, seed) == fingerprint.of_weights(tmp_path / "none", False, seed)
    assert fingerprint.of_weights(checkpoint, True, {"seed": 2}) != fingerprint.of_weights(checkpoint, True, seed)


def test_the_order_of_keys_is_not_part_of_a_value():
    assert fingerprint.digest({"a": 1, "b": [2, None]}) == fingerprint.digest({"b": [2, None], "a": 1})
    assert fingerprint.digest({"a": 1}) != fingerprint.digest({"a": 1.5})


def header_of(*arguments, **more):
    config = load_config(["--random-weights", *arguments], "embedded", choose_device=lambda asked: "cpu")
    return cache.plan(config, "float32", "float32", "OpenVINO", ("x86_64",), **more)


def key(*arguments, **more):
    return cache.cached_file(Path(), header_of(*arguments, **more))


@pytest.mark.parametrize("package", ["tensorflow", "tf-keras"])
def test_another_version_of_what_makes_the_network_is_another_executable(monkeypatch, package):
    installed = {"numpy": "1.26.4", "tensorflow": "2.20.0", "tf-keras": "2.20.0", "keras": "3.0"}
    monkeypatch.setattr(machine, "package_version", installed.get)
    before = header_of()
    assert before.versions == {"tensorflow": "2.20.0", "keras": "2.20.0", "numpy": "1.26.4"}
    first = key()
    installed[package] = "2.21.0"
    assert key() != first
    assert file.differences(before, header_of()) == [
        f"it was made with {'tensorflow' if package == 'tensorflow' else 'keras'} 2.20.0, not 2.21.0"
    ]
    installed.update({package: "2.20.0", "keras": "3.1"})  # which tf-keras stands in for
    assert key() == first


def test_tensorflow_has_several_names(monkeypatch):
    monkeypatch.setattr(machine, "package_version", {"tensorflow-cpu": "2.20.0"}.get)
    assert header_of().versions == {"tensorflow": "2.20.0"}


def test_an_operator_in_the_program_is_known_by_its_content(tmp_path):
    files = [tmp_path / "nms_custom_op.so", tmp_path / "codelet.gp"]
    for path in files:
        path.write_bytes(b"1")
    first = key(operator=files)
    assert first != key()
    for path in files:
        path.write_bytes(b"2")
        assert key(operator=files) != first
        path.write_bytes(b"1")
    os.utime(str(files[0]), (0, 0))
    assert key(operator=files) == first


def test_each_kind_of_executable_has_sources_of_its_own():
    assert len({key(builder=builder) for builder in (cache.NETWORK, cache.GRAPH, cache.PROGRAM)}) == 3


def test_only_instruction_sets_that_choose_kernels_count(monkeypatch):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx512f", "avx2", "hypervisor", "msr"}))
    assert fingerprint.cpu_features()[1:] == ("avx2", "avx512f")


def test_planning_needs_neither_tensorflow_nor_openvino():
    code = "import sys; from ipu_utils.executable import cache, fingerprint, file\n"
    code += "from ipu_utils.launch import requests; from ipu_utils.report import text; print([m for m in "
    code += "('tensorflow', 'tf_keras', 'openvino') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_single_checkpoint_is_known_by_its_content_whatever_it_is_called(tmp_path):
    def written(folder, name, content=b"weights", state=None):
        (tmp_path / folder).mkdir()
        for part in (".index", ".data-00000-of-00001"):
            (tmp_path / folder / (name + part)).write_bytes(content + part.encode())
        if state is not None:
            (tmp_path / folder / "checkpoint").write_text(f'model_checkpoint_path: "{state}"')
        return tmp_path / folder

    def of(path):
        return fingerprint.of_weights(path, False, {})

    first, renamed = written("a", "model"), written("b", "model.ckpt-7", state="model.ckpt-7")
    assert of(first) == of(renamed) == of(renamed / "model.ckpt-7")
    assert of(written("c", "model", b"others")) != of(first)
    files = [tmp_path / name for name in ("x.h5", "y.h5")]
    for path in files:
        path.write_bytes(b"same")
    assert of(files[0]) == of(files[1])


def test_of_several_checkpoints_the_names_count(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.index").write_bytes(name.encode())
        (tmp_path / f"{name}.data-00000-of-00001").write_bytes(name.encode())
    found = set()
    for state in ("a", "b"):
        (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{state}"')
        found.add(fingerprint.of_weights(tmp_path, False, {}))
    assert len(found) == 2


def test_hyper_parameters_are_known_by_what_they_say_not_by_how_it_was_said(tmp_path):
    (tmp_path / "a.yaml").write_text("nms_configs:\n  iou_thresh: 0.6\n")
    labels = tmp_path / "labels.yaml"
    labels.write_text("1: shape\n")
    found = [fingerprint.of_hparams(hparams_of(ModelConfig(hparams=text))) for text in (
        "nms_configs.iou_thresh=0.6", str(tmp_path / "a.yaml"), f"nms_configs.iou_thresh=0.6,label_map={labels}",
        "nms_configs.iou_thresh=0.7")]  # fmt: skip
    assert found[0] == found[1] == found[2] != found[3]


def test_without_tensorflow_no_package_takes_part_in_making_a_network(monkeypatch):
    there = {"numpy": "1.26.4", "tf-keras": "2.21.0", "tensorflow": "2.21.0"}
    monkeypatch.setattr(machine, "package_version", there.get)
    assert fingerprint.versions() == {"numpy": "1.26.4", "tensorflow": "2.21.0", "keras": "2.21.0"}
    del there["tensorflow"]
    assert fingerprint.versions() == {}
