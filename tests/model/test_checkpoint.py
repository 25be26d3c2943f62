# SPDX-License-Identifier: Apache-2.0
"""Checkpoints load completely and correctly, or not at all and with a reason."""

import json
import os
import shutil
from pathlib import Path

import checkpoints
import golden_network
import numpy as np
import pytest

import hparams_config
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.base.printable import shown
from ipu_utils.model import checkpoint
from tf2.efficientdet_keras import EfficientDetNet

DATA = Path(__file__).resolve().parents[1] / "data"
GOLDEN = golden_network.live("efficientdet-lite0")


def new_model(hparams="", name="efficientdet-lite0"):
    config = hparams_config.get_efficientdet_config(name)
    config.override(hparams)
    model = EfficientDetNet(config=config)
    model(tf.zeros((1, 32, 32, 3)), training=False)
    return model


@pytest.fixture(scope="module")
def model():
    return new_model()


@pytest.fixture
def blank(model):
    """The model with other values in its variables than any checkpoint here."""
    for weight in model.weights:
        weight.assign(tf.fill(weight.shape, 0.5))
    return model


@pytest.fixture(scope="module")
def values(model):
    return GOLDEN.weights()


def is_untouched(model):
    return all((weight.numpy() == 0.5).all() for weight in model.weights)


def assert_golden(model):
    class_outputs, box_outputs = model(GOLDEN.input(), training=False)
    GOLDEN.assert_equal([*class_outputs, *box_outputs])


def test_a_published_checkpoint_gives_its_averaged_copies(blank, values, tmp_path):
    raw = {name: value + 1 for name, value in values.items()}
    checkpoints.write_tf1_checkpoint(tmp_path / "efficientdet-lite0", raw, averages=values)
    report = checkpoint.load_weights(blank, tmp_path / "efficientdet-lite0")
    assert (report.form, report.variable_set) == ("TensorFlow 1 checkpoint", "averaged")
    assert report.matched == report.total == len(values)
    assert report.path == str(tmp_path / "efficientdet-lite0" / "model")
    assert str(report).startswith(f"{len(values)} of {len(values)} variables from ")
    assert_golden(blank)


def test_the_raw_variables_are_taken_when_asked_for_or_alone(blank, values, tmp_path):
    other = {name: value + 1 for name, value in values.items()}
    both = checkpoints.write_tf1_checkpoint(tmp_path / "both", values, averages=other)
    assert checkpoint.load_weights(blank, both, use_ema=False).variable_set == "raw"
    for weight, value in zip(blank.weights, values.values()):
        np.testing.assert_array_equal(weight, value)
    alone = checkpoints.write_tf1_checkpoint(tmp_path / "alone", other)
    assert checkpoint.load_weights(blank, alone).variable_set == "raw"
    np.testing.assert_array_equal(blank.weights[0], other[next(iter(values))])


@pytest.mark.parametrize("form", [pytest.param("save_weights", marks=pytest.mark.slow), "Checkpoint", "h5"])
def test_what_keras_saves_loads_again(blank, values, tmp_path, form):
    saved = new_model()
    for weight, value in zip(saved.weights, values.values()):
        weight.assign(value)
    if form == "Checkpoint":
        tf.train.CheckpointManager(tf.train.Checkpoint(model=saved), str(tmp_path), max_to_keep=1).save()
    else:
        saved.save_weights(str(tmp_path / ("model.h5" if form == "h5" else "model")))
    report = checkpoint.load_weights(blank, tmp_path)
    assert report.form == ("h5 file" if form == "h5" else "object-based checkpoint")
    assert report.variable_set == "as saved" and report.matched == len(values)
    assert_golden(blank)


@pytest.mark.parametrize("name", ["efficientdet-lite0", pytest.param("efficientdet-d1", marks=pytest.mark.slow)])
def test_object_keys_are_the_published_ones(name):
    expected = json.loads((DATA / "variables" / f"{name}.json").read_text())["object_checkpoint_keys"]
    keys = checkpoint.object_keys(new_model(name=name))
    assert sorted(keys) == sorted(expected)


