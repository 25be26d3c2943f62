# SPDX-License-Identifier: Apache-2.0
"""Resizing and normalising against the golden file, an independent bilinear formula and the NumPy twin."""

import json
from pathlib import Path

import numpy as np
import pytest
from reference_formulas import photo

import dataloader
from hparams_config import get_efficientdet_config
from ipu_automl_io import preprocess_normalize_image, preprocess_resize
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.config.normalisation import IMAGENET_MEAN_RGB, normalisation_of, padding_colour
from ipu_utils.data.resize import fit_image
from utils import parse_image_size

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "data" / "golden" / "preprocess.npz")
MEAN, STDDEV = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("case", range(2))
def test_resized_images_equal_the_reference_implementation(case, as_list):
    description = json.loads(str(GOLDEN[f"case_{case}"]))
    image = photo(*description["photo"])
    images, scales = preprocess_resize([image] if as_list else image[None], description["image_size"])
    assert (images.numpy()[0, -1, -1] == (124, 116, 104)).all()
    assert images.dtype == tf.uint8 and images.shape == (1, *GOLDEN[f"height_width_{case}"], 3)
    np.testing.assert_array_equal(images.numpy().reshape(-1)[GOLDEN[f"index_{case}"]], GOLDEN[f"value_{case}"])
    assert images.numpy().sum(dtype=np.int64) == GOLDEN[f"sum_{case}"]
    assert scales.numpy().tolist() == [GOLDEN[f"scale_{case}"]]
    height, width = GOLDEN[f"scaled_hw_{case}"]
    padding = images.numpy()[0] == (124, 116, 104)
    assert padding[height:].all() and padding[:, width:].all()
    assert not padding[height - 1, :width].all() and not padding[:height, width - 1].all()


def bilinear(image, height, width):
    """Resize pixel by pixel in float64: half-pixel centres, clamped at the border, no antialias."""
    out = np.empty((height, width, 3))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * image.shape[0] / height - 0.5, 0), image.shape[0] - 1)
            u = min(max((x + 0.5) * image.shape[1] / width - 0.5, 0), image.shape[1] - 1)
            i, j = int(v), int(u)
            rows, columns = (min(i + 1, image.shape[0] - 1), min(j + 1, image.shape[1] - 1))
            top = image[i, j] * (1 - u + j) + image[i, columns] * (u - j)
            bottom = image[rows, j] * (1 - u + j) + image[rows, columns] * (u - j)
            out[y, x] = top * (1 - v + i) + bottom * (v - i)
    return out


@pytest.mark.parametrize("size, scaled", [((50, 40), (32, 25)), ((9, 30), (14, 48)), ((32, 48), (32, 48))])
def test_resizing_is_bilinear_with_half_pixel_centres(size, scaled):
    image = np.random.RandomState(0).randint(0, 256, (*size, 3)).astype(np.uint8)
    images, scales = preprocess_resize([image], (32, 48))
    inside = images.numpy()[0, : scaled[0], : scaled[1]].astype(float)
    # Rounded to whole numbers; a value that is half but for rounding may fall either way.
    assert np.abs(bilinear(image.astype(float), *scaled) - inside).max() < 0.5 + 1e-3
    assert scales.numpy()[0] == pytest.approx(1 / min(32 / size[0], 48 / size[1]), rel=1e-6)


SIZES = [(37, 61), (480, 640), (1, 700), (700, 1), (200, 90), (128, 96), (1, 1), (333, 500)]


@pytest.mark.parametrize("mean_rgb", [IMAGENET_MEAN_RGB, 127.0, 0, [127.5, 128.5, 300.0], np.float32([-3, 0.5, 1.5])])
@pytest.mark.parametrize("size", SIZES)
def test_the_numpy_twin_of_the_input_pipeline_gives_the_same_bits(size, mean_rgb):
    image = np.random.RandomState(1).randint(0, 256, (*size, 3)).astype(np.uint8)
    images, scales = preprocess_resize([image], (128, 96), mean_rgb)
    twin = fit_image(image, (128, 96), mean_rgb)
    np.testing.assert_array_equal(images.numpy()[0], twin.image)
    assert scales.numpy()[0] == twin.scale_to_original


