# SPDX-License-Identifier: Apache-2.0
"""The scripts with `--device ipu` on the stand-in, the operator on the model of Poplar: the host's detections.

In this process, to import TensorFlow once; one run of each script is left to a process of its own, where nothing of the
project is replaced and only the SDK is the stand-in's.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import ipu_stand_in
import numpy as np
import poplar_model
import pytest
from checkpoints import weights_of, write_tf1_checkpoint

import hparams_config
import ipu_embedded_inference
import ipu_inference
import ipu_nms
from ipu_utils.base.console import run_script
from ipu_utils.model.network import build_network
from ipu_utils.report.record import read_record

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = ROOT / "tests" / "data" / "images"
SHALLOW = "fpn_cell_repeats=1,box_class_repeats=1"  # every kind of layer, fewer of each
SOME_CANDIDATES = "nms_configs.score_thresh=0.6"  # with the formulas' weights; the published 0.4 finds hundreds

SCORE_ATOL, BOX_ATOL = 1.1e-4, 0.011  # the last digits that detections.json shows, where float32 rounds to another
TOLERANCE = np.array([0.5, SCORE_ATOL] + 4 * [BOX_ATOL])  # of class, score, box
# A half has 11 bits: scores between a half and one are 2**-11 apart, boxes between 256 and 512 pixels a quarter.
HALF_SCORE_ATOL, HALF_IOU = 2e-3, 0.9


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Folder of a checkpoint with the formulas' weights, by model and hyper-parameters."""
    folders = {}

    def write(model, hparams):
        if (model, hparams) not in folders:
            config = hparams_config.get_inference_config(model, hparams, (64, 64))
            folder = tmp_path_factory.mktemp("checkpoint")
            write_tf1_checkpoint(folder, weights_of(build_network(config)))
            folders[model, hparams] = folder
        return folders[model, hparams]

    return write


@pytest.fixture
def detections_of(checkpoint, tmp_path, monkeypatch, capsys):
    """Run the throughput script on the photographs; returns file name -> detections (class, score, box)."""
    monkeypatch.chdir(tmp_path)
    build = poplar_model.build()
    monkeypatch.setattr(ipu_nms, "IPU_LIBRARIES", {False: build / "tf", True: build / "tf_multi"})

    def run(device, *arguments, model="efficientdet-d0", hparams=SHALLOW, script=ipu_inference, once=False):
        output = tmp_path / f"{device}-{len(list(tmp_path.iterdir()))}"
        command = [
            *("--device", device, "--model-name", model, "--model-dir", str(checkpoint(model, hparams))),
            *("--hparams", f"{hparams},{SOME_CANDIDATES}" if hparams else SOME_CANDIDATES, "--image-size", "64"),
            *("--dataset-type", "image-directory", "--image-path", str(PHOTOGRAPHS)),
            *("--output-predictions", "--output-dir", str(output), *arguments),
        ]
        if not once:
            command += ["--num-repeats", "1"]
            command += ["--benchmark-repeats", "2"] if script is ipu_inference else []
        if device == "ipu":
            with ipu_stand_in.fresh_process():
                status = run_script(lambda: script.main(command))
        else:  # in the framework that the IPU's results come from; OpenVINO's equal them by tests of its own
            status = run_script(lambda: script.main([*command, "--engine", "tensorflow"]))
        printed = capsys.readouterr()
        assert status == 0, printed.err
        assert f"device:    {device}" in printed.out and ("pass:      each image once: " in printed.out) == once
        return read_detections(output)

    return run


def read_detections(folder):
    """What detections.json says: file name -> array of rows class, score, ymin, xmin, ymax, xmax."""
    entries = json.loads((folder / "detections.json").read_text(encoding="utf-8"))
    return {
        entry["file"]: np.array([(d["class_id"], d["score"], *d["box"]) for d in entry["detections"]]).reshape(-1, 6)
        for entry in entries
    }


def assert_equal(found, expected):
    """The same detections in the same order, to the rounding of float32: equal scores may change places."""
    assert found.keys() == expected.keys() and len(found) == 4
    for name, rows in expected.items():
        assert len(rows) > 3, "there must be something to compare"
        assert found[name].shape == rows.shape
        np.testing.assert_allclose(found[name][:, 1], rows[:, 1], atol=SCORE_ATOL)
        left = list(found[name])
        for row in rows:
            same = [i for i, other in enumerate(left) if other[0] == row[0] and np.all(np.abs(other - row) < TOLERANCE)]
            assert same, f"{name}: nothing equals {row}"
            del left[same[0]]