def test_a_checkpoint_is_found_by_folder_prefix_file_and_archive(values, tmp_path):
    prefix = checkpoints.write_tf1_checkpoint(tmp_path / "out" / "efficientdet-lite0", values)
    archive = checkpoints.pack(tmp_path / "efficientdet-lite0.tar.gz", prefix.parent, "efficientdet-lite0")
    for given in (prefix.parent, tmp_path / "out", prefix, f"{prefix}.index", f"{prefix}.data-00000-of-00001"):
        assert checkpoint.find_checkpoint(given) == prefix
    assert checkpoint.find_checkpoint(archive) == archive
    for nothing in (tmp_path / "missing", tmp_path / "out" / "missing"):
        assert checkpoint.find_checkpoint(nothing) is None


def test_an_archive_loads(blank, values, tmp_path):
    prefix = checkpoints.write_tf1_checkpoint(tmp_path / "efficientdet-lite0", values)
    checkpoints.pack(tmp_path / "published.tgz", prefix.parent, "./out/efficientdet-lite0")
    report = checkpoint.load_weights(blank, tmp_path / "published.tgz")
    assert report.path == str(tmp_path / "published.tgz") and report.matched == len(values)
    np.testing.assert_array_equal(blank.weights[5], values[checkpoint.variable_names(blank)[5]])


def test_a_folder_of_several_checkpoints_is_refused(values, tmp_path):
    one = {"kernel": np.zeros(3, np.float32)}
    for name in ("a", "b"):
        checkpoints.write_tf1_checkpoint(tmp_path / name, one)
    with pytest.raises(UserError, match="holds 2 checkpoints"):
        checkpoint.find_checkpoint(tmp_path)


def test_a_missing_checkpoint_shows_the_command_that_fetches_it(blank, tmp_path):
    with pytest.raises(UserError, match=r"python -m ipu_utils\.fetch_weights --model-name efficientdet-lite0"):
        checkpoint.load_weights(blank, tmp_path / "nothing")


