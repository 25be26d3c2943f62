# SPDX-License-Identifier: Apache-2.0
"""Annotated pictures and detections.json: names, contents, what is left out, and folders that cannot be written to."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference_formulas import photo

from hparams_config import get_inference_config
from ipu_utils.base.errors import UserError
from ipu_utils.config.run_options import OutputConfig
from ipu_utils.data.sources import ImageFiles, NoiseImages
from ipu_utils.outputs import annotated
from ipu_utils.outputs.annotated import PredictionWriter, clip_to_photograph
from ipu_utils.outputs.picture_names import names_by_batch, names_by_image, size_label
from ipu_utils.outputs.writers import open_outputs

SIZE = (64, 96)  # (height, width)
HEIGHT, WIDTH = 120, 160  # of every photograph below


@pytest.fixture
def source(tmp_path):
    """Five grey photographs, so that coloured pixels are annotations."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    names = ["a.png", "b.png", "c.png", "d.png", "sub/e.png"]
    for seed, name in enumerate(names):
        Image.fromarray(photo(HEIGHT, WIDTH, seed)[..., 0]).save(str(folder / name))
    return ImageFiles([folder / name for name in names], folder, SIZE)


@pytest.fixture
def writer(source, tmp_path):
    names = names_by_batch("efficientdet-d0", size_label(SIZE), source.count, batch_size=2)
    return PredictionWriter(tmp_path / "out", source, names)


def detections(*images):
    """Arrays of a batch, four rows an image; an image is a list of (class, score, box), rubbish fills the rest."""
    boxes, scores = np.full((len(images), 4, 4), 50.0, np.float32), np.full((len(images), 4), 0.99, np.float32)
    classes = np.full((len(images), 4), 7, np.int32)
    boxes[..., 2:] += 20
    for i, image in enumerate(images):
        for row, (class_id, score, box) in enumerate(image):
            classes[i, row], scores[i, row], boxes[i, row] = class_id, score, box
    return boxes, scores, classes, np.array([len(image) for image in images], np.int32)


CAT = (17, 0.876543, (10.25, 20.5, 70.0, 90.75))
CUP = (47, 0.5, (30, 100, 60, 140))


def results(folder):
    return json.loads((folder / "detections.json").read_text())


def coloured(path):
    """Where a picture of a grey photograph is not grey; JPEG shifts grey pixels by a few levels."""
    pixels = np.asarray(Image.open(str(path))).astype(int)
    return np.ptp(pixels, axis=-1) > 60


def test_every_image_of_every_batch_is_written_under_its_batch_and_row(writer, tmp_path):
    with writer:
        writer.write([0, 1], detections([CAT], []))
        writer.write([2, 3], detections([CUP], [CAT, CUP]))
        writer.write([4, -1], detections([CAT], [CAT]))
    assert writer.written == 5
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*"))
    stem = "efficientdet-d0_96x64_output"
    wanted = [f"{stem}_b{batch}_img{row}.jpg" for batch, row in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))]
    assert pictures == sorted(["detections.json", *wanted])
    assert [entry["annotated"] for entry in results(tmp_path / "out")] == wanted
    for name in wanted:
        assert Image.open(str(tmp_path / "out" / name)).size == (WIDTH, HEIGHT)


def test_the_json_file_says_what_was_found_where(writer, tmp_path):
    with writer:
        writer.write([4, 0], detections([], [CAT, CUP]))
    first, second = results(tmp_path / "out")
    assert first["file"] == "a.png" and second["file"] == "sub/e.png"
    assert (first["width"], first["height"]) == (WIDTH, HEIGHT)
    assert first["detections"] == [
        {"class_id": 17, "name": "cat", "score": 0.8765, "box": [10.25, 20.5, 70.0, 90.75]},
        {"class_id": 47, "name": "cup", "score": 0.5, "box": [30.0, 100.0, 60.0, 140.0]},
    ]
    assert second["detections"] == []


def test_boxes_are_drawn_where_they_are(writer, tmp_path):
    with writer:
        writer.write([0, 1], detections([(17, 0.9, (40, 30, 100, 110))], []))
    marked = coloured(tmp_path / "out" / "efficientdet-d0_96x64_output_b0_img0.jpg")
    rows, columns = np.nonzero(marked)
    assert abs(rows.max() - 100) <= 3 and abs(columns.max() - 110) <= 3 and abs(columns.min() - 30) <= 3  # line width
    for edge in (marked[96:100, 32:108], marked[45:95, 30:34], marked[45:95, 106:110]):
        assert edge.any(axis=0).all() or edge.any(axis=1).all()
    assert not marked[70:90, 45:95].any(), "the inside of a box stays free"
    assert not coloured(tmp_path / "out" / "efficientdet-d0_96x64_output_b0_img1.jpg").any()


