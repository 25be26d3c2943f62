# SPDX-License-Identifier: Apache-2.0
"""The NumPy resize of the input pipeline against the golden file, exact arithmetic and TensorFlow."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_formulas import photo

from ipu_utils.base.keras2 import tf
from ipu_utils.data.resize import fit_image, resize_bilinear, scaled_size
from utils import parse_image_size

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = np.load(ROOT / "tests" / "data" / "golden" / "preprocess.npz")


def noise(height, width, channels=3, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, channels)).astype(np.uint8)


@pytest.mark.parametrize("case", range(2))
def test_a_fitted_photograph_is_that_of_the_reference_implementation(case):
    described = json.loads(str(GOLDEN[f"case_{case}"]))
    image = photo(*described["photo"])
    fitted = fit_image(image, parse_image_size(described["image_size"]))
    assert fitted.image.shape == (*GOLDEN[f"height_width_{case}"], 3)
    np.testing.assert_array_equal(fitted.image.ravel()[GOLDEN[f"index_{case}"]], GOLDEN[f"value_{case}"])
    assert fitted.image.sum(dtype=np.int64) == GOLDEN[f"sum_{case}"]
    assert fitted.scale_to_original == GOLDEN[f"scale_{case}"]
    assert fitted.scale_to_original.dtype == np.float32
    size = scaled_size(*image.shape[:2], parse_image_size(described["image_size"]))
    assert size[:2] == tuple(GOLDEN[f"scaled_hw_{case}"])


def exact_bilinear(image, height, width):
    """The definition in rational numbers: half-pixel centres, borders repeated, no antialiasing."""

    def at(position, size, original):
        centre = (Fraction(2 * position + 1, 2)) * Fraction(original, size) - Fraction(1, 2)
        centre = min(max(centre, 0), original - 1)
        return int(centre), min(int(centre) + 1, original - 1), centre - int(centre)

    out = np.empty((height, width), object)
    for y in range(height):
        top, bottom, down = at(y, height, image.shape[0])
        for x in range(width):
            left, right, along = at(x, width, image.shape[1])
            upper = (1 - along) * int(image[top, left]) + along * int(image[top, right])
            lower = (1 - along) * int(image[bottom, left]) + along * int(image[bottom, right])
            out[y, x] = (1 - down) * upper + down * lower
    return out


@pytest.mark.parametrize(
    "original, size", [((7, 5), (16, 11)), ((40, 33), (9, 8)), ((3, 50), (6, 4)), ((1, 1), (3, 2))]
)
def test_pixels_are_the_bilinear_values_rounded(original, size):
    image = noise(*original, channels=1)
    exact = exact_bilinear(image[..., 0], *size)
    resized = resize_bilinear(image, *size)[..., 0]
    rounding = Fraction(1, 10000)  # float32 keeps 24 bits: 255 with steps of 1/65536
    for value, wanted in zip(resized.ravel().tolist(), exact.ravel()):
        assert abs(wanted - value) <= Fraction(1, 2) + rounding


def test_halves_are_rounded_to_even_numbers():
    image = np.uint8([[[0], [1], [2], [3], [254], [255]]])
    assert resize_bilinear(image, 1, 3)[0, :, 0].tolist() == [0, 2, 254]  # of 0.5, 2.5 and 254.5


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 150)] * 4, st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_every_size_gives_what_tensorflow_gives(height, width, new_height, new_width, channels, seed):
    image = noise(height, width, channels, seed)
    wanted = tf.cast(tf.round(tf.image.resize(image, [new_height, new_width])), tf.uint8).numpy()
    np.testing.assert_array_equal(resize_bilinear(image, new_height, new_width), wanted)


def test_large_photographs_shrink_to_what_tensorflow_makes_of_them():
    image = noise(1200, 1601)
    wanted = tf.cast(tf.round(tf.image.resize(image, [96, 128])), tf.uint8).numpy()
    np.testing.assert_array_equal(resize_bilinear(image, 96, 128), wanted)


def test_an_image_of_the_right_size_stays_as_it_is():
    image = noise(64, 96)
    fitted = fit_image(image, (64, 96))
    np.testing.assert_array_equal(fitted.image, image)
    assert fitted.scale_to_original == 1


@pytest.mark.parametrize("size", [(50, 200), (200, 50), (64, 95), (10, 10)])
def test_the_image_is_at_the_top_left_and_the_mean_colour_fills_the_rest(size):
    fitted = fit_image(np.full((*size, 3), 200, np.uint8), (64, 96), (10.2, 20.5, 30.7))
    height, width, scale = scaled_size(*size, (64, 96))
    assert (height == 64) or (width == 96)
    assert (fitted.image[:height, :width] == 200).all()
    assert (fitted.image[height:] == (10, 20, 31)).all() and (fitted.image[:, width:] == (10, 20, 31)).all()
    # The scale brings the corner of the scaled image back to the original's, to within the row that truncation takes.
    assert size[0] - scale - 1e-3 < height * scale < size[0] + 1e-3
    assert size[1] - scale - 1e-3 < width * scale < size[1] + 1e-3


@pytest.mark.parametrize("size", [(90, 200), (333, 240), (40, 50)])
def test_a_box_in_the_networks_pixels_times_the_scale_is_the_objects_box_in_the_photograph(size):
    image = np.zeros((*size, 3), np.uint8)
    box = np.array([size[0] // 4, size[1] // 3, size[0] // 2, size[1] // 2])
    image[box[0] : box[2], box[1] : box[3]] = 255
    fitted = fit_image(image, (64, 96))
    rows, columns = np.nonzero(fitted.image[..., 0] >= 128)
    found = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]) * fitted.scale_to_original
    assert np.abs(found - box).max() <= fitted.scale_to_original  # one pixel of the network


@pytest.mark.parametrize("size, covered", [((1, 5000), (1, 64)), ((5000, 1), (64, 1)), ((1, 1), (64, 64))])
def test_a_line_of_pixels_keeps_at_least_one_row_and_column(size, covered):
    fitted = fit_image(np.full((*size, 3), 99, np.uint8), (64, 64), 0)
    assert (fitted.image[: covered[0], : covered[1]] == 99).all()
    assert np.count_nonzero(fitted.image) == covered[0] * covered[1] * 3


def test_the_original_is_not_changed():
    image = noise(30, 40)
    before = image.copy()
    fit_image(image, (32, 32)).image[:] = 0
    fit_image(image, (30, 40)).image[:] = 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match="image must be uint8"):
        fit_image(image, (8, 8))


def test_a_mean_of_other_channels_than_the_image_is_refused():
    assert fit_image(np.zeros((4, 4, 1), np.uint8), (8, 4), 7.0).image.ravel().tolist() == 16 * [0] + 16 * [7]
    with pytest.raises(ValueError, match="the 3 channels of the mean"):
        fit_image(np.zeros((4, 4, 1), np.uint8), (8, 8))


def test_the_deployment_side_imports_no_tensorflow():
    code = (
        "import sys; from ipu_utils.data import decode, resize, sources; from ipu_utils.outputs import annotated\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=str(ROOT)).returncode == 0
