# SPDX-License-Identifier: Apache-2.0
"""--output-predictions of a video: one annotated video with every frame in its place, and the list."""

import json
import os
from types import SimpleNamespace

import coco_set
import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV is not installed: pip install av")

from videos import SIZE, make_video, number_of

from hparams_config import get_inference_config
from ipu_utils.base.errors import UserError
from ipu_utils.config.model_options import DataConfig
from ipu_utils.config.run_options import OutputConfig
from ipu_utils.data.sources import open_source
from ipu_utils.outputs.writers import open_outputs

BOX = (6, 36, 42, 60)  # in the right half, where frames tell nothing


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("video") / "clip.mp4", 7)


def outputs_of(clip, folder):
    source = open_source(DataConfig("video", image_path=clip), SIZE, 1)
    output = OutputConfig(output_predictions=True, output_dir=folder, quiet=True)
    batches = SimpleNamespace(source=source, batch_size=1)
    return open_outputs(output, "efficientdet-d0", get_inference_config("efficientdet-d0"), batches)


def run(clip, folder, numbers):
    writer = outputs_of(clip, folder)
    with writer:
        for number in numbers:
            writer.write([number, -1], [np.repeat(part, 2, 0) for part in coco_set.as_batch([(3, 0.9, BOX)])])
    return writer


@pytest.mark.parametrize("numbers", [range(7), [3, 4, 5, 6, 0, 1, 2, 3]])
def test_every_frame_is_annotated_once_in_its_place(clip, tmp_path, numbers):
    writer = run(clip, tmp_path / "out", numbers)
    assert writer.report() == (
        f"video:     7 annotated frames in {tmp_path / 'out' / 'clip.mp4'}, detections.json beside it"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.mp4", "detections.json"]
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [entry["file"] for entry in entries] == [f"clip-{number:06d}" for number in range(7)]
    assert {entry["annotated"] for entry in entries} == {"clip.mp4"}
    assert entries[0]["detections"] == [{"class_id": 3, "name": "car", "score": 0.9, "box": [6.0, 36.0, 42.0, 60.0]}]
    assert (entries[0]["width"], entries[0]["height"]) == SIZE[::-1]
    before, after = (open_source(DataConfig("video", image_path=path), SIZE, 1)
                     for path in (clip, tmp_path / "out" / "clip.mp4"))  # fmt: skip
    assert after.count == 7 and after.rate == before.rate and after.size(0) == SIZE
    for number in range(7):
        image, original = after.original(number).astype(int), before.original(number).astype(int)
        assert number_of(image) == number
        change = np.abs(image - original).mean(-1)
        assert change[30:40, 36].min() > 25, "the left side of the box is drawn"
        assert np.median(change[:, 5:28]) < 10, "beside it the frame is the original's"


def test_beside_the_original_it_has_another_name(clip, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.read_bytes())
    run(path, tmp_path, range(7))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["clip-annotated.mp4", "clip.mp4", "detections.json"]
    assert path.read_bytes() == clip.read_bytes()


def test_a_run_that_ends_early_leaves_the_list_and_the_video_that_was_there(clip, tmp_path):
    (tmp_path / "clip.mp4").write_text("old")
    writer = outputs_of(clip, tmp_path)
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write([0], coco_set.as_batch([(3, 0.9, BOX)]))
        raise KeyboardInterrupt
    assert (tmp_path / "clip.mp4").read_text() == "old"
    assert len(json.loads((tmp_path / "detections.json").read_text())) == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_is_told(clip, tmp_path):
    os.symlink("/dev/full", str(tmp_path / "clip.mp4"))
    with pytest.raises(UserError, match=r"clip\.mp4 .*cannot be written"):
        run(clip, tmp_path, range(7))
    assert len(json.loads((tmp_path / "detections.json").read_text())) == 7


def test_sides_of_an_odd_number_of_pixels_get_one_more(clip, tmp_path, monkeypatch):
    from ipu_utils.data.video import VideoFrames

    monkeypatch.setattr(VideoFrames, "_original", lambda self, number: np.full((47, 63, 3), 20 * number, np.uint8))
    monkeypatch.setattr(VideoFrames, "_size", lambda self, number: (47, 63))
    run(clip, tmp_path / "out", range(7))
    monkeypatch.undo()
    found = open_source(DataConfig("video", image_path=tmp_path / "out" / "clip.mp4"), SIZE, 1)
    assert found.size(0) == (48, 64) and found.count == 7
    assert abs(found.original(6)[47, :30].mean() - 120) < 8
