# SPDX-License-Identifier: Apache-2.0
"""What values of odd pixels are: deep and floating point grey, other depths, transparent colours of every depth."""

import numpy as np
import PIL
import pytest
from odd_images import png, tiff
from PIL import Image

from ipu_utils.data.decode import read_image

RAMP = np.linspace(0, 1, 24 * 40).reshape(24, 40)

OLD = pytest.mark.skipif(PIL.__version__.startswith("9."), reason="Pillow before 10 refuses such TIFF files")


def grey_of(folder, content):
    """The grey levels [H, W] that a file's pixels become."""
    path = folder / "a.tif"
    path.write_bytes(content)
    image = read_image(path)
    assert image.dtype == np.uint8 and (image == image[..., :1]).all()
    return image[..., 0]


def ramp(largest, dtype):
    return np.rint(RAMP * largest).astype(dtype) if np.dtype(dtype).kind != "f" else (RAMP * largest).astype(dtype)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int16", "float32"])
def test_values_up_to_255_are_grey_levels(tmp_path, dtype):
    values = ramp(255, dtype)
    np.testing.assert_array_equal(grey_of(tmp_path, tiff(values)), np.rint(values).astype(np.uint8))


@pytest.mark.parametrize("dtype", ["int32", "uint32", "float32"])
def test_values_up_to_65535_lose_their_low_byte_as_16_bit_ones_do(tmp_path, dtype):
    deep = ramp(65535, "uint16")
    expected = (deep >> 8).astype(np.uint8)
    np.testing.assert_array_equal(grey_of(tmp_path, tiff(deep)), expected)
    np.testing.assert_array_equal(grey_of(tmp_path, tiff(deep.astype(dtype))), expected)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "float32"])
@pytest.mark.parametrize("largest", [65536, 100_000, 2**24 - 1, 2**31 - 1])
def test_larger_values_are_scaled_so_that_the_largest_is_white(tmp_path, dtype, largest):
    grey = grey_of(tmp_path, tiff(ramp(largest, dtype)))
    assert np.abs(grey - RAMP * 255).max() <= 1


def test_whole_numbers_without_sign_are_not_negative_above_half(tmp_path):
    grey = grey_of(tmp_path, tiff((RAMP * (2**32 - 1)).astype(np.uint32)))
    assert np.abs(grey - RAMP * 255).max() <= 1


def test_floats_up_to_1_are_shares_of_white_and_rounded(tmp_path):
    values = ramp(1, "float32")
    np.testing.assert_array_equal(grey_of(tmp_path, tiff(values)), np.rint(values * 255).astype(np.uint8))


@pytest.mark.parametrize(
    "largest, dtype, white", [(1.1, "float32", 1), (280, "float32", 255), (280, "int32", 255), (2, "float32", 1)]
)
def test_what_overshoots_white_is_white_and_does_not_make_the_rest_black(tmp_path, largest, dtype, white):
    values = ramp(largest, dtype)
    expected = np.rint(np.clip(values / white, 0, 1) * 255)
    assert np.abs(grey_of(tmp_path, tiff(values)) - expected).max() <= 1


def test_not_a_number_and_negative_values_are_black_and_infinity_is_white(tmp_path):
    for white in (1, 255):
        values = ramp(white, "float32")
        values[0, :4] = np.nan, np.inf, -np.inf, -3 * white
        grey = grey_of(tmp_path, tiff(values))
        assert grey[0, :4].tolist() == [0, 255, 0, 0]
        np.testing.assert_array_equal(grey[1:], np.rint(values[1:] / white * 255).astype(np.uint8))
    values = ramp(255, "int32")
    values[0, :2] = -1, -(2**31)
    assert grey_of(tmp_path, tiff(values))[0, :2].tolist() == [0, 0]


@pytest.mark.parametrize("value, level", [
    (0.0, 0), (0.5, 128), (1.0, 255), (128.0, 128), (255.0, 255), (32768.0, 128), (-1.0, 0), (1e30, 255),
    (np.nan, 0), (np.inf, 255), (-np.inf, 0),
])  # fmt: skip
def test_constant_floating_point_images(tmp_path, value, level):
    assert (grey_of(tmp_path, tiff(np.full((3, 5), value, np.float32))) == level).all()


