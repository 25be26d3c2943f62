# SPDX-License-Identifier: Apache-2.0
"""Golden pictures: fixed detections, drawn at three sizes, against stored pictures; and the contact sheet.

`python tests/outputs/test_pictures.py` draws the stored pictures anew; look at them before you commit them.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hparams_config import get_inference_config
from ipu_automl_io import visualize_image
from ipu_utils.base.errors import UserError
from ipu_utils.config.model_options import DataConfig
from ipu_utils.config.run_options import OutputConfig
from ipu_utils.data.sources import open_source
from ipu_utils.outputs import contact_sheet
from ipu_utils.outputs.contact_sheet import CELL, COLUMNS, ContactSheet, lay_out
from ipu_utils.outputs.writers import open_outputs
from visualize import labels, vis_utils

DATA = Path(__file__).resolve().parents[1] / "data"
GOLDEN = DATA / "golden" / "pictures"
WIDTHS = (100, 640, 4000)
STORED_WIDTH = 640  # of larger pictures the upper left part is kept, at a quarter of its size
# Class, score and (ymin, xmin, ymax, xmax) in 640ths: alone, nested, at every border, stacked, and of no class's name.
DETECTIONS = [
    (1, 0.99, (60, 40, 400, 200)),
    (17, 0.87, (90, 220, 300, 420)),
    (18, 0.61, (110, 240, 280, 400)),
    (40, 0.93, (0, 500, 90, 640)),
    (67, 0.55, (380, 0, 427, 640)),
    (12, 0.42, (0, 0, 30, 30)),
    (49, 0.62, (320, 460, 370, 510)),
    (48, 0.58, (325, 465, 370, 520)),
    (48, 0.50, (330, 455, 375, 530)),
    (76, 0.71, (200, 600, 300, 700)),
]
# Rasterised letters differ by a few grey levels between releases of FreeType; a label elsewhere differs by hundreds of
# pixels. In shares of all pixels that differ by more than 48 levels:
MOST_DIFFERENT = 0.004


def annotated(width, detections=DETECTIONS, label_map="coco"):
    height = width * 427 // 640
    rows = np.linspace(40, 110, height).astype(np.uint8)
    image = np.repeat(np.repeat(rows[:, None, None], width, 1), 3, 2)
    classes, scores, boxes = (np.array(column) for column in zip(*detections))
    return visualize_image(image, boxes * (width / 640), classes, scores, label_map=label_map)


def stored_form(picture):
    """What is kept of a picture: small ones as they are, of large ones a part at a quarter of the size."""
    if picture.shape[1] <= STORED_WIDTH:
        return picture
    part = picture[:1600, :2560]
    return np.asarray(Image.fromarray(part).resize((part.shape[1] // 4, part.shape[0] // 4), Image.BOX))


def difference(picture, golden):
    """Share of pixels that look different."""
    assert picture.shape == golden.shape
    return float((np.abs(picture.astype(int) - golden).max(-1) > 48).mean())


def golden(width):
    return np.asarray(Image.open(str(GOLDEN / f"annotated-{width}.png")).convert("RGB"))


@pytest.fixture
def freetype():
    if not isinstance(labels._load_font(20)[0], getattr(ImageFont, "FreeTypeFont", ())):
        pytest.skip("this Pillow has no scalable default font (10.1 or later, with FreeType)")


@pytest.mark.parametrize("width", WIDTHS)
def test_annotated_pictures_look_as_the_stored_ones(width, freetype):
    assert difference(stored_form(annotated(width)), golden(width)) <= MOST_DIFFERENT


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "change",
    [
        lambda found: found[1:],
        lambda found: [(2, *found[0][1:]), *found[1:]],
        lambda found: [(found[0][0], found[0][1], (60, 120, 400, 280)), *found[1:]],
    ],
    ids=["one missing", "another class", "another box"],
)
def test_a_picture_with_one_thing_changed_does_not_pass(width, change, freetype):
    assert difference(stored_form(annotated(width, change(DETECTIONS))), golden(width)) > MOST_DIFFERENT


@pytest.mark.parametrize("width", WIDTHS)
def test_no_label_hides_another_or_leaves_the_picture(width, monkeypatch):
    spots = []
    draw = vis_utils.draw_label

    def record(image, text, size, spot, color):
        spots.append((text, spot))
        draw(image, text, size, spot, color)

    monkeypatch.setattr(vis_utils, "draw_label", record)
    height = annotated(width).shape[0]
    for number, (_, spot) in enumerate(spots):
        assert 0 <= spot.left < spot.right <= width and 0 <= spot.top < spot.bottom <= height
        assert not any(spot.meets(other) for _, other in spots[:number])
    texts = {text for text, _ in spots}
    if width > 100:  # Room for all.
        assert len(spots) == len(DETECTIONS) and {"person: 99%", "class 12: 42%", "keyboard: 71%"} <= texts
    else:
        assert {"person: 99%", "93%"} <= texts | {text.split()[-1] for text in texts}


def test_the_label_map_of_the_hparams_names_the_classes(tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(vis_utils, "draw_label", lambda image, text, *rest: texts.append(text))
    (tmp_path / "signs.yaml").write_text("1: stop\n2: give way\n")
    for label_map, expected in (("voc", "aeroplane"), (f"{tmp_path}/signs.yaml", "stop")):
        config = get_inference_config("efficientdet-d0", {"label_map": label_map})
        annotated(640, DETECTIONS[:1], config.label_map)
        assert texts.pop() == f"{expected}: 99%"


@pytest.fixture
def source():
    return open_source(DataConfig(dataset_type="image-directory", image_path=DATA / "images"), (64, 64), 1)


CAT = [np.array([[[0, 2, 299, 400]]]), np.array([[0.93]]), np.array([[17]]), np.array([1])]
NOTHING = [np.zeros((1, 1, 4)), np.zeros((1, 1)), np.zeros((1, 1), int), np.array([0])]


def test_the_contact_sheet_shows_every_image_in_the_order_of_the_source(source, tmp_path):
    output = OutputConfig(contact_sheet=tmp_path / "deep" / "sheet.png")
    batches = SimpleNamespace(source=source, batch_size=1)
    outputs = open_outputs(output, "m", get_inference_config("efficientdet-d0"), batches)
    with outputs:
        for image_id in (3, 1, 0, 2, 2):
            outputs.write([image_id], CAT if source.name(image_id) == "chelsea.png" else NOTHING)
    assert outputs.written == 4 and "4 of 4 images" in outputs.report()
    sheet = Image.open(str(tmp_path / "deep" / "sheet.png"))
    assert sheet.width == COLUMNS * (CELL[0] + contact_sheet.GAP) + contact_sheet.GAP
    for image_id in range(4):
        cell = np.asarray(sheet.crop((330 * image_id + 10, 10, 330 * image_id + 330, 250))).astype(int)
        original = Image.fromarray(source.original(image_id))
        original.thumbnail(CELL, Image.LANCZOS)
        top, left = (240 - original.height) // 2, (320 - original.width) // 2
        shown = cell[top : top + original.height, left : left + original.width]
        different = (np.abs(shown - np.asarray(original)).max(-1) > 90).mean()
        assert (0.002 < different < 0.15) if source.name(image_id) == "chelsea.png" else different < 0.001


def test_only_the_first_images_are_on_the_sheet_and_all_are_counted(source, tmp_path, monkeypatch):
    monkeypatch.setattr(contact_sheet, "ROWS", 1)
    monkeypatch.setattr(contact_sheet, "COLUMNS", 2)
    with ContactSheet(tmp_path / "sheet.jpg", source) as sheet:
        for image_id in (3, 1, 2, 0):
            sheet.write([image_id], NOTHING)
    assert sheet.written == 4 and sorted(sheet._cells) == [0, 1]
    assert Image.open(str(tmp_path / "sheet.jpg")).size == (670, 282)


def test_a_sheet_of_few_images_is_no_wider_than_they_are():
    picture = Image.new("RGB", (50, 240), (200, 0, 0))
    sheet = np.asarray(lay_out([(picture, "a caption that is much too long for the place below it" * 3)]))
    assert sheet.shape == (282, 340, 3)
    assert (sheet[10:250, 145:195] == (200, 0, 0)).all() and (sheet[10:250, :145] == contact_sheet.PAPER).all()
    assert (sheet[250:, :10] == contact_sheet.PAPER).all() and (sheet[250:] != contact_sheet.PAPER).any()


def test_a_sheet_that_cannot_be_written_is_an_error_at_once(source, tmp_path):
    with pytest.raises(UserError, match=r"must end in one of \.jpg"):
        ContactSheet(tmp_path / "sheet.tiff", source)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        ContactSheet(tmp_path / "file" / "sheet.jpg", source)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for width in WIDTHS:
        Image.fromarray(stored_form(annotated(width))).save(GOLDEN / f"annotated-{width}.png", optimize=True)
