# SPDX-License-Identifier: Apache-2.0
"""Images that int8 is calibrated on: which are taken, when a run has none; executables are known by them."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipu_utils.base.errors import UserError
from ipu_utils.config.normalisation import padding_colour
from ipu_utils.config.run_config import load_config
from ipu_utils.data.decode import read_image
from ipu_utils.data.resize import fit_image
from ipu_utils.executable import cache
from ipu_utils.executable.calibration import calibration_of
from ipu_utils.executable.file import differences

PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "data" / "images"
MODEL = ["--model-name", "efficientdet-lite0", "--image-size", "96x64", "--model-precision", "int8"]


def configured(*arguments):
    return load_config([*MODEL, *map(str, arguments)], "embedded", choose_device=lambda requested: "cpu")


def chosen(*arguments, random=False):
    config = configured(*arguments)
    return calibration_of(config, cache.hparams_of(config), random)


def header(*arguments):
    return cache.plan(configured("--random-weights", *arguments), "int8", "int8", "LiteRT 1", ("x86_64",))


@pytest.fixture
def folder(tmp_path):
    """Ten images of one colour each, and what is no image."""
    (tmp_path / "set").mkdir()
    for number in range(10):
        Image.new("RGB", (96, 64), (number * 20,) * 3).save(str(tmp_path / "set" / f"{number}.png"))
    (tmp_path / "set" / "a.png").write_bytes(b"no image")
    return tmp_path / "set"


def test_a_folder_gives_its_images_as_the_network_gets_them():
    found = chosen("--calibration-images", PHOTOGRAPHS)
    (batch,) = found.batches(4)
    expected = [fit_image(read_image(path), (64, 96), 127.0).image for path in sorted(PHOTOGRAPHS.glob("*.[pj]*g"))]
    np.testing.assert_array_equal(batch, expected)
    assert found.text == f"4 images of {PHOTOGRAPHS}"


@pytest.mark.parametrize("count, expected", [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (99, range(10))])
def test_a_number_is_spread_over_the_runs_own_images(folder, count, expected):
    found = chosen("--image-path", folder, "--calibration-images", count)
    assert [int(batch[0, 0, 0, 0]) // 20 for batch in found.batches(1)] == list(expected)


def test_a_batch_that_would_not_be_full_begins_again(folder):
    batches = list(chosen("--image-path", folder).batches(4))
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert [int(image[0, 0, 0]) // 20 for image in batches[-1]] == [8, 9, 0, 1]


def test_an_image_alone_can_be_calibrated_on():
    image = PHOTOGRAPHS / "coffee.png"
    assert chosen("--image-path", image).text == chosen("--calibration-images", image).text == f"1 image of {image}"


def test_random_weights_on_generated_data_take_images_like_those_they_are_made_from():
    found = chosen("--calibration-images", 4, random=True)
    noise, photo, other, _ = (batch[0] for batch in found.batches(1))
    assert found.text == "4 generated images, half of them noise"
    neighbours = [np.abs(np.diff(image.astype(int), axis=1)).mean() for image in (noise, photo)]
    assert neighbours[0] > 60 > 30 > neighbours[1]  # what is next to each other is alike in photographs alone
    assert (noise != other).any() and (noise != padding_colour(127.0)).any()


def test_trained_weights_on_generated_data_ask_for_images():
    with pytest.raises(UserError, match="generated data is noise: add --calibration-images FOLDER"):
        chosen()
    with pytest.raises(UserError, match="generated data is noise"):
        chosen("--calibration-images", 8)  # of noise


def test_what_is_not_there_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        chosen("--calibration-images", "nowhere")
    assert "a folder or image that is there; got 'nowhere'" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        chosen("--calibration-images", tmp_path / "empty")


def test_executables_are_known_by_the_images_not_by_where_they_lie(folder, tmp_path):
    first = header("--calibration-images", folder)
    copy = tmp_path / "copy"
    shutil.copytree(str(folder), str(copy))
    second = header("--calibration-images", copy)
    assert (first.calibration, second.calibration) == (f"10 images of {folder}", f"10 images of {copy}")
    assert differences(first, second) == []
    assert cache.told_anew(first, configured("--random-weights", "--calibration-images", copy)).calibration == (
        second.calibration
    )
    Image.new("RGB", (96, 64), "red").save(str(copy / "3.png"))
    assert differences(first, header("--calibration-images", copy)) == ["it was made from other calibration images"]
    assert differences(first, header("--calibration-images", folder, "--image-path", copy)) == []
    others = header("--image-path", folder, "--calibration-images", 5)
    assert differences(first, others) == ["it was made from other calibration images"]


def test_other_precisions_have_no_calibration():
    found = cache.plan(configured("--random-weights"), "float32", "float32", "LiteRT 1", ("x86_64",))
    assert found.calibration == "" and "calibration images" not in found.fingerprint
    assert dataclasses.replace(found, calibration="x") != found


def test_an_option_without_effect_is_noted(folder):
    arguments = ["--model-precision", "float", "--calibration-images", folder]
    assert any("--calibration-images has no effect" in note for note in configured(*arguments).notes)
    assert not any("--calibration-images" in note for note in configured("--calibration-images", folder).notes)


@pytest.mark.parametrize("given", ["0", "99999999", ""])
def test_a_number_of_images_has_bounds(given, capsys):
    with pytest.raises(SystemExit):
        configured(f"--calibration-images={given}")
    assert "--calibration-images must be a path, or a whole number from 1" in capsys.readouterr().err