def overlap(box, boxes):
    """IoU of one box with each of several."""
    sides = np.maximum(0, np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]))
    area = lambda b: (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])  # noqa: E731
    common = sides.prod(1)
    return common / np.maximum(area(box) + area(boxes) - common, 1e-9)


def share_found(detections, others):
    """Share of `detections`, over all images, that have a partner of their class, score and place among `others`.

    Rounded scores tie, so order and the choice at the end of the list, which does not count, may differ.
    """
    partners = []
    for name, rows in detections.items():
        among = others[name]
        certain = rows[rows[:, 1] > max(rows[-1, 1], among[-1, 1]) + HALF_SCORE_ATOL]
        assert len(certain) > 3, "there must be something to compare"
        partners += [
            np.any(
                (among[:, 0] == row[0])
                & (np.abs(among[:, 1] - row[1]) < HALF_SCORE_ATOL)
                & (overlap(row[2:], among[:, 2:]) > HALF_IOU)
            )
            for row in certain
        ]
    return float(np.mean(partners))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        pytest.param(["--nms-mode", "class-agnostic"], marks=pytest.mark.slow),
        pytest.param(["--nms-mode", "multi-class"], marks=pytest.mark.slow),
        pytest.param(["--onchip-nms", "false"], marks=pytest.mark.slow),
        pytest.param(["--onchip-nms", "false", "--nms-mode", "multi-class"], marks=pytest.mark.slow),
        pytest.param(["--io-precision", "float", "--micro-batch-size", "3"], marks=pytest.mark.slow),
        pytest.param(["--io-precision", "half", "--micro-batch-size", "1"], marks=pytest.mark.slow),
    ],
)
def test_ipu_equals_host(detections_of, arguments):
    found = detections_of("ipu", "--model-precision", "float", *arguments)
    assert_equal(found, detections_of("cpu", "--model-precision", "float", *arguments))


@pytest.mark.slow
@pytest.mark.parametrize("onchip", ["true", "false"])
@pytest.mark.parametrize("mode", ["best-class", "class-agnostic", "multi-class"])
def test_in_half_the_ipu_finds_what_the_host_finds(detections_of, mode, onchip):
    # Not the same to the bit: the two graphs round at other places, and by other kernels on another CPU. Where two
    # scores change places, NMS keeps other boxes around them.
    arguments = ["--nms-mode", mode, "--onchip-nms", onchip]
    found = detections_of("ipu", *arguments)  # half is the IPU's default
    expected = detections_of("cpu", "--model-precision", "half", *arguments)
    assert found.keys() == expected.keys() and len(found) == 4
    shares = share_found(expected, found), share_found(found, expected)
    assert min(shares) >= 0.9, shares


@pytest.mark.slow
@pytest.mark.parametrize("model", ["efficientdet-d0", "efficientdet-d4"])
def test_presets_run_and_find_the_host_detections(detections_of, model):
    # No --micro-batch-size, I/O tiles or memory settings: they are the preset's.
    arguments = ["--config", "efficientdet", "--model-precision", "float"]
    assert_equal(
        detections_of("ipu", *arguments, model=model, hparams=""),
        detections_of("cpu", *arguments, model=model, hparams=""),
    )


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--onchip-nms", "false"], ["--io-precision", "half"]])
def test_an_executable_finds_the_host_detections(detections_of, arguments):
    arguments = ["--model-precision", "float", "--micro-batch-size", "1", *arguments]
    preset = ["--config", "efficientdet-low-latency"]
    found = detections_of("ipu", *preset, *arguments, "--num-repeats", "4", script=ipu_embedded_inference)
    assert_equal(found, detections_of("cpu", *arguments))


@pytest.mark.slow
@pytest.mark.parametrize("script", [ipu_inference, ipu_embedded_inference])
def test_photographs_are_run_once_on_an_ipu_too(detections_of, script):
    arguments = ["--model-precision", "float", "--micro-batch-size", "2"]
    found = detections_of("ipu", *arguments, "--opt-use-io-tiles", "false", script=script, once=True)
    assert_equal(found, detections_of("cpu", *arguments))