@pytest.mark.parametrize(
    "mean_rgb, colour",
    [
        (IMAGENET_MEAN_RGB, [124, 116, 104]),
        (127.0, [127, 127, 127]),
        ([0.5, 1.5, 127.5], [0, 2, 128]),
        ((-1.0, 255.4, 256), [0, 255, 255]),
    ],
)
def test_an_image_is_surrounded_by_the_models_mean_rounded_to_a_colour(mean_rgb, colour):
    images, _ = preprocess_resize([photo(20, 60, 1), photo(60, 20, 2)], 32, mean_rgb)
    assert (images.numpy()[0, 10:] == colour).all() and (images.numpy()[0, :10] != colour).any(-1).all()
    assert (images.numpy()[1, :, 10:] == colour).all() and (images.numpy()[1, :, :10] != colour).any(-1).all()


@pytest.mark.parametrize("name", ["efficientdet-d0", "efficientdet-lite0"])
def test_what_surrounds_an_image_is_nothing_to_the_network(name):
    hparams = get_efficientdet_config(name)
    images, _ = preprocess_resize([photo(20, 60, 1)], 32, hparams.mean_rgb)
    made = preprocess_normalize_image(images, tf.float32, *normalisation_of(hparams)).numpy()[0, 10:]
    assert np.abs(made * hparams.stddev_rgb).max() <= 0.5  # what rounding the mean leaves


def test_a_list_may_hold_images_of_different_sizes():
    photos = [photo(100, 50, 1), photo(30, 90, 2), photo(64, 64, 3)]
    images, scales = preprocess_resize(photos, 64)
    assert images.shape == (3, 64, 64, 3) and scales.shape == (3,)
    for i, image in enumerate(photos):
        alone, scale = preprocess_resize([image], 64)
        np.testing.assert_array_equal(images[i], alone[0])
        assert scales[i] == scale[0]


def test_a_batch_may_have_an_unknown_size():
    photos = np.stack([photo(50, 70, seed) for seed in range(3)])
    known = preprocess_resize(photos, "96x64")

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
    def unknown(images):
        resized, scales = preprocess_resize(images, "96x64")
        assert resized.shape.as_list() == [None, 64, 96, 3]
        return resized, scales

    for one, other in zip(unknown(photos), known):
        np.testing.assert_array_equal(one, other)


def test_what_is_no_batch_of_rgb_images_is_refused():
    with pytest.raises(UserError, match="convert it to RGB"):
        preprocess_resize([np.zeros((8, 8, 4), np.uint8)], 64)
    with pytest.raises(UserError, match="convert it to RGB"):
        preprocess_resize([np.zeros((8, 8), np.uint8)], 64)
    with pytest.raises(UserError, match="put one into a list"):
        preprocess_resize(np.zeros((8, 8, 3), np.uint8), 64)
    with pytest.raises(UserError, match="empty list"):
        preprocess_resize([], 64)


def test_scaled_corners_lie_on_the_corners_of_the_original():
    processor = dataloader.DetectionInputProcessor(photo(100, 200, 1), (128, 128))
    processor.set_scale_factors_to_output_size()
    assert processor.resize_and_crop_image().shape == (128, 128, 3)
    assert float(processor.image_scale) == pytest.approx(0.64)
    assert float(processor.image_scale_to_original) * 128 == pytest.approx(200)


def test_the_processor_normalises_on_request():
    image = photo(16, 16, 1)
    processor = dataloader.DetectionInputProcessor(image, 16)
    processor.normalize_image()
    processor.set_scale_factors_to_output_size()
    np.testing.assert_allclose(processor.resize_and_crop_image(), (image - MEAN) / STDDEV, atol=1e-5)


