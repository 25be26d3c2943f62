# SPDX-License-Identifier: Apache-2.0
"""More detections than COCO's hundred: what nms_configs.max_output_size says, on every engine and in every output."""

import contextlib
import functools
import json
import re
import shutil
from pathlib import Path

import ipu_stand_in
import numpy as np
import poplar_model
import poplar_nms
import pytest

import hparams_config
import ipu_embedded_inference
import ipu_inference
import ipu_nms
import nms_np
from ipu_utils.base.console import run_script
from ipu_utils.nms.libdetect import Detector
from tf2 import postprocess
from tf2.anchor_boxes import Anchors

pytest_plugins = ["native_fixtures"]

LEVELS = ((32, 32), (16, 16), (8, 8), (4, 4), (2, 2))
CLASSES, OBJECTS, LOGIT = 6, 620, 0.5
PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "data" / "images"
ANCHORS = Anchors(3, 7, 3, [1.0, 2.0, 0.5], 1.0, (256, 256))  # of 8 pixels on the finest level: few overlap much


def config_of(rows):
    nms = {"method": "hard", "score_thresh": 0.4, "iou_thresh": 0.5, "max_output_size": rows}
    overrides = {"image_size": 256, "num_classes": CLASSES, "anchor_scale": 1.0, "nms_configs": nms}
    return hparams_config.get_inference_config("efficientdet-d0", overrides)


