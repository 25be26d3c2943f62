# SPDX-License-Identifier: Apache-2.0
"""COCO results and their evaluation, against pycocotools called by hand and detectors that know the answers."""

import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import coco_set
import numpy as np
import pytest
from PIL import Image

from hparams_config import get_inference_config
from ipu_utils.base.errors import UserError
from ipu_utils.config.model_options import DataConfig, ModelConfig
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.config.run_options import OutputConfig
from ipu_utils.data.sources import ImageFiles, NoiseImages, open_source
from ipu_utils.outputs import coco_eval
from ipu_utils.outputs.coco import Annotations, CocoWriter, ResultsFile, compared, image_ids
from ipu_utils.outputs.coco_classes import Classes
from ipu_utils.outputs.writers import check, open_outputs

ROOT = Path(__file__).resolve().parents[2]
SIZE = (64, 64)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return coco_set.make_set(tmp_path_factory.mktemp("coco"))


@pytest.fixture
def source(coco):
    return open_source(DataConfig(dataset_type="image-directory", image_path=coco.images), SIZE, 1)


def run(source, writer, detector, numbers=None):
    with writer:
        for number in range(source.count) if numbers is None else numbers:
            writer.write([number], detector(source.name(number)))
    return writer


def test_a_perfect_detector_scores_one(coco, source, tmp_path):
    pytest.importorskip("pycocotools")
    writer = CocoWriter(source, tmp_path / "results.json", Annotations(coco.annotations))
    values = run(source, writer, lambda name: coco_set.perfect(coco, name)).accuracy().as_dict()
    assert all(values[name] == pytest.approx(1) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"))
    assert values["AR100"] == pytest.approx(1) and values["AR1"] < 1


@pytest.mark.parametrize("seed", range(3))
def test_the_twelve_numbers_are_those_of_pycocotools(coco, source, tmp_path, seed):
    path = tmp_path / "results.json"
    writer = run(
        source,
        CocoWriter(source, path, Annotations(coco.annotations)),
        lambda name: coco_set.flawed(coco, name, seed),
    )
    expected = coco_set.by_hand(coco, path)
    assert 0.05 < expected[0] < 0.95, "a detector without flaws, or without a hit, would prove nothing"
    np.testing.assert_array_equal(writer.accuracy().values, expected)


def test_the_file_holds_the_detections_in_the_original_pixels(coco, source, tmp_path):
    path = tmp_path / "deep" / "results.json"
    run(source, CocoWriter(source, path, Annotations(coco.annotations)), lambda name: coco_set.perfect(coco, name))
    found = json.loads(path.read_text())
    truth = [one for one in coco.dataset["annotations"] if not one["iscrowd"]]
    key = lambda one: (one["image_id"], one["category_id"], one["bbox"])  # noqa: E731
    assert len(found) == len(truth)
    for ours, theirs in zip(sorted(found, key=key), sorted(truth, key=key)):
        assert set(ours) == {"image_id", "category_id", "bbox", "score"} and ours["score"] == 0.9
        assert (ours["image_id"], ours["category_id"]) == (theirs["image_id"], theirs["category_id"])
        np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=2e-3)


def test_only_the_images_that_ran_count_and_those_without_detections_count_too(coco, source, tmp_path):
    path = tmp_path / "results.json"
    writer = CocoWriter(source, path, Annotations(coco.annotations))
    nothing = coco_set.as_batch([])
    with writer:
        for number in (1, 2, 5):
            name = source.name(number)
            writer.write([number], nothing if number == 2 else coco_set.perfect(coco, name))
    ids = [1000 - 7 * number for number in (1, 2, 5)]
    accuracy = writer.accuracy()
    assert accuracy.images == 3 and accuracy.values[0] < 1
    np.testing.assert_array_equal(accuracy.values, coco_set.by_hand(coco, path, ids))


def test_a_run_that_finds_nothing_scores_nothing(coco, source):
    pytest.importorskip("pycocotools")
    writer = CocoWriter(source, None, Annotations(coco.annotations))
    values = run(source, writer, lambda name: coco_set.as_batch([])).accuracy().as_dict()
    assert values["AP"] == values["AR100"] == 0
    report = writer.report()
    assert "AP    = 0.0000" in report and "results:" not in report