def test_rows_beyond_the_detections_are_not_drawn(writer, tmp_path):
    with writer:
        writer.write([0], detections([]))  # four rows of rubbish with high scores
    assert results(tmp_path / "out")[0]["detections"] == []
    assert not coloured(tmp_path / "out" / "efficientdet-d0_96x64_output_b0_img0.jpg").any()


def test_low_scores_are_drawn_too_when_post_processing_kept_them(writer, tmp_path):
    with writer:
        writer.write([0], detections([(1, 0.0, (40, 30, 100, 110))]))
    assert coloured(tmp_path / "out" / "efficientdet-d0_96x64_output_b0_img0.jpg").any()


def test_an_image_is_written_once_however_often_it_comes(writer, tmp_path):
    with writer:
        writer.write([0, 1], detections([CAT], []))
        picture = (tmp_path / "out" / "efficientdet-d0_96x64_output_b0_img0.jpg").read_bytes()
        writer.write([1, 0], detections([CUP], [CUP]))
        writer.write([0, 0], detections([CUP], [CUP]))
    assert writer.written == 2
    assert [entry["detections"][0]["name"] if entry["detections"] else None for entry in results(tmp_path / "out")] == [
        "cat",
        None,
    ]
    assert (tmp_path / "out" / "efficientdet-d0_96x64_output_b0_img0.jpg").read_bytes() == picture


def test_what_an_untrained_network_finds_in_the_padding_is_left_out(writer, tmp_path):
    inside, across = (3, 0.9, (10, 10, 50, 50)), (4, 0.8, (100, 100, 155, 190))
    beside, flat = (5, 0.7, (130, 10, 140, 50)), (6, 0.6, (20, 40, 20, 60))
    with writer:
        writer.write([0], detections([inside, across, beside, flat]))
    found = results(tmp_path / "out")[0]["detections"]
    assert [(one["class_id"], one["box"]) for one in found] == [(3, [10, 10, 50, 50]), (4, [100, 100, HEIGHT, WIDTH])]


def test_boxes_without_numbers_do_not_break_the_file(writer, tmp_path):
    with writer:
        writer.write([0], detections([(3, 0.9, (np.nan, 10, 50, 50)), (3, 0.8, (0, 0, np.inf, 50)), CAT]))
    assert [one["class_id"] for one in results(tmp_path / "out")[0]["detections"]] == [17]


def test_clipping_keeps_boxes_that_reach_into_the_photograph():
    boxes, inside = clip_to_photograph([[-5, -5, 10, 20], [10, 10, 200, 300], [90, 0, 95, 5], [0, 0, 0, 5]], 90, 100)
    assert boxes[:2].tolist() == [[0, 0, 10, 20], [10, 10, 90, 100]]
    assert inside.tolist() == [True, True, False, False]
    assert clip_to_photograph(np.zeros((0, 4)), 5, 5)[1].shape == (0,)


def test_classes_without_a_name_are_numbered_and_label_maps_are_used(source, tmp_path):
    for folder, label_map, names in (
        ("coco", None, ["class 12", "person"]),
        ("own", {12: "street sign"}, ["street sign", "class 1"]),
    ):
        made = PredictionWriter(tmp_path / folder, source, ["a.jpg"], label_map)
        with made:
            made.write([0], detections([(12, 0.9, CAT[2]), (1, 0.8, CUP[2])]))
        assert [one["name"] for one in results(tmp_path / folder)[0]["detections"]] == names


def test_noise_is_annotated_too(tmp_path):
    noise = NoiseImages(2, (64, 64), 0)
    made = PredictionWriter(tmp_path, noise, names_by_image(noise, tmp_path))
    with made:
        made.write([1], detections([(1, 0.9, (5, 5, 60, 60))]))
    assert results(tmp_path)[0]["file"] == "generated-0001"
    assert Image.open(str(tmp_path / "generated-0001.jpg")).size == (64, 64)


@pytest.mark.parametrize("height, width", [(1, 1), (5, 300), (9, 9), (700, 900)])
def test_pictures_of_any_size_are_annotated(tmp_path, height, width):
    Image.fromarray(photo(height, width, 0)).save(str(tmp_path / "x.png"))
    source = ImageFiles([tmp_path / "x.png"], tmp_path, SIZE)
    made = PredictionWriter(tmp_path / "out", source, ["x.jpg"])
    with made:
        made.write([0], detections([(1, 0.9, (0, 0, height, width))]))
    assert len(results(tmp_path / "out")[0]["detections"]) == 1


@pytest.mark.parametrize(
    "image_size, label",
    [(512, "512"), ("512", "512"), ("640x384", "640x384"), ((384, 640), "640x384"), ((512, 512), "512")],
)
def test_sizes_are_spelt_as_on_the_command_line(image_size, label):
    assert size_label(image_size) == label


@pytest.mark.parametrize("image_size", [512, "512", "512x512", (512, 512)])
def test_a_square_that_was_asked_for_is_spelt_with_both_sides_as_in_the_original(image_size):
    assert size_label(image_size, asked=True) == "512x512"
    assert size_label((384, 640), asked=True) == "640x384"