@functools.lru_cache(maxsize=None)
def heads():
    """A cell of the finest level has at most one object, of the first anchor: none overlaps another by half."""
    rng = np.random.RandomState(0)
    classes = [np.full((2, h, w, 9, CLASSES), -6, np.float32) for h, w in LEVELS]
    for image in range(2):
        cells = rng.choice(LEVELS[0][0] * LEVELS[0][1], OBJECTS, replace=False)
        scores = LOGIT + rng.permutation(OBJECTS) / OBJECTS
        for cell, logit in zip(cells, scores):
            classes[0][image, cell // LEVELS[0][1], cell % LEVELS[0][1], 0, rng.randint(CLASSES)] = logit
    boxes = [np.zeros((2, h, w, 36), np.float32) for h, w in LEVELS]
    return [level.reshape(*level.shape[:3], -1) for level in classes], boxes


@functools.lru_cache(maxsize=None)
def decoded():
    """Scores [2, N, C] and boxes [2, N, 4] of the heads; the regressions are zero, so boxes are the anchors."""
    logits = np.concatenate([level.reshape(2, -1, CLASSES) for level in heads()[0]], 1)
    return nms_np.sigmoid(logits), np.stack([ANCHORS.boxes] * 2)


def expected(rows, mode):
    scores, boxes = decoded()
    return nms_np.batched_nms(scores, boxes, None, mode, threshold=0.5, score_threshold=0.4, num_detections=rows)


def assert_found(rows, scores, classes, lengths, mode):
    wanted = expected(rows, mode)
    assert list(wanted.lengths) == [min(rows, OBJECTS)] * 2 == list(np.asarray(lengths))
    np.testing.assert_allclose(np.asarray(scores)[:, : min(rows, OBJECTS)], wanted.scores[:, :OBJECTS], atol=1e-6)
    np.testing.assert_array_equal(np.asarray(classes)[:, : min(rows, OBJECTS)], wanted.classes[:, :OBJECTS] + 1)


MODES = ("best-class", "class-agnostic", "multi-class")


@pytest.mark.parametrize("rows", [500, 620, 900])
@pytest.mark.parametrize("mode", MODES)
def test_post_processing_in_tensorflow_returns_them(mode, rows):
    function = getattr(postprocess, f"postprocess_{mode.replace('-', '_')}")
    _, scores, classes, lengths = function(config_of(rows).as_dict(), *heads())
    assert_found(rows, scores[:, :OBJECTS], classes[:, :OBJECTS], lengths, mode)


@pytest.mark.parametrize("name", ["postprocess_global", "postprocess_per_class", "postprocess_combined"])
def test_automls_modes_return_them(name):
    scores, classes, lengths = getattr(postprocess, name)(config_of(500).as_dict(), *heads())[1:]
    assert_found(500, scores, classes, lengths, "class-agnostic" if name == "postprocess_global" else "best-class")


@pytest.mark.usefixtures("host_libraries")
@pytest.mark.parametrize("rows", [500, 900])
@pytest.mark.parametrize("mode", MODES)
def test_the_hosts_operator_and_libdetect_return_them(mode, rows):
    boxes, scores, classes, lengths = ipu_nms.postprocess_onchip_nms_outputs(
        config_of(rows), ipu_nms.detect(config_of(rows), *heads(), mode=mode)
    )
    assert boxes.shape == (2, rows, 4)
    assert_found(rows, scores[:, :OBJECTS], classes[:, :OBJECTS], lengths, mode)
    levels = [height * width * 9 for height, width in LEVELS]
    detector = Detector(ANCHORS.boxes, levels, CLASSES, (256, 256), 0.5, 0.4, 0.0, rows, mode)
    found = detector.run(*heads())
    assert_found(rows, found.scores[:, :OBJECTS], found.classes[:, :OBJECTS], found.lengths, mode)


@pytest.mark.parametrize("mode", ["best-class", *(pytest.param(mode, marks=pytest.mark.slow) for mode in MODES[1:])])
def test_the_operator_on_the_model_of_poplar_returns_them(mode):
    scores, boxes = decoded()
    label = None if mode == "multi-class" else scores.argmax(-1).astype(np.int32)
    given = scores if mode == "multi-class" else scores.max(-1)
    options = {"numDetections": 500, "scoreThreshold": 0.4}
    found = poplar_nms.run(given, boxes, label, mode, **options)
    poplar_nms.assert_same(found, poplar_nms.expected(given, boxes, label, mode, **options))
    assert_found(500, found.scores, found.classes + 1, found.lengths, mode)


# Boxes are kept whatever their overlap, so that an image has as many detections as rows, if it has the candidates.
RUN = ["--model-name", "efficientdet-lite0", "--image-size", "128", "--random-weights", "--random-candidates", "1200",
       "--hparams", "fpn_cell_repeats=1,box_class_repeats=1,nms_configs.max_output_size=500,nms_configs.iou_thresh=1.0",
       "--dataset-type", "single-image", "--image-path", "7.png"]  # fmt: skip
slow = functools.partial(pytest.param, marks=pytest.mark.slow)
THROUGHPUT = [*RUN, "--num-repeats", "2"]
EMBEDDED = [*RUN, "--num-repeats", "2", "--warmup", "0"]


@pytest.mark.parametrize(
    "script, arguments, needs",
    [
        slow(ipu_inference, [*THROUGHPUT, "--device", "cpu", "--engine", "openvino"], "openvino"),
        slow(
            ipu_inference, [*THROUGHPUT, "--device", "cpu", "--engine", "openvino", "--onchip-nms", "false"], "openvino"
        ),
        slow(ipu_inference, [*THROUGHPUT, "--device", "cpu", "--engine", "tensorflow"], ""),
        slow(ipu_inference, [*THROUGHPUT, "--device", "cpu", "--engine", "tensorflow", "--onchip-nms", "false"], ""),
        slow(ipu_embedded_inference, [*EMBEDDED, "--device", "cpu"], "openvino"),
        slow(ipu_inference, [*THROUGHPUT, "--device", "ipu"], "ipu"),
        slow(ipu_inference, [*THROUGHPUT, "--device", "ipu", "--onchip-nms", "false"], "ipu"),
        slow(ipu_embedded_inference, [*EMBEDDED, "--device", "ipu"], "ipu"),
    ],
)
@pytest.mark.usefixtures("host_libraries")
def test_a_run_writes_them_all(script, arguments, needs, tmp_path, monkeypatch, capsys):
    process = contextlib.nullcontext()
    if needs == "openvino":
        pytest.importorskip("openvino")
    if needs == "ipu":
        build = poplar_model.build()
        monkeypatch.setattr(ipu_nms, "IPU_LIBRARIES", {False: build / "tf", True: build / "tf_multi"})
        process = ipu_stand_in.fresh_process()
    monkeypatch.chdir(tmp_path)
    shutil.copy(str(PHOTOGRAPHS / "astronaut.png"), "7.png")
    outputs = ["--output-predictions", "--coco-results", "results.json", "--contact-sheet", "sheet.png"]
    with process:
        assert run_script(lambda: script.main([*arguments, *outputs])) == 0
    out = capsys.readouterr().out
    assert "at most 500 an image" in out
    assert re.search(r"objects: .* 500\.0 detections an image", out)
    (entry,) = json.loads((tmp_path / "outputs" / "detections.json").read_text())
    results = json.loads((tmp_path / "results.json").read_text())
    # Random weights put some boxes outside of the photograph; of these nothing is left to write.
    assert 450 < len(results) == len(entry["detections"]) <= 500
