# SPDX-License-Identifier: Apache-2.0
"""What a run's options make of the published model configuration."""

from pathlib import Path

import numpy as np
import pytest

from ipu_automl_io import preprocess_normalize_image
from ipu_utils.base.keras2 import tf
from ipu_utils.config.model_options import ModelConfig
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_hparams import hparams_of, is_advprop, path_remark
from ipu_utils.report.text import input_range


@pytest.mark.parametrize(
    "path, expected",
    [
        ("weights/advprop/efficientdet-d0", True),
        ("weights/advprop/efficientdet-d0.tar.gz", True),
        ("weights/AdvProp/efficientdet-d0/model.index", True),
        ("efficientdet-d0-advprop", True),
        ("weights/coco2/efficientdet-d0", False),
        ("advprop/of/last/year/efficientdet-d0", False),
    ],
)
def test_advprop_weights_are_known_by_the_folders_that_hold_them(path, expected):
    assert is_advprop(ModelConfig(model_dir=Path("/data") / path)) is expected
    assert not is_advprop(ModelConfig(model_dir=Path("/data") / path, random_weights=True))


def test_a_relative_folder_inside_an_advprop_one_is_known_and_the_default_folder_is_not(tmp_path, monkeypatch):
    (tmp_path / "advprop").mkdir()
    monkeypatch.chdir(tmp_path / "advprop")
    assert is_advprop(ModelConfig(model_dir=Path("efficientdet-d0")))
    assert not is_advprop(ModelConfig())


def test_advprop_inputs_are_scaled_to_minus_one_to_one():
    config = hparams_of(ModelConfig(model_dir=Path("advprop/efficientdet-d0")))
    pixels = tf.constant([[[[0, 51, 255]]]], tf.uint8)
    scaled = preprocess_normalize_image(pixels, tf.float32, *normalisation_of(config))
    np.testing.assert_allclose(np.ravel(scaled), [-1, -0.6, 1], atol=1e-6)
    assert "inputs scaled to [-1, 1]" in path_remark(ModelConfig(model_dir=Path("advprop/efficientdet-d0")), config)
    by_hand = hparams_of(ModelConfig(hparams="mean_rgb=0.0,stddev_rgb=1.0,scale_range=True"))
    assert (config.mean_rgb, config.stddev_rgb, config.scale_range) == (0, 1, True)
    assert normalisation_of(by_hand) == normalisation_of(config)


def test_hparams_win_over_what_the_path_says_and_the_report_tells():
    model = ModelConfig(model_dir=Path("advprop/d0"), hparams="mean_rgb=0.0,stddev_rgb=255.0")
    config = hparams_of(model)
    assert (config.mean_rgb, config.stddev_rgb, config.scale_range) == (0, 255, False)
    assert "--hparams set other inputs" in path_remark(model, config)


def test_a_mean_and_deviation_of_127_5_are_advprops_inputs_too():
    model = ModelConfig(model_dir=Path("advprop/d0"), hparams="mean_rgb=127.5,stddev_rgb=127.5")
    config = hparams_of(model)
    assert normalisation_of(config) == normalisation_of(hparams_of(ModelConfig(model_dir=Path("advprop/d0"))))
    assert "inputs scaled to [-1, 1]" in path_remark(model, config)


def test_other_weights_keep_the_published_inputs_and_say_nothing():
    model = ModelConfig(model_dir=Path("coco2/d0"))
    assert hparams_of(model).mean_rgb == [0.485 * 255, 0.456 * 255, 0.406 * 255]
    assert path_remark(model, hparams_of(model)) == ""


@pytest.mark.parametrize(
    "name, path, remark",
    [
        ("efficientdet-d6", "/w/efficientdet-d7/model", "; its path says efficientdet-d7"),
        ("efficientdet-d7", "/w/efficientdet-d7x", "; its path says efficientdet-d7x"),
        ("efficientdet-d7x", "/w/efficientdet-d7x.tar.gz", ""),
        ("efficientdet-lite3", "/w/efficientdet-lite3x.tgz", "; its path says efficientdet-lite3x"),
        ("efficientdet-d0", "/w/mine/model", ""),
        ("efficientdet-d0", "/w/efficientdet-d1/to/my/efficientdet-d0", ""),
    ],
)
def test_a_path_that_names_another_model_is_remarked(name, path, remark):
    model = ModelConfig(model_name=name, model_dir=Path(path))
    assert path_remark(model, hparams_of(model)) == remark


@pytest.mark.parametrize(
    "hparams, told",
    [
        ("", ""),
        ("mean_rgb=0.0,stddev_rgb=1.0,scale_range=true", ", the network's inputs are -1 to 1"),
        ("scale_range=true", ", the network's inputs are -1.02 to -0.979"),  # AutoML scales what is normalised
    ],
)
def test_the_report_tells_what_scale_range_makes_of_the_inputs(hparams, told):
    config = load_config(["--random-weights", "--hparams", hparams], choose_device=lambda requested: "cpu")
    assert input_range(hparams_of(config.model)) == told