def test_an_image_counts_once_however_often_it_comes(coco, source, tmp_path):
    with CocoWriter(source, tmp_path / "results.json", None) as writer:
        batch = [np.concatenate([part, part]) for part in coco_set.perfect(coco, source.name(1))]
        for _ in range(3):
            writer.write([1, 1], batch)
        writer.write([-1], coco_set.perfect(coco, source.name(1)))
    assert writer.written == 1
    assert len(json.loads((tmp_path / "results.json").read_text())) == len(coco.boxes_of(source.name(1)))


def named(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(str(folder / name))
    return ImageFiles([folder / name for name in names], folder, SIZE)


def test_ids_are_the_last_number_of_the_file_name(tmp_path):
    assert image_ids(named(tmp_path, "000000397133.jpg", "COCO_val2014_000000000042.jpg", "2/img7.png")) == {
        0: 397133,
        1: 42,
        2: 7,
    }
    with pytest.raises(UserError, match=r"cat\.jpg has no number .*--coco-annotations"):
        image_ids(named(tmp_path, "1.jpg", "cat.jpg"))
    with pytest.raises(UserError, match=r"a/7\.jpg and b/007\.jpg would both be image 7"):
        image_ids(named(tmp_path, "a/7.jpg", "b/007.jpg"))


def test_ids_of_annotations_win_over_the_names_and_unknown_images_are_left_out(coco, tmp_path):
    annotations = Annotations(coco.annotations)
    source = named(tmp_path, "000000000001.jpg", "val/000000000002.jpg", "other.jpg")
    assert compared(source, annotations, Classes())[0] == {0: 993, 1: 986}
    with pytest.raises(UserError, match=r"knows none of the 1 images, such as x\.jpg"):
        compared(named(tmp_path, "x.jpg"), annotations, Classes())


def test_images_that_the_annotations_do_not_know_are_counted_in_the_report(coco, tmp_path):
    pytest.importorskip("pycocotools")
    source = NoiseImages(3, SIZE, 0)
    source.name = lambda number: ("000000000001.jpg", "000000000002.jpg", "other.jpg")[number]
    writer = CocoWriter(source, None, Annotations(coco.annotations))
    report = run(source, writer, lambda name: coco_set.as_batch([(1, 0.9, (1, 1, 9, 9))])).report()
    assert "not used:  1 images" in report and "all 2 annotated images" in report


@pytest.mark.parametrize(
    "content, message",
    [
        ("[]", "expected an object with `images`.*got \\[\\]"),
        ("{", "cannot be read"),
        ('{"images": [{"id": 1}]}', r"images\[0\]\.file_name is missing"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1}], '
            '"annotations": [{"id": 1, "image_id": 1, "caption": "x"}]}',
            r"annotations\[0\]\.category_id is missing",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=message):
        Annotations(tmp_path / "a.json")


def test_without_pycocotools_evaluating_is_refused_before_the_run_and_writing_is_not(
    coco, source, tmp_path, monkeypatch
):
    for name in ("pycocotools", "pycocotools.coco", "pycocotools.cocoeval"):
        monkeypatch.setitem(sys.modules, name, None)
    asked = OutputConfig(coco_annotations=coco.annotations, coco_results=tmp_path / "r.json")
    with pytest.raises(UserError, match="pip install pycocotools"):
        check(asked, source)
    batches, hparams = SimpleNamespace(source=source, batch_size=1), get_inference_config("efficientdet-d0")
    with pytest.raises(UserError, match="pip install pycocotools"):
        open_outputs(asked, "efficientdet-d0", hparams, batches)
    outputs = open_outputs(OutputConfig(coco_results=tmp_path / "r.json"), "efficientdet-d0", hparams, batches)
    assert "0 detections of 1 images" in run(source, outputs, lambda name: coco_set.as_batch([]), [0]).report()


def test_all_outputs_come_from_one_pass(coco, source, tmp_path):
    output = OutputConfig(output_predictions=True, output_dir=tmp_path / "out", coco_results=tmp_path / "r.json")
    batches = SimpleNamespace(source=source, batch_size=1)
    outputs = open_outputs(output, "m", get_inference_config("efficientdet-d0"), batches)
    run(source, outputs, lambda name: coco_set.perfect(coco, name))
    assert outputs.written == source.count == 8
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 8
    assert "8 annotated images" in outputs.report() and "results: " in outputs.report()
    assert open_outputs(OutputConfig(), "m", get_inference_config("efficientdet-d0"), batches) is None


def test_the_array_is_complete_after_every_append_and_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("old")
    file = ResultsFile(path)
    assert file.read() == []
    expected = []
    for count in (2, 0, 1):
        entries = [{"image_id": len(expected) + i} for i in range(count)]
        file.append(entries)
        expected += entries
        assert file.read() == expected and path.read_text() == "old"
    file.commit()
    assert json.loads(path.read_text()) == file.read() == expected
    file.close()
    assert [one.name for one in tmp_path.iterdir()] == ["r.json"]


def test_a_file_that_is_closed_and_not_committed_never_was(tmp_path):
    file = ResultsFile(tmp_path / "r.json")
    file.append([{"image_id": 1}])
    file.close()
    assert not list(tmp_path.iterdir())


WRITES = """if True:
    import sys
    from pathlib import Path
    import numpy as np
    from ipu_utils.outputs.coco import CocoWriter
    from ipu_utils.data.sources import (NoiseImages)
    found = np.ones((1, 50, 4)) * [1, 2, 30, 40], np.full((1, 50), 0.5), np.ones((1, 50)), [50]
    source = NoiseImages(10**6, (64, 64), 0)
    with CocoWriter(source, Path(sys.argv[1]), None) as writer:
        for number in range(source.count):
            writer.write([number], found)
            if number == 20:
                print("writing", flush=True)
"""


@pytest.mark.parametrize(
    "number, old",
    [
        pytest.param(signal.SIGINT, None, marks=pytest.mark.slow),
        (signal.SIGKILL, "[]"),
        pytest.param(signal.SIGINT, "[]", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, None, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_stopped_leaves_the_old_file_or_a_valid_one_where_there_was_none(tmp_path, number, old):
    path = tmp_path / "r.json"
    if old is not None:
        path.write_text(old)
    # Whatever runs the tests may have been started with SIGINT ignored, as a shell's background jobs are.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-c", WRITES, str(path)]
    process = subprocess.Popen(
        command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=listen
    )
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode != 0
    if old is not None:
        assert path.read_text() == old
    elif number == signal.SIGKILL:
        assert not path.exists()
    else:
        found = json.loads(path.read_text())
        assert len(found) > 1000 and len(found) % 50 == 0


def test_two_runs_into_one_file_leave_the_results_of_one(tmp_path):
    files = [ResultsFile(tmp_path / "r.json") for _ in range(2)]
    for turn in range(3):
        for number, file in enumerate(files):
            file.append([{"image_id": number, "turn": turn}])
    for file in files:
        file.commit()
        file.close()
    found = json.loads((tmp_path / "r.json").read_text())
    assert [(one["image_id"], one["turn"]) for one in found] == [(1, 0), (1, 1), (1, 2)]


@pytest.mark.slow
def test_the_script_interrupted_while_it_writes_leaves_a_valid_file(tmp_path):
    coco = coco_set.make_set(tmp_path / "set", count=400)
    (tmp_path / "out").mkdir()
    results = tmp_path / "out" / "results.json"
    command = [
        sys.executable, str(ROOT / "ipu_inference.py"), "--device", "cpu", "--model-name", "efficientdet-lite0",
        "--image-size", "128", "--random-weights", "--num-repeats", "2", "--benchmark-repeats", "1",
        "--dataset-type", "image-directory", "--image-path", str(coco.images), "--coco-results", str(results),
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=str(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not any(path.stat().st_size > 2000 for path in results.parent.iterdir()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors.decode().splitlines()[-1].startswith("interrupted")
    found = json.loads(results.read_text())
    assert 0 < len({one["image_id"] for one in found}) < 400
    assert [path.name for path in results.parent.iterdir()] == ["results.json"]


def test_a_file_that_cannot_be_written_is_an_error_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--coco-results .* cannot be written"):
        ResultsFile(tmp_path / "file" / "r.json")


def test_presets_set_the_threshold_and_hparams_win():
    def threshold(preset, hparams=""):
        return hparams_of(ModelConfig(hparams=hparams), None, preset).nms_configs.score_thresh

    assert threshold("accuracy") == 0.001
    assert threshold("deployment") == threshold(None) == 0.4
    assert threshold("accuracy", "nms_configs.score_thresh=0.2") == 0.2


def test_the_report_tells_which_number_is_which():
    text = str(coco_eval.Accuracy((0.5, -1.0, *[0.25] * 10), 12))
    assert "over all 12 annotated images" in text and text.isascii()
    lines = text.splitlines()
    assert len(lines) == 13 and lines[1].split()[:3] == ["AP", "=", "0.5000"] and "none" in lines[2]
