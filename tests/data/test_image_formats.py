# SPDX-License-Identifier: Apache-2.0
"""Which files are images, how they lie, and what is said of the others, in every format that is read."""

import io
import os
import re
import stat
import struct
from pathlib import Path

import numpy as np
import PIL
import pytest
from odd_images import AVIF, AVIF_ON_ITS_SIDE, EPS, HEIC, exif_chunk, png, tiff, xmp_chunk
from PIL import Image, features
from reference_formulas import photo

from ipu_utils.base.errors import UserError
from ipu_utils.base.image_folder import EXTENSIONS, is_pattern, list_folder, list_images
from ipu_utils.config.model_options import DataConfig
from ipu_utils.data.decode import check_image, formats, read_image, upright_size
from ipu_utils.data.sources import ImageFiles, open_source
from ipu_utils.outputs.coco import coco_entries

STORED = photo(24, 40, 3)
# What a viewer does with the stored pixels, by EXIF orientation.
VIEWED = {
    1: STORED,
    2: STORED[:, ::-1],
    3: STORED[::-1, ::-1],
    4: STORED[::-1],
    5: STORED.transpose(1, 0, 2),
    6: np.rot90(STORED, -1),
    7: STORED[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(STORED, 1),
}
Image.init()
HAS_AVIF = "AVIF" in formats()
needs_avif = pytest.mark.skipif(not HAS_AVIF, reason="this Pillow has no AVIF")
KINDS = {
    "a.jpg": ("JPEG", {"quality": 98, "subsampling": 0}),
    "a.mpo": ("MPO", {"quality": 98, "subsampling": 0, "save_all": True}),
    "a.png": ("PNG", {}),
    "a.webp": ("WEBP", {"lossless": True}),
    "a.tif": ("TIFF", {}),
    "b.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "c.tif": ("TIFF", {"save_all": True}),
    "d.tif": ("TIFF", {"save_all": True, "compression": "tiff_adobe_deflate"}),
    "a.avif": ("AVIF", {"quality": 98, "subsampling": "4:4:4"}),
}


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def can_write(kind):
    return kind in (Image.SAVE_ALL if kind == "MPO" else Image.SAVE) and (kind != "AVIF" or HAS_AVIF)


def save(path, name, orientation, image=STORED):
    kind, options = KINDS[name]
    if not can_write(kind):
        pytest.skip(f"this Pillow writes no {kind}")
    more = {"append_images": [Image.new("RGB", (5, 9))]} if options.get("save_all") else {}
    Image.fromarray(image).save(str(path), kind, exif=exif_of(orientation).tobytes(), **options, **more)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", sorted(KINDS))
def test_pictures_are_turned_once_and_their_size_is_that_of_what_is_read(tmp_path, name, orientation):
    path = save(tmp_path / name, name, orientation)
    image, expected = read_image(path), VIEWED[orientation]
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 4  # grey levels: the lossy formats on a smooth picture
    assert upright_size(path) == image.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("values", [np.float32, np.int32, np.uint16, np.uint8])
def test_deep_tiff_files_are_turned_as_well(tmp_path, values, orientation):
    path = tmp_path / "a.tif"
    grey = STORED[..., 0].astype(values) * (257 if values is np.uint16 else 1)
    path.write_bytes(tiff(grey, orientation=orientation))
    np.testing.assert_array_equal(read_image(path)[..., 0], VIEWED[orientation][..., 0])
    assert upright_size(path) == VIEWED[orientation].shape[:2]


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
@pytest.mark.parametrize("name", sorted(set(KINDS) - {"b.tif", "d.tif"}))  # libtiff writes no such orientation
def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path, name, orientation):
    path = save(tmp_path / name, name, orientation)
    assert read_image(path).shape == STORED.shape and upright_size(path) == STORED.shape[:2]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_an_intact_picture_is_read_whatever_its_exif_data_is_worth(tmp_path, name):
    if name == "a.jpg" and PIL.__version__.startswith(("9.", "10.0")):
        pytest.skip("Pillow before 10.1 refuses such JPEG files")
    kind, options = KINDS[name]
    whole = exif_of(6).tobytes()
    pieces = [whole[:length] for length in range(6, len(whole), 3)]
    broken = [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(40), b"Exif\0\0MM\0*" + b"\xff" * 60]
    # An orientation beside an entry that cannot be written again.
    odd = struct.pack("<2sHIHHHIHHHHII", b"II", 42, 8, 2, 274, 3, 1, 6, 0, 0x8769, 4, 1, 0xFFFFFFF0) + bytes(4)
    for number, exif in enumerate([*pieces, *broken, b"Exif\0\0" + odd]):
        path = tmp_path / f"{number}.{name}"
        Image.fromarray(STORED).save(str(path), kind, exif=exif, **options)
        image = read_image(path)
        assert image.shape[:2] in ((24, 40), (40, 24)) and upright_size(path) == image.shape[:2]
    assert image.shape[:2] == (40, 24), "the last one says how it lies, all the same"


