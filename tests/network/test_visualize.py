# SPDX-License-Identifier: Apache-2.0
"""Pictures of detections: boxes and readable labels inside the image, files of the right images."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFont

from hparams_config import get_efficientdet_config
from ipu_automl_io import visualise_detections, visualize_image
from ipu_utils.base.keras2 import tf
from visualize import labels, vis_utils
from visualize.labels import Rectangle, fit_text, font_size, place_label, text_mask

GREY = 90
NAMES = {1: {"name": "person"}, 2: {"name": "baseball glove"}}


def grey(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def changed(image):
    """Rectangle of all pixels that are no longer grey."""
    rows, columns = np.nonzero((image != GREY).any(-1))
    return (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) if len(rows) else None


def draw(image, boxes, classes, scores, **options):
    return vis_utils.visualize_boxes_and_labels_on_image_array(
        image, np.array(boxes, np.float32), np.array(classes), scores, NAMES, **options
    )


@pytest.mark.parametrize("letter", ["m", "\u0301", "W "])
def test_a_name_of_any_length_is_cut_without_being_drawn_whole(letter):
    text_mask.cache_clear()
    text, size = fit_text(letter * 8000, "93%", 14, 90)
    assert text_mask.cache_info().misses < 30, "each of its beginnings was drawn"
    assert len(text) < 250 and text_mask(text, size).width < 120
    wide, _ = fit_text(letter * 8000, "93%", 14, 10**6)
    assert wide.startswith(letter * 90) and len(wide) < 250


def test_the_line_of_a_box_runs_along_its_corners():
    image = draw(grey(100, 200), [[20, 30, 60, 110]], [1], [0.9], skip_labels=True, skip_scores=True, line_thickness=2)
    assert changed(image) == (20, 30, 60, 110)
    color = vis_utils.class_color(1)
    assert (image[20:22, 30:110] == color).all() and (image[20:60, 108:110] == color).all()
    assert (image[22:58, 32:108] == GREY).all()


def test_the_array_is_changed_in_place_and_returned():
    image = grey(50, 50)
    assert draw(image, [[10, 10, 40, 40]], [1], [0.9]) is image
    assert changed(image)
    untouched = grey(50, 50)
    visualize_image(untouched, np.array([[10, 10, 40, 40]]), np.array([1]), np.array([0.9]))
    assert changed(untouched) is None


@pytest.mark.parametrize("height, width", [(75, 100), (40, 120), (480, 640), (3000, 4000), (300, 100), (12, 12)])
def test_labels_stay_inside_images_of_any_size(height, width):
    corners = [[0, 0, 0.3, 0.3], [0, 0.7, 0.3, 1], [0.7, 0, 1, 0.3], [0.7, 0.7, 1, 1], [0, 0, 1, 1], [-0.5, -0.5, 2, 2]]
    boxes = np.array(corners) * [height, width, height, width]
    image = draw(grey(height, width), boxes, [2] * 6, [0.9] * 6)
    assert image.shape == (height, width, 3)
    size, taken = font_size(width, height), []
    for box in boxes:
        rectangle = vis_utils._pixels(*box, (width, height), False)
        text, letters = fit_text("baseball glove", "90%", size, width)
        spot = place_label(text, letters, rectangle, taken, (width, height))
        assert spot.left >= 0 and spot.top >= 0
        assert min(height, width) < 20 or (spot.right <= width and spot.bottom <= height)
        taken.append(spot)


@pytest.mark.parametrize("width, low, high", [(100, 8, 14), (640, 11, 24), (4000, 48, 110)])
def test_letters_grow_with_the_image_but_not_beyond_reading(width, low, high):
    assert low <= font_size(width, width * 3 // 4) <= high
    assert low <= text_mask("person: 97%", font_size(width, width * 3 // 4)).height <= 1.5 * high


def test_letters_of_the_label_can_be_read_in_the_picture():
    image = draw(grey(480, 640), [[100, 100, 300, 300]], [1], [0.97], skip_boxes=True)
    top, left, bottom, right = changed(image)
    label = image[top:bottom, left:right].astype(int)
    mask = np.asarray(text_mask("person: 97%", font_size(640, 480)))
    ink = np.abs(label - vis_utils.class_color(1)).sum(-1) > 0
    margin = (label.shape[0] - mask.shape[0]) // 2
    np.testing.assert_array_equal(ink[margin:-margin, margin:-margin], mask > 0)


def test_labels_of_one_box_are_not_written_over_each_other():
    box, taken = Rectangle(100, 100, 300, 300), []
    for _ in range(10):
        spot = place_label("person: 97%", 14, box, taken, (640, 480))
        assert not any(spot.meets(other) for other in taken)
        taken.append(spot)


def test_names_that_do_not_fit_are_cut_and_the_score_comes_last():
    assert fit_text("baseball glove", "93%", 14, 500) == ("baseball glove: 93%", 14)
    smaller, size = fit_text("baseball glove", "93%", 14, 110)
    assert smaller == "baseball glove: 93%" and size < 14
    cut, size = fit_text("baseball glove", "93%", 14, 60)
    assert cut.startswith("bas") and cut.endswith(".. 93%") and size == 8
    assert fit_text("baseball glove", "93%", 14, 5) == ("93%", 8)


def test_classes_have_their_own_stable_color():
    colors = [vis_utils.class_color(class_id) for class_id in range(1, 91)]
    assert len(set(colors)) == 90
    assert vis_utils.class_color(1) == vis_utils.class_color(np.int64(1)) == vis_utils.class_color(91)
    for first, second in zip(colors, colors[1:]):
        assert max(abs(a - b) for a, b in zip(first, second)) > 80


def test_only_scores_above_the_threshold_and_the_best_boxes_are_drawn():
    boxes = [[10, 10, 30, 30], [50, 50, 70, 70], [50, 10, 70, 30]]
    options = {"skip_labels": True, "skip_scores": True, "line_thickness": 1}
    assert changed(draw(grey(100, 100), boxes, [1, 1, 1], [0.5, 0.4, 0.9], min_score_thresh=0.5, **options)) == (
        50,
        10,
        70,
        30,
    )
    assert changed(draw(grey(100, 100), boxes, [1, 1, 1], [0.6, 0.8, 0.7], max_boxes_to_draw=1, **options)) == (
        50,
        50,
        70,
        70,
    )


def test_boxes_without_a_place_in_the_image_are_left_out():
    boxes = [[-50, -50, -10, -10], [200, 200, 300, 300], [np.nan, 0, 10, 10], [0, 0, np.inf, 10]]
    assert changed(draw(grey(100, 100), boxes, [1] * 4, [0.9] * 4)) is None
    assert changed(draw(grey(100, 100), np.zeros((0, 4)), [], np.zeros(0))) is None


def test_ground_truth_has_no_label_and_an_unnamed_class_its_number(monkeypatch):
    image = draw(grey(100, 100), [[20, 20, 80, 80]], [1], None)
    assert changed(image) == (20, 20, 80, 80) and (image[20, 20:80] == 0).all()
    texts = []
    monkeypatch.setattr(vis_utils, "draw_label", lambda image, text, *rest: texts.append(text))
    draw(grey(500, 500), [[20, 20, 80, 80]] * 3, [12, 1, 2], [0.994, 0.5, 0.7], min_score_thresh=0.1)
    assert sorted(texts) == ["baseball glove: 70%", "class 12: 99%", "person: 50%"]
    texts.clear()
    draw(grey(500, 500), [[20, 20, 80, 80]], [1], [0.8], agnostic_mode=True)
    assert texts == ["80%"]


def test_shares_of_the_image_may_be_given():
    options = {"skip_labels": True, "skip_scores": True}
    image = draw(grey(100, 200), [[0.25, 0.25, 0.75, 0.5]], [1], [0.9], use_normalized_coordinates=True, **options)
    assert changed(image) == (25, 50, 75, 100)


def test_one_box_can_be_drawn_with_a_color_name():
    image = grey(100, 100)
    vis_utils.draw_bounding_box_on_image_array(image, 0.2, 0.2, 0.8, 0.8, color="red", thickness=3)
    assert changed(image) == (20, 20, 80, 80) and (image[20:23, 20:80] == (255, 0, 0)).all()


def test_without_scalable_fonts_letters_are_enlarged(monkeypatch):
    bitmap = getattr(ImageFont, "load_default_imagefont", ImageFont.load_default)()

    def load_default(size=None):
        if size is not None:
            raise TypeError("load_default() takes 0 positional arguments but 1 was given")
        return bitmap

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    labels._load_font.cache_clear()
    text_mask.cache_clear()
    try:
        small, large = text_mask("Vögel 5%", 11), text_mask("Vögel 5%", 44)
        assert (large.width, large.height) == (4 * small.width, 4 * small.height)
        assert np.asarray(small).any()
    finally:
        labels._load_font.cache_clear()
        text_mask.cache_clear()


def make_args(tmp_path, batch=2):
    return SimpleNamespace(output_dir=str(tmp_path / "out"), model_name="efficientdet-d0", micro_batch_size=batch)


def detections(boxes, lengths, as_tensors):
    """One class-1 box an image, in K = 3 rows; rows beyond the length would cover the image."""
    rows = np.zeros((len(boxes), 3, 4), np.float32)
    rows[:, 0], rows[:, 1:] = boxes, [0, 0, 1000, 1000]
    made = rows, np.full((len(boxes), 3), 0.9, np.float32), np.ones((len(boxes), 3), np.float32), np.array(lengths)
    return [tf.constant(part) for part in made] if as_tensors else made


@pytest.mark.parametrize("as_tensors", [False, True])
def test_every_batch_writes_its_own_images_and_the_last_may_be_partial(tmp_path, as_tensors):
    sizes = [(60, 80), (90, 50), (100, 100)]  # three images of different sizes in batches of two
    imgs = [grey(*size) for size in sizes]
    config = get_efficientdet_config("efficientdet-d0")
    args = make_args(tmp_path)
    paths = []
    for batch in range(2):
        outputs = detections([[20, 20, 40, 40]] * 2, [1, 1], as_tensors)
        paths += visualise_detections(args, config, imgs, None, outputs, batch_num=batch)
    stem = f"{args.output_dir}/efficientdet-d0_512_output"
    assert paths == [f"{stem}_b0_img0.jpg", f"{stem}_b0_img1.jpg", f"{stem}_b1_img0.jpg"]
    for path, (height, width) in zip(paths, sizes):
        with Image.open(path) as image:
            assert image.size == (width, height)
            pixels = np.asarray(image).astype(int)
        assert np.abs(pixels[42:, :18] - GREY).max() < 40  # JPEG; what lies outside box and label is as it was.
        assert np.abs(pixels[20:40, 20:40] - GREY).max() > 80


@pytest.mark.parametrize("asked, in_configuration", [("512x512", 512), (None, "512x512"), ((512, 512), (512, 512))])
def test_a_size_that_was_asked_for_is_spelt_with_both_sides(tmp_path, asked, in_configuration):
    config = get_efficientdet_config("efficientdet-d0")
    config.image_size = in_configuration
    args = make_args(tmp_path)
    args.image_size = asked
    (path,) = visualise_detections(args, config, [grey(50, 60)], None, detections([[2, 2, 4, 4]], [1], False))
    assert path.endswith("/efficientdet-d0_512x512_output_b0_img0.jpg")


def test_inputs_are_written_beside_and_sizes_are_width_by_height(tmp_path):
    config = get_efficientdet_config("efficientdet-d0")
    config.image_size = (64, 96)
    inputs = tf.zeros([2, 64, 96, 3], tf.uint8)
    outputs = detections([[20, 20, 40, 40]] * 2, [1, 0], False)
    visualise_detections(make_args(tmp_path), config, [grey(50, 60)] * 2, inputs, outputs)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"efficientdet-d0_96x64_{kind}_b0_img{i}.jpg" for kind in ("input", "output") for i in (0, 1)]
    with Image.open(tmp_path / "out" / "efficientdet-d0_96x64_output_b0_img1.jpg") as image:
        assert np.abs(np.asarray(image).astype(int) - GREY).max() < 3  # No detection, no drawing.


@pytest.mark.parametrize("score, drawn", [(0.02, True), (0.005, False)])
def test_without_a_threshold_scores_from_a_hundredth_on_are_drawn(score, drawn):
    image = np.zeros((60, 80, 3), np.uint8)
    boxes = np.array([[10, 10, 50, 70]], np.float32)
    annotated = visualize_image(image, boxes, np.array([1]), np.array([score], np.float32))
    assert bool(np.any(annotated)) is drawn