@pytest.mark.parametrize(
    "value, level", [(0, 0), (1, 1), (200, 200), (255, 255), (32768, 128), (65535, 255), (10**9, 255), (-5, 0)]
)
def test_constant_images_of_whole_numbers(tmp_path, value, level):
    assert (grey_of(tmp_path, tiff(np.full((3, 5), value, np.int32))) == level).all()


@pytest.mark.filterwarnings("error")
def test_odd_values_give_no_warning(tmp_path):
    values = ramp(255, "float32")
    values[0, :4] = np.nan, np.inf, -np.inf, 3e38
    grey_of(tmp_path, tiff(values))


def test_12_bit_values_lose_their_low_four_bits(tmp_path):
    values = ramp(4095, "uint16")
    np.testing.assert_array_equal(grey_of(tmp_path, tiff(values, bits=12)), (values >> 4).astype(np.uint8))


@pytest.mark.parametrize("dtype, white", [("uint8", 255), pytest.param("uint16", 65535, marks=OLD), ("float32", 1.0)])
def test_tiff_files_in_which_zero_is_white(tmp_path, dtype, white):
    values = ramp(white, dtype)
    positive = grey_of(tmp_path, tiff(values))
    np.testing.assert_array_equal(grey_of(tmp_path, tiff(values, photometric=0)), 255 - positive)
    assert positive.max() == 255


@pytest.mark.parametrize("dtype, white", [pytest.param("uint16", 65535, marks=OLD), ("float32", 1.0)])
def test_tiff_files_that_do_not_say_which_end_is_white(tmp_path, dtype, white):
    values = ramp(white, dtype)
    told = grey_of(tmp_path, tiff(values))
    np.testing.assert_array_equal(grey_of(tmp_path, tiff(values, photometric=None)), told)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_lies_on_white_in_every_depth(tmp_path, bits):
    values = np.arange(240).reshape(12, 20) * (1 if bits < 16 else 257) % (1 << bits)
    path = tmp_path / "a.png"
    path.write_bytes(png(values, bits))
    plain = read_image(path)
    for key in sorted({0, (1 << bits) // 2, (1 << bits) - 1, 7 % (1 << bits), int(values[3, 4])}):
        path.write_bytes(png(values, bits, [key]))
        expected = np.where((values == key)[..., None], 255, plain)
        np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_bits_of_a_transparent_grey_that_a_sample_does_not_have_do_not_count(tmp_path, bits):
    values = np.arange(240).reshape(12, 20) % (1 << bits)
    path = tmp_path / "a.png"
    path.write_bytes(png(values, bits, [1]))
    expected = read_image(path)
    path.write_bytes(png(values, bits, [0x1200 + (1 << bits) * 5 + 1]))
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_lies_on_white_in_every_depth(tmp_path, bits):
    values = np.random.RandomState(1).randint(0, 1 << bits, (12, 20, 3))
    values[0, 0], key = values[5, 5], values[5, 5]
    values[0, 1] = key ^ [0, 0, 1]  # of 16 bits only the low byte differs
    values[0, 2] = key ^ [0, 1 << (bits - 1), 0]
    path = tmp_path / "a.png"
    path.write_bytes(png(values, bits, key))
    expected = (values >> (bits - 8)).astype(np.uint8)
    expected[[0, 5], [0, 5]] = 255
    np.testing.assert_array_equal(read_image(path), expected)


def test_a_palettes_transparency_by_entry_counts(tmp_path):
    image = Image.fromarray(np.arange(4, dtype=np.uint8)[None].repeat(3, 0)).convert("P")
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 10, 20, 30])
    path = tmp_path / "a.png"
    image.save(str(path), transparency=bytes([255, 0, 128, 255]))
    assert np.abs(read_image(path)[1].astype(int) - [[200, 0, 0], [255] * 3, [127, 127, 227], [10, 20, 30]]).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.bmp", "a.gif", "a.webp"])
def test_every_mode_that_a_format_can_hold_is_read(tmp_path, mode, name):
    path = tmp_path / name
    image = Image.new(mode, (7, 5))
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    try:
        image.save(str(path))
    except (OSError, ValueError, KeyError):
        pytest.skip("the format has no such mode")
    assert read_image(path).shape == (5, 7, 3)