def test_detections_replace_those_of_an_earlier_run_with_the_first_pictures_and_leave_nothing_unfinished(
    writer, tmp_path
):
    (tmp_path / "out" / "detections.json").write_text("old")
    with writer:
        writer.write([], detections())
        assert (tmp_path / "out" / "detections.json").read_text() == "old"
        writer.write([1], detections([CAT]))
        assert [entry["file"] for entry in results(tmp_path / "out")] == ["b.png"]
        writer.write([0], detections([CUP]))
    assert [entry["file"] for entry in results(tmp_path / "out")] == ["a.png", "b.png"]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_the_list_is_written_anew_while_pictures_come_but_not_with_each_of_them(writer, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(annotated.time, "monotonic", lambda: now[0])
    seen = []
    with writer:
        for number in range(5):
            writer.write([number], detections([CAT]))
            seen.append(len(results(tmp_path / "out")))
            now[0] += 0.6
    assert seen == [1, 1, 3, 3, 5] and len(results(tmp_path / "out")) == 5


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_run_that_ends_half_way_leaves_the_list_of_what_it_found(writer, tmp_path, error):
    with pytest.raises(error), writer:
        writer.write([3], detections([CAT]))
        writer.write([0], detections([CAT]))
        raise error
    assert [entry["file"] for entry in results(tmp_path / "out")] == ["a.png", "d.png"]


def test_a_run_that_ends_before_it_found_anything_leaves_what_was_there(writer, tmp_path):
    (tmp_path / "out" / "detections.json").write_text("old")
    with pytest.raises(ZeroDivisionError), writer:
        raise ZeroDivisionError
    assert (tmp_path / "out" / "detections.json").read_text() == "old"


def test_a_file_in_place_of_the_folder_is_an_error_before_measuring(source, tmp_path):
    (tmp_path / "taken").write_text("a file")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(UserError, match=r"--output-dir .*taken.* cannot be written to"):
            PredictionWriter(folder, source, [])


def test_a_folder_that_disappears_is_an_error(writer, tmp_path):
    (tmp_path / "out").rmdir()
    with pytest.raises(UserError, match=re.escape("efficientdet-d0_96x64_output_b0_img0.jpg cannot be written")):
        writer.write([0], detections([CAT]))


def test_the_writer_opens_only_when_predictions_are_asked_for(source, tmp_path):
    class Batches:
        batch_size = 2

    Batches.source = source
    hparams = get_inference_config("efficientdet-d0", image_size="96x64")
    assert open_outputs(OutputConfig(output_dir=tmp_path / "none"), "efficientdet-d0", hparams, Batches) is None
    assert not (tmp_path / "none").exists()
    for how, name in (("image", "d.jpg"), ("batch", "efficientdet-d0_96x64_output_b1_img1.jpg")):
        output = OutputConfig(output_predictions=True, output_dir=Path(tmp_path / how / "er"), picture_names=how)
        with open_outputs(output, "efficientdet-d0", hparams, Batches) as made:
            made.write([3], detections([CAT]))
        assert (tmp_path / how / "er" / name).exists()
        (entry,) = results(tmp_path / how / "er")
        assert (entry["annotated"], entry["detections"][0]["name"]) == (name, "cat")


def images_named(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(str(folder / name), "PNG")
    return ImageFiles([folder / name for name in names], folder, SIZE)


def test_pictures_have_the_names_of_their_images_and_no_two_the_same(tmp_path):
    names = ["a.png", "a.jpg", "a-2.jpg", "A.webp", "park/a.png", "street/b.c.png"]
    found = names_by_image(images_named(tmp_path / "in", *names), tmp_path / "out")
    assert found == ["a.jpg", "a-3.jpg", "a-2.jpg", "A-4.jpg", "a-5.jpg", "b.c.jpg"]


def test_no_picture_takes_the_name_of_an_image_in_its_folder(tmp_path):
    source = images_named(tmp_path / "in", "a-annotated.png", "a.jpg", "a.png", "b/a.png")
    wanted = ["a-annotated-annotated.jpg", "a-annotated.jpg", "a-annotated-2.jpg", "a-annotated-3.jpg"]
    os.symlink("in", str(tmp_path / "link"))
    for folder in ("in", "link"):
        assert names_by_image(source, tmp_path / folder) == wanted
    again = images_named(tmp_path / "in", "a-annotated.jpg", "a.jpg")
    assert names_by_image(again, tmp_path / "in") == ["a-annotated-annotated.jpg", "a-annotated-2.jpg"]


def test_names_of_pictures_are_no_longer_than_a_file_system_takes(tmp_path):
    longest = "\u00e9" * 125  # 250 bytes
    source = images_named(tmp_path / "in", f"{longest}.png", f"{longest}.jpg")
    first, second = names_by_image(source, tmp_path / "out")
    assert first == f"{longest}.jpg" and second == "\u00e9" * 124 + "-2.jpg"
    assert len(second.encode()) <= 255
