# SPDX-License-Identifier: Apache-2.0
"""What a combination of a sweep keeps of its detections, and how two of them are compared."""

import numpy as np
import pytest
from records import outcome, run_config

from ipu_utils.base.detections import Detections, ImageDetections
from ipu_utils.data.sources import NoiseImages
from ipu_utils.launch.agreement_pass import DETECTIONS_VARIABLE, KEPT_IMAGES, compare, keep_detections, read_kept
from ipu_utils.report.record import make_record, share_found_again


class Detector:
    """Finds up to three boxes in an image, made of its first pixels; all in memory that it uses again."""

    def __init__(self, batch_size):
        self.seen, self.lengths = [], np.zeros(batch_size, np.int32)
        self.boxes, self.scores = np.zeros((batch_size, 3, 4), np.float32), np.zeros((batch_size, 3), np.float32)
        self.classes = np.zeros((batch_size, 3), np.int32)

    def __call__(self, images, scales):
        self.seen.append(images.copy())
        self.lengths[:] = images[:, 0, 0, 0] % 4
        self.boxes[:] = images[:, 0, :4, 0][:, None]
        self.scores[:], self.classes[:] = 0.5, images[:, 0, 0, :]
        return Detections(self.boxes, self.scores, self.classes, self.lengths)


@pytest.mark.parametrize("count, batch_size", [(5, 2), (40, 3), (1, 4)])
def test_the_first_images_are_kept_once_each_by_number(tmp_path, monkeypatch, count, batch_size):
    monkeypatch.setenv(DETECTIONS_VARIABLE, str(tmp_path / "d.npz"))
    source = NoiseImages(count, (16, 16), 0)
    keep_detections(Detector(batch_size), source, batch_size)
    kept = read_kept(tmp_path / "d.npz")
    assert list(kept) == list(range(min(count, KEPT_IMAGES)))
    for number, found in kept.items():
        image = source.original(number)
        length = int(image[0, 0, 0]) % 4
        np.testing.assert_array_equal(found.boxes, np.tile(image[0, :4, 0].astype(np.float32), (length, 1)))
        np.testing.assert_array_equal(found.classes, image[0, 0, :length])
        assert found.scores.tolist() == [0.5] * length


def test_nobody_asks_or_nothing_can_tell_and_nothing_is_run(tmp_path, monkeypatch):
    detector, source = Detector(1), NoiseImages(2, (16, 16), 0)
    monkeypatch.delenv(DETECTIONS_VARIABLE, raising=False)
    keep_detections(detector, source, 1)
    assert detector.seen == []
    monkeypatch.setenv(DETECTIONS_VARIABLE, str(tmp_path / "d.npz"))
    keep_detections(lambda images, scales: None, source, 1)
    assert read_kept(tmp_path / "d.npz") == {}
    monkeypatch.setenv(DETECTIONS_VARIABLE, str(tmp_path / "missing" / "d.npz"))
    keep_detections(detector, source, 1)  # a place that cannot be written costs no measurement
    assert len(detector.seen) == 2


def record_of(precision="float32", name="efficientdet-d0", engine="openvino"):
    model = {"name": name, "image_size": [64, 64], "num_classes": 90, "precision": precision, "input_type": "uint8"}
    return make_record(run_config(engine=engine), outcome(model=model))


def boxes_of(*shifts, classes=None):
    """A box of 10 pixels a shift, which moves it to the right."""
    boxes = np.array([[0, 100 * at + shift, 10, 100 * at + shift + 10] for at, shift in enumerate(shifts)], np.float32)
    numbers = np.ones(len(boxes), np.int32) if classes is None else np.array(classes)
    return ImageDetections(boxes.reshape(-1, 4), np.linspace(1, 0.5, len(boxes)), numbers)


def test_the_share_of_what_was_found_again():
    # Boxes that are 3 of 10 pixels apart have an IoU of 7/13, those 4 apart one of 6/14.
    reference = {0: boxes_of(0, 0, 0, 0), 1: boxes_of(0), 2: boxes_of(0, 0)}
    other = {0: boxes_of(0, 3, 4, 0, classes=[1, 1, 1, 2]), 1: boxes_of(), 7: boxes_of(0)}
    found = [
        (record_of("bfloat16"), other),  # comes before what it is compared with
        (record_of(engine="litert"), reference),
        (record_of(), {0: reference[0], 1: reference[1], 2: boxes_of()}),
        (record_of("float16", name="efficientdet-d1"), other),
        (record_of("float16"), {}),
    ]
    compare(found)
    shares = [share_found_again(record) for record, _ in found]
    assert shares == [2 / 5, None, 5 / 7, None, None]
    assert [(record.get("agreement") or {}).get("is_reference") for record, _ in found] == [
        False, True, False, None, None,
    ]  # fmt: skip
    assert found[0][0]["agreement"]["images"] == 2 and found[0][0]["agreement"]["reference_engine"] == "litert"


def test_of_nothing_there_is_no_share():
    found = [(record_of(), {0: boxes_of()}), (record_of("bfloat16"), {0: boxes_of(0)})]
    compare(found)
    assert share_found_again(found[1][0]) is None and found[1][0]["agreement"]["detections"] == 0
