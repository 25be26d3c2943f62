# SPDX-License-Identifier: Apache-2.0
"""Decoding of image files of every mode, format and orientation, and the errors of files that are none."""

import os

import numpy as np
import pytest
from PIL import Image
from reference_formulas import photo

from ipu_utils.base.errors import UserError
from ipu_utils.base.image_folder import list_images
from ipu_utils.data.decode import check_image, read_image, to_rgb, upright_size

PHOTO = photo(24, 40, 3)
GREY = PHOTO[..., 0]


def saved(folder, name, image, **options):
    """Save an array or a Pillow image; return its path."""
    path = folder / name
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(str(path), **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "A.PNG"])
def test_rgb_files_without_loss_come_back_as_they_were(tmp_path, name):
    np.testing.assert_array_equal(read_image(saved(tmp_path, name, PHOTO)), PHOTO)


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.webp"])
def test_lossy_files_come_back_similar(tmp_path, name):
    image = read_image(saved(tmp_path, name, PHOTO, quality=95))
    assert image.dtype == np.uint8 and image.shape == PHOTO.shape
    assert np.abs(image.astype(int) - PHOTO).mean() < 4  # grey levels: quality 95 on a smooth picture


@pytest.mark.parametrize("name", ["grey.png", "grey.jpg"])
def test_grey_images_get_three_equal_channels(tmp_path, name):
    image = read_image(saved(tmp_path, name, GREY, **({"quality": 100} if name.endswith("jpg") else {})))
    assert image.shape == PHOTO.shape
    assert (image == image[..., :1]).all()
    assert np.abs(image[..., 0].astype(int) - GREY).max() <= 3


def test_black_and_white_images_are_0_and_255(tmp_path):
    bits = GREY > 128
    np.testing.assert_array_equal(read_image(saved(tmp_path, "bits.png", bits))[..., 1], np.where(bits, 255, 0))


def test_palette_images_show_the_palettes_colours(tmp_path):
    palette = Image.fromarray(PHOTO).quantize(16)
    np.testing.assert_array_equal(read_image(saved(tmp_path, "p.png", palette)), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_grey_keeps_its_high_byte_instead_of_clipping_to_white(tmp_path, name):
    deep = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)
    image = read_image(saved(tmp_path, name, deep))
    np.testing.assert_array_equal(image, np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_dark_16_bit_grey_stays_dark(tmp_path):
    assert read_image(saved(tmp_path, "dark.png", np.full((8, 8), 200, np.uint16))).max() == 0


def test_floating_point_images_are_shares_of_white_or_grey_levels(tmp_path):
    shares = (GREY / 255).astype(np.float32)
    assert np.abs(read_image(saved(tmp_path, "share.tif", shares))[..., 0].astype(int) - GREY).max() <= 1
    levels = GREY.astype(np.float32)
    np.testing.assert_array_equal(read_image(saved(tmp_path, "level.tif", levels))[..., 0], GREY)


def test_transparent_pixels_are_laid_over_white(tmp_path):
    alpha = np.zeros((24, 40), np.uint8)
    alpha[:, 10:20], alpha[:, 20:] = 128, 255
    image = read_image(saved(tmp_path, "rgba.png", np.dstack([PHOTO, alpha])))
    assert (image[:, :10] == 255).all()
    np.testing.assert_array_equal(image[:, 20:], PHOTO[:, 20:])
    blended = PHOTO[:, 10:20] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(image[:, 10:20] - blended).max() <= 1


def test_transparency_of_grey_and_palette_images_counts_too(tmp_path):
    alpha = np.where(np.arange(40) < 20, 0, 255).astype(np.uint8) * np.ones((24, 1), np.uint8)
    grey = read_image(saved(tmp_path, "la.png", Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])))
    assert (grey[:, :20] == 255).all()
    np.testing.assert_array_equal(grey[:, 20:, 0], GREY[:, 20:])
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 0), 0)
    image = read_image(saved(tmp_path, "p.png", palette, transparency=1))
    assert image[0, 0].tolist() == [10, 20, 30] and image[3, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "La", "RGBa", "PA", "I;16B", "1"])
def test_modes_that_only_some_formats_have_become_rgb(mode):
    image = Image.new(mode, (5, 4))
    assert to_rgb(image).mode == "RGB" and to_rgb(image).size == (5, 4)


def test_cmyk_photographs_have_the_colours_they_were_made_with(tmp_path):
    cmyk = Image.fromarray(PHOTO).convert("CMYK")
    image = read_image(saved(tmp_path, "cmyk.jpg", cmyk, quality=100))
    assert np.abs(image.astype(int) - PHOTO).mean() < 6  # grey levels: JPEG at quality 100 on four channels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_photographs_are_turned_upright(tmp_path, orientation):
    # What a camera stores for an upright scene: the inverse of what the EXIF tag tells a viewer to do.
    stored = {
        1: PHOTO,
        2: PHOTO[:, ::-1],
        3: PHOTO[::-1, ::-1],
        4: PHOTO[::-1],
        5: PHOTO.transpose(1, 0, 2),
        6: np.rot90(PHOTO, 1),
        7: PHOTO[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PHOTO, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, "turned.png", np.ascontiguousarray(stored), exif=exif)
    np.testing.assert_array_equal(read_image(path), PHOTO)


def test_damaged_exif_data_does_not_hide_the_picture(tmp_path):
    path = saved(tmp_path, "exif.png", PHOTO, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    np.testing.assert_array_equal(read_image(path), PHOTO)


def test_an_animation_shows_its_first_picture(tmp_path):
    first, second = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 255))
    path = saved(tmp_path, "moving.gif", first, save_all=True, append_images=[second])
    assert (read_image(path) == [255, 0, 0]).all()


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"])
def test_files_that_are_no_images_are_named(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.png.*(not an image|decoded|read)"):
        read_image(path)


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png", "cut.gif", "cut.webp", "cut.tif", "cut.bmp"])
def test_truncated_files_are_named(tmp_path, name):
    path = saved(tmp_path, name, photo(200, 300, 1))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"cut\.{name[4:]}.*(decoded|read)"):
        read_image(path)


def test_missing_files_and_folders_say_so(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jpg does not exist"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path)


def test_decompression_bombs_are_refused_before_decoding(tmp_path, monkeypatch):
    path = saved(tmp_path, "bomb.png", np.zeros((100, 100), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(UserError, match=r"bomb\.png is too large.*pixels"):
        check_image(path)


def test_a_folder_lists_its_images_by_name(tmp_path):
    for name in (
        "b.JPG",
        "a.png",
        "sub/c.webp",
        "sub/a.tiff",
        "z.gif",
        "notes.txt",
        ".hidden.png",
        ".cache/x.png",
        "k",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert found == ["a.png", "b.JPG", "sub/a.tiff", "sub/c.webp", "z.gif"]


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match="holds no image"):
        list_images(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        list_images(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="does not exist"):
        list_images(tmp_path / "gone")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_say_so(tmp_path):
    path = saved(tmp_path, "secret.png", PHOTO)
    path.chmod(0)
    with pytest.raises(UserError, match=r"secret\.png cannot be read"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(0, 10))
def test_the_size_is_known_without_decoding(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo(200, 400, 0)).save(str(path), exif=exif)
    assert upright_size(path) == read_image(path).shape[:2]
    path.write_bytes(path.read_bytes()[:1500])
    assert set(upright_size(path)) == {200, 400}
    with pytest.raises(UserError):
        read_image(path)