def test_an_archive_of_two_checkpoints_is_refused(blank, tmp_path):
    for name in ("a", "b"):
        checkpoints.write_tf1_checkpoint(tmp_path / "both" / name, {"kernel": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match="holds 2 checkpoints"):
        checkpoint.load_weights(blank, checkpoints.pack(tmp_path / "both.tgz", tmp_path / "both", "both"))


def test_a_copied_folder_does_not_lead_back_to_the_weights_it_was_copied_from(blank, values, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    checkpoints.write_tf1_checkpoint(old, {name: value + 1 for name, value in values.items()})
    shutil.copytree(str(old), str(new))
    (new / "checkpoint").write_text(f'model_checkpoint_path: "{old}/model"\n')
    assert checkpoint.find_checkpoint(new) == new / "model"


def without(values, name):
    return {key: value for key, value in values.items() if key != name}


BOX_BIAS, CLASS_BIAS = "box_net/box-predict/bias", "class_net/class-predict/bias"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: without(v, BOX_BIAS), f"1 are missing and 0 have another shape. {BOX_BIAS} is missing"),
        (lambda v: {**v, BOX_BIAS: np.zeros(4, np.float32)}, f"{BOX_BIAS} has shape [4], expected [36]"),
        (
            lambda v: {**v, CLASS_BIAS: np.zeros(180, np.float32)},
            "180 outputs where 90 classes and 9 anchors need 810: --hparams num_classes=20 fits",
        ),
        (
            lambda v: {k.replace("lite0", "b0"): x for k, x in v.items()},
            "It looks like efficientdet-d0: check --model-name",
        ),
        (lambda v: {f"resnet/{k}": x for k, x in v.items()}, "another kind of model"),
        (lambda v: {**v, "fpn_cells/cell_3/fnode0/bn/gamma": np.zeros(3, np.float32)}, "belongs to no layer"),
        (lambda v: {**v, BOX_BIAS: np.full(36, np.nan, np.float32)}, f"{BOX_BIAS} holds values that are not finite"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(blank, values, tmp_path, change, message):
    checkpoints.write_tf1_checkpoint(tmp_path, change(values))
    with pytest.raises(UserError) as error:
        checkpoint.load_weights(blank, tmp_path)
    assert message in str(error.value)
    assert is_untouched(blank)


def test_incomplete_averages_are_refused(blank, values, tmp_path):
    checkpoints.write_tf1_checkpoint(tmp_path, values, averages=without(values, BOX_BIAS))
    with pytest.raises(UserError, match="averaged copies are not complete"):
        checkpoint.load_weights(blank, tmp_path)
    assert is_untouched(blank)
    assert checkpoint.load_weights(blank, tmp_path, use_ema=False).matched == len(values)


def test_missing_fusion_weights_point_to_the_weight_method(values, tmp_path):
    checkpoints.write_tf1_checkpoint(tmp_path, values)
    with pytest.raises(UserError, match="fpn_weight_method=sum"):
        checkpoint.load_weights(new_model("fpn_weight_method=fastattn"), tmp_path)


def test_what_is_not_of_the_network_does_not_matter(blank, values, tmp_path):
    extra = {"box_net/box-0/bias/Momentum": np.zeros(3, np.float32), "learning_rate": np.float32(1)}
    extra["efficientnet-lite0/head/conv2d/kernel"] = np.zeros(3, np.float32)
    checkpoints.write_tf1_checkpoint(tmp_path, {**values, **extra})
    assert checkpoint.load_weights(blank, tmp_path).matched == len(values)


def test_damaged_files_are_refused_and_change_nothing(blank, values, tmp_path):
    prefix = checkpoints.write_tf1_checkpoint(tmp_path / "short", values)
    data = Path(f"{prefix}.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    (tmp_path / "text.h5").write_text("no HDF5")
    (tmp_path / "text.tgz").write_text("no archive")
    for path in (prefix, tmp_path / "text.h5", tmp_path / "text.tgz"):
        with pytest.raises(UserError, match=path.name):
            checkpoint.load_weights(blank, path)
        assert is_untouched(blank)


def test_a_model_of_half_precision_gets_rounded_values(values, tmp_path):
    checkpoints.write_tf1_checkpoint(tmp_path, values)
    try:
        tf.keras.backend.set_floatx("float16")
        tf.keras.mixed_precision.set_global_policy("float16")
        half = EfficientDetNet(config=hparams_config.get_efficientdet_config("efficientdet-lite0"))
        report = checkpoint.load_weights(half, tmp_path)  # Makes the variables as well.
    finally:
        tf.keras.backend.set_floatx("float32")
        tf.keras.mixed_precision.set_global_policy("float32")
    assert report.matched == len(values)
    kernel = next(weight for weight in half.weights if weight.dtype == tf.float16)
    np.testing.assert_array_equal(kernel, values[kernel.name.split(":")[0]].astype(np.float16))


@pytest.mark.parametrize("name", [os.fsdecode(b"m\xff\xfe"), "m\x1b[2J\nthroughput: 1"], ids=["no UTF-8", "escape"])
@pytest.mark.parametrize("given", ["folder", "prefix", "index"])
def test_a_checkpoint_loads_whatever_its_name_holds_and_tensorflow_logs_none_of_it(
    blank, values, tmp_path, name, given, capfd
):
    folder = tmp_path / f"folder{name}"
    checkpoints.write_tf1_checkpoint(tmp_path / "plain", values)
    (tmp_path / "plain").rename(folder)
    if given != "folder":
        for file in folder.glob("model.*"):
            file.rename(folder / file.name.replace("model", name))
    path = {"folder": folder, "prefix": folder / name, "index": folder / f"{name}.index"}[given]
    report = checkpoint.load_weights(blank, path)
    assert report.matched == report.total and name in report.path
    assert_golden(blank)
    for file in folder.glob("*.index"):
        file.write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be read") as caught:
        checkpoint.load_weights(blank, path)
    assert shown(name) in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert "\x1b" not in capfd.readouterr().err