@pytest.mark.parametrize("more", [{34665: 0xFFFFFFF0}, {34665: 1}, {34853: 5}, {330: 3}, {700: 0}])
def test_an_intact_tiff_is_read_whatever_its_other_tags_are_worth(tmp_path, more):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(STORED[..., 0], more=more, orientation=6))
    np.testing.assert_array_equal(read_image(path)[..., 0], VIEWED[6][..., 0])
    assert upright_size(path) == (40, 24)


@pytest.mark.parametrize("before, behind", [
    (b"", exif_chunk(6)), (b"", xmp_chunk(6)), (exif_chunk(6), b""), (exif_chunk(72, tag=282), xmp_chunk(6)),
], ids=["EXIF behind", "XMP behind", "EXIF before", "other EXIF before and XMP behind"])  # fmt: skip
def test_a_png_may_say_how_it_lies_behind_its_pixels(tmp_path, before, behind):
    path = tmp_path / "a.png"
    path.write_bytes(png(STORED, 8, before=before, behind=behind))
    np.testing.assert_array_equal(read_image(path), VIEWED[6])
    assert upright_size(path) == (40, 24)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_the_size_of_a_picture_that_breaks_off_is_what_its_header_says(tmp_path, name):
    if name == "a.tif":  # whose tags stand at the end: they stay, and the pixels are elsewhere
        path = tmp_path / name
        path.write_bytes(tiff(photo(200, 400, 0)[..., 0], more={273: 10_000_000}, orientation=6))
    else:
        path = save(tmp_path / name, name, 6, photo(200, 400, 0))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError):
        read_image(path)
    assert upright_size(path) == (400, 200)


@needs_avif
def test_avif_files_are_read_and_turned_as_their_boxes_say(tmp_path):
    y, x = np.mgrid[:12, :20]
    stored = np.stack([x * 12, y * 20, np.full_like(x, 60)], axis=-1)
    for content, expected in ((AVIF, stored), (AVIF_ON_ITS_SIDE, np.rot90(stored, -1))):
        path = tmp_path / "a.avif"
        path.write_bytes(content)
        image = read_image(path)
        assert image.shape == expected.shape == (*upright_size(path), 3)
        assert np.abs(image - expected).mean() < 6  # grey levels


@pytest.mark.skipif(HAS_AVIF, reason="this Pillow has AVIF")
def test_without_avif_the_reason_is_told(tmp_path):
    path = tmp_path / "a.avif"
    path.write_bytes(AVIF)
    with pytest.raises(UserError, match=r"a\.avif is not an image .*AVIF, which Pillow \S+ was built without"):
        check_image(path)


def test_damaged_avif_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "a.avif"
    cut = [AVIF[:length] for length in (12, 20, 100, 250, 300, len(AVIF) - 5)]
    spoilt = AVIF[:-84] + b"\xff" * 16 + AVIF[-68:]  # the first bytes of the pixels
    for content in [*cut, spoilt]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.avif"):
            read_image(path)


def test_heic_is_told_by_its_name(tmp_path):
    path = tmp_path / "IMG_1.jpg"
    path.write_bytes(HEIC)
    with pytest.raises(UserError, match=r"IMG_1\.jpg is not an image that Pillow can read \(it is HEIC, "):
        check_image(path)


def test_what_a_file_is_counts_and_not_what_its_name_says(tmp_path):
    for kind, options in KINDS.values():
        if not can_write(kind):
            continue
        path = tmp_path / "a.jpg"
        Image.fromarray(STORED).save(str(path), kind, **options)
        assert read_image(path).shape == STORED.shape


def test_a_postscript_file_named_as_an_image_starts_no_program(tmp_path, monkeypatch):
    """Ghostscript stands on PATH and leaves a mark when it is started."""
    mark, program = tmp_path / "started", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "a.jpg"
    path.write_bytes(EPS)
    with pytest.raises(UserError, match=r"a\.jpg is not an image"):
        read_image(path)
    with pytest.raises(UserError):
        upright_size(path)
    assert not mark.exists()