# Processes of their own


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which the operator is built, for the model of Poplar."""
    folder = tmp_path_factory.mktemp("project") / "efficientdet"
    everywhere, at_the_top = shutil.ignore_patterns("__pycache__", ".*"), {"tests", "tmp", "outputs"}

    def ignored(path, names):  # `ipu_utils/outputs` is a room
        return everywhere(path, names) | (at_the_top if Path(path) == ROOT else set())

    shutil.copytree(ROOT, folder, ignore=ignored)
    for form in ("tf", "tf_multi"):
        shutil.rmtree(folder / "NMS" / form / "build", ignore_errors=True)
        shutil.copytree(poplar_model.build() / form, folder / "NMS" / form / "build")
    return folder


def start_script(project, *arguments, **variables):
    return subprocess.Popen(
        [sys.executable, *arguments, "--device", "ipu", "--image-size", "64", "--hparams", SHALLOW, "--random-weights"],
        cwd=project,
        env=ipu_stand_in.environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    return output


@pytest.mark.slow
def test_the_throughput_script_runs_unchanged(project, tmp_path):
    cache = tmp_path / "cache"
    output = finish(
        start_script(
            project,
            *("ipu_inference.py", "--num-repeats", "2", "--benchmark-repeats", "2"),
            *("--executable-cache-dir", cache, "--results-json", tmp_path / "record.json"),
        )
    )
    origin = read_record(tmp_path / "record.json")["executable"]
    assert origin["nms_operator_sha256"] and origin["sources_sha256"] and "for IPU" in origin["engine"]
    assert "Benchmark complete." in output and "custom operator on the IPU" in output
    assert list(cache.glob("*.poplar_exec"))


@pytest.mark.slow
def test_the_embedded_script_runs_unchanged_and_starts_again_from_its_file(project, tmp_path):
    command = ["ipu_embedded_inference.py", "--config", "efficientdet-low-latency", "--num-repeats", "5"]
    folder = tmp_path / "executable"
    record, libraries = tmp_path / "record.json", sorted((project / "NMS" / "tf" / "build").glob("nms_custom_op.so"))
    command += ["--exec-output-dir", folder, "--results-json", record]
    origins = []
    for number, origin in enumerate(("compiled", "kept from an earlier run", "compiled", "kept from an earlier run")):
        if number == 2:  # another build of the operator, which is a part of the program
            for library in libraries:
                library.write_bytes(library.read_bytes() + b"\0")
        output = finish(start_script(project, *command))
        assert "Benchmark complete." in output and origin in output
        made = read_record(record)["executable"]
        assert made.pop("origin") == origin.partition(" ")[0] and made.pop("bytes") > 0
        assert (made.pop("compile_seconds") is None) == (origin != "compiled")
        origins.append(made)
    assert origins[0] == origins[1] != origins[2] == origins[3]
    assert [key for key in origins[0] if origins[0][key] != origins[2][key]] == ["nms_operator_sha256"]
    assert (folder / "application.poplar_exec").is_file()
    # Options that change the program, and one that does not.
    profile = ["--profile-dir", tmp_path / "profile"]
    for more, origin in (
        (["--debug"], "(compiled)"),
        (["--debug", "--ipu-connection-type", "always"], "(kept from an earlier run)"),
        (profile, "(compiled)"),
    ):
        assert origin in finish(start_script(project, *command, *more))


@pytest.mark.slow
def test_instances_of_poprun_run_side_by_side(project, tmp_path):
    instances = [
        start_script(
            project,
            *("ipu_inference.py", "--num-repeats", "2", "--benchmark-repeats", "2"),
            IPU_STAND_IN_COLLECTIVES=tmp_path,
            POPDIST_NUM_TOTAL_REPLICAS=2,
            POPDIST_NUM_LOCAL_REPLICAS=1,
            POPDIST_REPLICA_INDEX_OFFSET=index,
            POPDIST_LOCAL_INSTANCE_INDEX=index,
        )
        for index in range(2)
    ]
    first, second = map(finish, instances)
    assert "ipu (2 instances)" in first and "instances: 2, " in first and "Stats captured over 2 runs." in first
    assert second == ""