def test_normalising_defaults_to_imagenet():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    made = preprocess_normalize_image(tf.constant(pixels), tf.float32)
    assert made.dtype == tf.float32
    np.testing.assert_allclose(made, (pixels / 255 - MEAN / 255) / (STDDEV / 255), atol=1e-5)


@pytest.mark.parametrize("dtype, half_step", [(tf.float16, 2.0**-10), (tf.bfloat16, 2.0**-7)])
def test_normalising_rounds_only_once_in_low_precision(dtype, half_step):
    pixels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    exact = (pixels - MEAN) / STDDEV  # up to 2.64: between 2 and 4 half precision has steps of 2^-9, bfloat16 of 2^-6
    for source in (tf.uint8, tf.float32, dtype):
        made = preprocess_normalize_image(tf.cast(pixels, source), dtype)
        assert made.dtype == dtype
        assert np.abs(tf.cast(made, tf.float64).numpy() - exact).max() <= half_step


def test_models_bring_their_own_mean_and_deviation():
    lite = get_efficientdet_config("efficientdet-lite0")
    pixels = np.array([[[0, 127, 255]]], np.uint8)
    made = preprocess_normalize_image(pixels, tf.float32, *normalisation_of(lite))
    np.testing.assert_allclose(made, [[[-127 / 128, 0, 1]]])
    d0 = get_efficientdet_config("efficientdet-d0")
    np.testing.assert_array_equal(
        preprocess_normalize_image(pixels, tf.float32, *normalisation_of(d0)),
        preprocess_normalize_image(pixels, tf.float32),
    )


ADVPROP = "mean_rgb=0.0,stddev_rgb=1.0,scale_range=true"


@pytest.mark.parametrize(
    "hparams",
    [
        "",
        ADVPROP,
        "mean_rgb=127.5,stddev_rgb=127.5",
        "scale_range=true",
        "mean_rgb=[10, 20, 30],stddev_rgb=2.0,scale_range=true",
    ],
)
def test_images_arrive_as_automl_normalises_resizes_pads_and_scales_them(hparams):
    config = get_efficientdet_config("efficientdet-d0")
    config.override(hparams)
    image = photo(40, 100, 1)
    processor = dataloader.DetectionInputProcessor(image, (64, 80))
    processor.normalize_image(config.mean_rgb, config.stddev_rgb)
    processor.set_scale_factors_to_output_size()
    expected = processor.resize_and_crop_image().numpy()
    if config.scale_range:
        expected = expected * 2 / 255 - 1  # as AutoML does, padding and all
    images, _ = preprocess_resize([image], (64, 80), config.mean_rgb)
    made = preprocess_normalize_image(images, tf.float32, *normalisation_of(config)).numpy()[0]
    grey_level = 1 / np.float64(normalisation_of(config).stddev)
    assert (np.abs(made - expected) <= 0.5 * grey_level + 1e-4).all()


def test_scale_range_with_advprops_mean_and_deviation_gives_minus_one_to_one():
    config = get_efficientdet_config("efficientdet-d0")
    config.override(ADVPROP)
    assert normalisation_of(config).is_minus_one_to_one
    made = preprocess_normalize_image(tf.constant([[[0, 51, 255]]], tf.uint8), tf.float32, *normalisation_of(config))
    np.testing.assert_allclose(np.ravel(made), [-1, -0.6, 1], atol=1e-6)
    assert padding_colour(config.mean_rgb).tolist() == 0  # AutoML scales its zeros too: AdvProp's padding is black
    config.override("scale_range=false")
    assert not normalisation_of(config).is_minus_one_to_one


def test_sizes_are_read_in_every_notation():
    image = photo(40, 60, 1)
    wide = preprocess_resize([image], "96x64")[0]
    np.testing.assert_array_equal(preprocess_resize([image], (64, 96))[0], wide)
    assert preprocess_resize([image], 64)[0].shape[1:3] == parse_image_size(64)