def others():
    """A file in each format that Pillow writes and that is not read."""
    for kind in sorted(set(Image.SAVE) - set(formats()) - {"MPO", "PDF", "BUFR", "GRIB", "HDF5", "WMF"}):
        file = io.BytesIO()
        for mode in ("RGB", "RGBA", "L", "P", "1"):
            try:
                Image.new(mode, (16, 16)).save(file, kind)
                break
            except Exception:
                file = io.BytesIO()
        if file.getvalue():
            yield kind, file.getvalue()


def test_other_formats_are_refused_whatever_they_are_called(tmp_path):
    contents = dict(others())
    assert {"DDS", "BLP", "EPS", "PPM", "ICO", "SPIDER", "TGA"} <= set(contents)
    path = tmp_path / "a.png"
    for kind, content in contents.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.png is not an image that Pillow can read \(JPEG, PNG, .* are read\)"):
            read_image(path)
            pytest.fail(f"{kind} was read")


def test_formats_are_those_that_this_pillow_has():
    assert {"JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"} <= set(formats())
    assert ("AVIF" in formats()) == ("avif" in features.modules and features.check_module("avif"))
    known = Image.registered_extensions()
    assert {known[extension] for extension in EXTENSIONS if extension in known} <= {*formats(), "MPO"}


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


@pytest.mark.parametrize("extension", [".jfif", ".jpe", ".avif", ".JPE", ".tiff", ".mpo", ".apng"])
def test_extensions_of_images(tmp_path, extension):
    fill(tmp_path, f"a{extension}")
    assert [path.name for path in list_images(tmp_path)] == [f"a{extension}"]


def test_what_is_left_out_of_a_folder_is_counted_and_named(tmp_path):
    fill(tmp_path, "a.jpg", "IMG_1.HEIC", "sub/IMG_2.heic", "notes.txt", "README", ".DS_Store", ".git/x.png", "b.PSD")
    os.symlink(str(tmp_path / "sub"), str(tmp_path / "again"))
    os.mkfifo(str(tmp_path / "pipe.jpg"))
    images, left_out, root = list_folder(tmp_path)
    assert root == tmp_path
    assert [path.name for path in images] == ["a.jpg"]
    assert left_out.count == 9
    assert left_out.describe().splitlines() == [
        "left out:  9 files or folders that are not read as images",
        "\t2 .heic: IMG_1.HEIC, sub/IMG_2.heic",
        "\t2 hidden: .git, .DS_Store",
        "\t1 .psd: b.PSD",
        "\t1 .txt: notes.txt",
        "\t1 link to a folder: again",
        "\t1 not a file: pipe.jpg",
        "\t1 without an extension: README",
    ]


def test_nothing_is_said_of_a_folder_of_images(tmp_path):
    fill(tmp_path, "a.jpg", "sub/b.png")
    assert list_folder(tmp_path).left_out.describe() == ""


def test_names_that_are_left_out_stay_on_their_line(tmp_path):
    fill(tmp_path, "a.jpg", "b\nthroughput: 9.\x1b[31m\n")
    described = list_folder(tmp_path).left_out.describe()
    assert described.count("\n") == 2 and described.replace("\n", "").replace("\t", "").isprintable()


def test_what_is_said_does_not_grow_with_the_folder(tmp_path):
    fill(tmp_path, "a.jpg", *(f"{number}.json" for number in range(300)), *(f"x.{number}" for number in range(200)))
    left_out = list_folder(tmp_path).left_out
    assert left_out.count == 500
    lines = left_out.describe().splitlines()
    assert "\t300 .json: 0.json, 1.json, 10.json and 297 more" in lines
    assert len(lines) <= 12 and max(map(len, lines)) < 100
    assert sum(int(line.split()[0]) for line in lines[1:]) == 500
    assert sum(map(len, left_out.names.values())) <= 40


def test_a_folder_without_images_says_what_is_there(tmp_path):
    fill(tmp_path, "IMG_1.HEIC", "IMG_2.HEIC", "notes.txt")
    with pytest.raises(UserError, match=r"holds no image.*In it: 2 \.heic, 1 \.txt"):
        list_images(tmp_path)


