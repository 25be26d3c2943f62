# SPDX-License-Identifier: Apache-2.0
"""--dry-run refuses what the run refuses, says where values come from, and leaves nothing behind."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dry_run import before_options, dry_run

from ipu_utils.base.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TRAINED = ROOT / "tests" / "data" / "trained"
LITE = ("--model-name", "efficientdet-lite0", "--image-size", "64")
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO has no release for this Python")
SCRIPTS = ["throughput", pytest.param("embedded", marks=needs_openvino)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_that_does_not_fit_into_memory_is_refused(script):
    large = ("--model-name", "efficientdet-d7x", "--micro-batch-size", "4096", "--random-weights")
    with pytest.raises(UserError, match=r"needs about .* GiB of memory"):
        dry_run(*large, script=script)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_checkpoint_of_another_model_is_refused(script):
    with pytest.raises(UserError, match="variables"):
        dry_run("--model-name", "efficientdet-lite1", "--model-dir", str(TRAINED), script=script)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_checkpoint_that_fits_is_told(script):
    said = dry_run("--model-name", "efficientdet-lite0", "--model-dir", str(TRAINED), script=script)
    assert any(line.startswith("weights:   588 of 588 variables from ") for line in said), said
    assert any(line.startswith("note: ") and "config.yaml is read" in line for line in said), said
    assert any(line.endswith("128x128 pixels") for line in said), said


def without(tmp_path, name):
    """An environment in which a package cannot be imported."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(f"raise ImportError('no {name} here')")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@needs_openvino
@pytest.mark.parametrize("script", ["ipu_inference.py", "ipu_embedded_inference.py"])
@pytest.mark.parametrize("name, message", [("tensorflow", "compiling an executable needs TensorFlow"),
                                           ("openvino", "openvino cannot be imported|OpenVINO")])  # fmt: skip
def test_a_missing_library_is_refused_as_in_the_run(script, name, message, tmp_path):
    asked = ["--random-weights", "--engine", "openvino", "--dry-run"]
    command = [sys.executable, str(ROOT / script), "--device", "cpu", *LITE, *asked]
    ended = [
        subprocess.run(words, env=without(tmp_path / str(number), name), capture_output=True, text=True)
        for number, words in enumerate((command, command[:-1]))
        if not (tmp_path / str(number)).mkdir()
    ]
    assert [one.returncode for one in ended] == [2, 2], ended
    assert ended[0].stderr == ended[1].stderr and name in ended[0].stderr.lower(), ended


def test_every_value_comes_with_its_source(tmp_path):
    preset = tmp_path / "mine.yml"
    preset.write_text("efficientdet-lite0:\n  seed: 4\n  host:\n    num_repeats: 7\n")
    said = dry_run(*LITE, "--random-weights", "--config", str(preset), "--engine", "tensorflow", "--warmup", "2")
    told = {}
    for line in said[said.index("options:") + 1 :]:
        source, _, option = line.strip().partition(" --")
        told["--" + option.partition(" ")[0]] = (source.strip(), option.partition(" ")[2])
    assert told["--seed"] == (f"preset {preset}", "4")
    assert told["--num-repeats"] == (f"preset {preset}, for a host", "7")
    assert told["--warmup"] == ("command line", "2") and told["--image-size"] == ("command line", "64x64")
    assert told["--device"] == ("command line", "cpu") and told["--engine"] == ("command line", "tensorflow")
    assert told["--nms-mode"] == ("default", "best-class") and told["--report"] == ("default", "none")


@pytest.mark.parametrize("repeats, warmup, calls", [(1, 1, 2), (2, 2, 3), (5, 1, 5), (1, 0, 1)])
def test_as_many_calls_are_told_as_are_made(repeats, warmup, calls):
    said = dry_run(*LITE, "--random-weights", "--engine", "tensorflow", "--num-repeats", str(repeats),
                   "--warmup", str(warmup), "--benchmark-repeats", "3")  # fmt: skip
    assert f"work:      {calls} calls of 3 batches, {warmup} not counted" in said


def test_images_that_cannot_be_read_are_counted_and_named_and_the_others_are_the_data(tmp_path):
    (tmp_path / "bad.jpg").write_text("no picture")
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes((ROOT / "tests" / "data" / "images" / "rocket.jpg").read_bytes())
    said = before_options(dry_run(*LITE, "--random-weights", "--engine", "tensorflow", "--image-path", tmp_path))
    assert f"data:      2 images of {tmp_path}, batches of 1" in said
    place = said.index("skipped:   1 files that could not be read")
    assert said[place + 1].startswith("    bad.jpg: ") and "is not an image" in said[place + 1]


def test_a_value_that_follows_from_others_says_so():
    image = ("--dataset-type", "single-image", "--image-path", str(ROOT / "tests" / "data" / "images" / "rocket.jpg"))
    said = dry_run(*LITE, "--random-weights", "--engine", "tensorflow", *image, "--micro-batch-size", "4")
    (line,) = [line for line in said if line.endswith("--micro-batch-size 1")]
    assert line.strip().startswith("derived (command line: 4)")
    assert any(line.startswith("note:      --dataset-type single-image sets") for line in said)


def test_nothing_is_left_behind(tmp_path, tmp_path_factory):
    out = tmp_path / "new" / "folder"
    outputs = [("--results-json", "r.json"), ("--results-csv", "r.csv"), ("--report", "r.html"), ("--output-dir", "p"),
               ("--contact-sheet", "c.png"), ("--coco-results", "c.json"), ("--profile-dir", "profile"),
               ("--executable-cache-dir", "cache")]  # fmt: skip
    image = tmp_path_factory.mktemp("images") / "1.jpg"  # a number, which is its id in COCO results
    image.write_bytes((ROOT / "tests" / "data" / "images" / "rocket.jpg").read_bytes())
    images = ("--dataset-type", "image-directory", "--image-path", str(image.parent))
    named = [word for option, name in outputs for word in (option, str(out / name))]
    dry_run(*LITE, "--random-weights", *images, "--output-predictions", *named)
    assert list(tmp_path.iterdir()) == []


@needs_openvino
@pytest.mark.parametrize(
    "script, option", [("throughput", "--executable-cache-dir"), ("embedded", "--exec-output-dir")]
)
def test_a_folder_that_cannot_keep_an_executable_is_refused_before_anything_is_built(script, option, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"choose another {option}|{option}"):
        dry_run(*LITE, "--random-weights", option, str(tmp_path / "file" / "folder"), script=script)


@pytest.mark.slow
@needs_openvino
def test_a_kept_executable_is_found(tmp_path):
    import ipu_embedded_inference

    kept = [*LITE, "--random-weights", "--exec-output-dir", str(tmp_path)]
    assert "network:   to be compiled" in dry_run(*kept, script="embedded")
    assert ipu_embedded_inference.main(["--device", "cpu", *kept, "--compile-only"]) == 0
    (line,) = [line for line in dry_run(*kept, script="embedded") if line.startswith("network:")]
    assert line.endswith("(kept from an earlier run)")
    (file,) = tmp_path.iterdir()
    said = dry_run("--exec-file", str(file), script="embedded")
    assert "model:     efficientdet-lite0, 64x64 pixels" in before_options(said)
    assert f"network:   {file} (given)" in said