def test_a_pattern_takes_the_images_that_it_matches(tmp_path, monkeypatch):
    fill(tmp_path, "in/b.jpg", "in/a.jpg", "in/c.png", "in/notes.txt", "in/.x.jpg", "in/sub/d.jpg", "e.jpg")
    for place, prefix in ((tmp_path, ""), (tmp_path / "in", "../"), (tmp_path.parent, f"{tmp_path}/")):
        monkeypatch.chdir(place)
        found = list_folder(f"{prefix}in/*.jpg")
        assert found.images == [Path(f"{prefix}in/a.jpg"), Path(f"{prefix}in/b.jpg")]
        assert (found.root, found.left_out.count) == (Path(f"{prefix}in"), 0)
    found = list_folder(tmp_path / "in" / "*")
    assert [path.name for path in found.images] == ["a.jpg", "b.jpg", "c.png"]
    assert found.left_out.names == {".txt": ["notes.txt"], "folder": ["sub"]}
    found = list_folder(tmp_path / "**" / "[de].jp?")
    assert [path.relative_to(found.root).as_posix() for path in found.images] == ["e.jpg", "in/sub/d.jpg"]


@pytest.mark.parametrize(
    "pattern, message",
    [("in/*.jpx", "It matches nothing"), ("gone/*.jpg", "It matches nothing"), ("in/*.txt", r"It matches 1 \.txt")],
)
def test_a_pattern_that_matches_no_image_says_so(tmp_path, pattern, message):
    fill(tmp_path, "in/a.jpg", "in/notes.txt")
    with pytest.raises(UserError, match=rf"--image-path .*{re.escape(pattern)} matches no image file.*{message}"):
        list_images(tmp_path / pattern)


def test_what_is_there_is_no_pattern_whatever_its_name(tmp_path):
    fill(tmp_path, "day [1]/a*.jpg", "day [1]/ab.jpg", "day 1/c.jpg", "*/d.jpg")
    assert not is_pattern(tmp_path / "day [1]" / "a*.jpg") and not is_pattern(tmp_path / "day [1]")
    assert [path.name for path in list_images(tmp_path / "day [1]")] == ["a*.jpg", "ab.jpg"]
    assert [path.name for path in list_images(tmp_path / "day [1]" / "?b.jpg")] == ["ab.jpg"]
    assert [path.name for path in list_images(tmp_path / "*")] == ["d.jpg"]  # there is such a folder
    assert not is_pattern(tmp_path / "day [1]" / "gone.jpg") and is_pattern(tmp_path / "day [2]" / "gone.jpg")


def test_a_source_of_a_pattern_names_its_images_below_the_folder_that_is_there(tmp_path):
    for name in ("x/1/a.jpg", "x/2/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        save(tmp_path / name, "a.jpg", 6)
    data = DataConfig(dataset_type="image-directory", image_path=tmp_path / "x" / "?" / "a.jpg")
    source = open_source(data, (32, 32), 1)
    assert [source.name(number) for number in range(source.count)] == ["1/a.jpg", "2/a.jpg"]


def test_a_source_knows_what_was_left_out_and_the_size_of_what_was_read(tmp_path):
    save(tmp_path / "a.tif", "a.tif", 6)
    fill(tmp_path, "b.heic")
    source = open_source(DataConfig(dataset_type="image-directory", image_path=tmp_path), (32, 32), 1)
    assert source.left_out.counts == {".heic": 1} and source.skipped == {}
    assert source.size(0) == (40, 24)
    assert source.original(0).shape == (40, 24, 3) and source.size(0) == (40, 24)
    (tmp_path / "a.tif").unlink()
    assert source.size(0) == (40, 24), "what was read is remembered"
    assert all(isinstance(side, int) for side in source.size(0))


def test_sizes_of_files_that_were_not_read_yet_come_from_the_files(tmp_path):
    paths = [
        save(tmp_path / name, name, orientation) for name, orientation in (("a.jpg", 6), ("a.png", 1), ("b.tif", 8))
    ]
    source = ImageFiles(paths, tmp_path, (32, 32))
    assert [source.size(number) for number in range(3)] == [(40, 24), (24, 40), (40, 24)]


@pytest.mark.parametrize("read_before", [False, True])
def test_boxes_of_results_are_cut_to_the_upright_picture(tmp_path, read_before):
    """COCO's [x, y, width, height] of a box over everything, in a TIFF that Pillow turns while it loads."""
    save(tmp_path / "im_1.tif", "a.tif", 6)
    source = ImageFiles([tmp_path / "im_1.tif"], tmp_path, (32, 32))
    if read_before:
        source.fitted(0)
    boxes = np.array([[-5, -5, 100, 100]], np.float32)
    (entry,) = coco_entries(1, boxes, np.array([0.5]), np.array([1]), source.size(0))
    assert entry["bbox"] == [0, 0, 24, 40]
