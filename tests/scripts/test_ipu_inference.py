# SPDX-License-Identifier: Apache-2.0
"""The throughput script as a user runs it, at small image sizes; in this process, to import TensorFlow once."""

import json
import re
import shutil
from pathlib import Path

import coco_set
import numpy as np
import pytest
from PIL import Image
from shared_folder import shared_folder

import hparams_config
import ipu_inference
from ipu_automl_io import postprocess_predictions, preprocess_normalize_image, preprocess_resize
from ipu_utils.base import hardware
from ipu_utils.base.console import run_script
from ipu_utils.base.keras2 import tf
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.model import random_weights
from ipu_utils.model.network import build_network
from ipu_utils.outputs.writers import Outputs

PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "data" / "images"
# The smallest network, cut further: most of a run's time is building and tracing it.
MODEL, CUT = "efficientdet-lite0", "fpn_cell_repeats=1,box_class_repeats=1"
SMALL = ["--device", "cpu", "--engine", "tensorflow", "--image-size", "128", "--num-repeats", "2",
         "--benchmark-repeats", "2", "--model-name", MODEL, "--hparams", CUT]  # fmt: skip
TWO_IMAGES = [*SMALL, "--micro-batch-size", "2"]
FROM_PHOTOGRAPHS = ["--dataset-type", "image-directory", "--image-path", str(PHOTOGRAPHS)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder for networks, so that tests which ask for the same one build it once."""
    return shared_folder(tmp_path_factory, "throughput")


@pytest.fixture
def script(capsys, tmp_path, monkeypatch, kept):
    """Run the script in an empty folder; returns (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    # The same default precision wherever the tests run: with AMX it would be bfloat16.
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2", "fma"}))

    def run(*arguments):
        words = [str(argument) for argument in ("--executable-cache-dir", kept, *arguments)]
        try:
            status = run_script(lambda: ipu_inference.main(words))
        except SystemExit as stop:  # argparse ends the program itself
            status = stop.code
        return (status, *capsys.readouterr())

    return run


def field(output, name):
    """Value of a `name: value` line of the report."""
    return re.search(rf"^{name}: +(.*)$", output, re.MULTILINE).group(1)


def objects(output):
    """(candidates, detections) an image, as reported."""
    return tuple(
        float(number) for number in re.findall(r"([\d.]+) (?:candidates|detections)", field(output, "objects"))
    )


def detections(folder):
    """What detections.json says: file name -> list of (class, score, box)."""
    entries = json.loads((Path(folder) / "detections.json").read_text(encoding="utf-8"))
    return {
        entry["file"]: [(found["class_id"], found["score"], *found["box"]) for found in entry["detections"]]
        for entry in entries
    }


def assert_same_detections(ours, reference, pixels=0.05):
    assert ours.keys() == reference.keys()
    for name in ours:
        assert [found[0] for found in ours[name]] == [found[0] for found in reference[name]]
        np.testing.assert_allclose([found[1:] for found in ours[name]], [f[1:] for f in reference[name]], atol=pixels)


def test_coco_results_and_the_twelve_numbers_are_those_of_pycocotools(script, tmp_path):
    coco = coco_set.make_set(tmp_path / "set", count=5)
    status, output, _ = script(
        *TWO_IMAGES, "--random-weights", "--score-preset", "accuracy", "--dataset-type", "image-directory",
        "--image-path", coco.images, "--coco-results", "results.json", "--coco-annotations", coco.annotations,
    )  # fmt: skip
    assert status == 0
    assert "score > 0.001" in field(output, "nms")
    assert field(output, "accuracy").startswith("over all 5 annotated images that ran")
    shown = [float(number) for number in re.findall(r"^\tA[PR]\w* +=  ?(\d\.\d{4})  IoU", output, re.MULTILINE)]
    np.testing.assert_allclose(shown, coco_set.by_hand(coco, "results.json"), atol=5.1e-5)


def test_unreadable_images_are_skipped_named_and_make_the_status_3_unless_accepted(script, tmp_path):
    folder = tmp_path / "photographs"
    shutil.copytree(str(PHOTOGRAPHS), str(folder))
    (folder / "broken.jpg").write_bytes((folder / "rocket.jpg").read_bytes()[:5000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "phone.HEIC").write_bytes(b"")
    arguments = [*TWO_IMAGES, "--random-weights", "--dataset-type", "image-directory", "--image-path", folder]
    status, output, _ = script(*arguments, "--output-predictions")
    assert status == 3
    assert field(output, "skipped") == "2 files that could not be read"
    assert "\tbroken.jpg: " in output and "\tempty.png: " in output
    assert "left out:  " in output and "\t1 .heic: phone.HEIC\n" in output
    assert set(detections("outputs")) == {"astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"}
    assert script(*arguments, "--skip-bad-images")[0] == 0


def test_the_report_is_printed_once_with_what_ran_and_what_it_took_to_start(script):
    status, output, _ = script(*TWO_IMAGES, "--num-repeats", "3")
    assert status == 0
    assert output.count("Benchmark complete.") == 1
    assert "\tStats captured over 2 runs." in output
    assert output.isascii()
    assert field(output, "device").startswith("cpu (")
    assert field(output, "batch") == "2 images, 2 batches a call"
    assert "score > 0.4" in field(output, "nms") and "IoU > 0.5" in field(output, "nms")
    assert "detections in host memory" in field(output, "measured")
    assert re.search(r"compile [\d.]+ s, first call [\d.]+ s", field(output, "start-up"))


def test_without_a_checkpoint_random_weights_are_named_in_the_first_and_the_last_line(script):
    _, output, _ = script(*TWO_IMAGES)
    first, last = output.splitlines()[0], output.splitlines()[-1]
    assert first.startswith("weights:   random") and f"no checkpoint in tmp/{MODEL}" in first
    assert last.startswith("weights:   random")


def test_a_single_repeat_is_measured(script):
    status, output, _ = script(*TWO_IMAGES, "--num-repeats", "1")
    assert status == 0 and "\tthroughput: " in output and "Stats captured" not in output


@pytest.mark.slow
def test_random_weights_give_the_candidates_that_were_asked_for_and_nms_something_to_suppress(script):
    _, output, _ = script(*TWO_IMAGES, "--random-weights", "--random-candidates", "120")
    candidates, found = objects(output)
    assert 80 <= candidates <= 180
    assert 0 < found < candidates


@pytest.mark.slow
def test_the_seed_decides_the_random_weights_and_data(script, tmp_path):
    folders = []
    for index, seed in enumerate([1, 1, 2]):
        folders.append(tmp_path / str(index))
        script(*TWO_IMAGES, "--random-weights", "--seed", seed, "--output-predictions", "--output-dir", folders[-1])
    first, again, other = (detections(folder) for folder in folders)
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "mode",
    [
        "best-class",
        pytest.param("class-agnostic", marks=pytest.mark.slow),
        pytest.param("multi-class", marks=pytest.mark.slow),
    ],
)
def test_both_nms_paths_give_the_same_detections(script, tmp_path, mode):
    common = [*TWO_IMAGES, "--random-weights", "--nms-mode", mode, "--output-predictions", *FROM_PHOTOGRAPHS]
    assert script(*common, "--output-dir", tmp_path / "device")[0] == 0
    assert script(*common, "--output-dir", tmp_path / "host", "--onchip-nms", "false")[0] == 0
    assert sum(map(len, detections(tmp_path / "device").values())) > 10
    assert_same_detections(detections(tmp_path / "device"), detections(tmp_path / "host"))


@pytest.mark.slow
def test_host_post_processing_can_be_part_of_the_measured_span(script):
    _, output, _ = script(*TWO_IMAGES, "--onchip-nms", "false")
    assert "before post-processing" in field(output, "measured")
    _, output, _ = script(*TWO_IMAGES, "--onchip-nms", "false", "--benchmark-host-postprocessing")
    assert "detections in host memory" in field(output, "measured")


@pytest.mark.slow
def test_every_photograph_of_a_folder_is_annotated_once_at_its_own_size(script, tmp_path):
    # Three images a batch: the second batch is not full, and the names follow the folder's order all the same.
    status, _, _ = script(
        *TWO_IMAGES, "--micro-batch-size", "3", "--random-weights", "--output-predictions", *FROM_PHOTOGRAPHS,
        "--picture-names", "batch",
    )  # fmt: skip
    assert status == 0
    pictures = sorted((tmp_path / "outputs").glob("*.jpg"))
    assert [path.name for path in pictures] == [
        f"{MODEL}_128x128_output_b{batch}_img{row}.jpg" for batch, row in [(0, 0), (0, 1), (0, 2), (1, 0)]
    ]
    originals = [Image.open(PHOTOGRAPHS / name) for name in sorted(detections(tmp_path / "outputs"))]
    assert [Image.open(path).size for path in pictures] == [image.size for image in originals]
    for image, found in zip(originals, detections(tmp_path / "outputs").values()):
        for _, _, ymin, xmin, ymax, xmax in found:
            assert 0 <= ymin < ymax <= image.height and 0 <= xmin < xmax <= image.width


ONCE = [*SMALL[:6], *SMALL[-4:], "--random-weights", "--output-predictions", "--image-path"]
NAMES = ["astronaut", "chelsea", "coffee", "rocket"]


def test_each_photograph_is_run_once_and_written_when_it_was(script, tmp_path, monkeypatch):
    written, write = [], Outputs.write

    def watched(self, ids, found):
        write(self, ids, found)
        written.append(sorted(path.stem for path in (tmp_path / "outputs").glob("*.jpg")))

    monkeypatch.setattr(Outputs, "write", watched)
    status, output, notes = script(*ONCE, PHOTOGRAPHS, "--results-json", "r.json")
    assert status == 0 and "note: each image is run once, because of --output-predictions" in notes
    assert field(output, "pass") == "each image once: 4 calls of 1 batch, the first is not counted"
    assert field(output, "objects").endswith("(mean of 4)")
    record = json.loads((tmp_path / "r.json").read_text())
    calls = [*record["start_up_seconds"]["warm_up"], *record["samples"]["instances"][0]["seconds"]]
    assert len(calls) * record["samples"]["batches_per_call"] * record["samples"]["batch_size"] == 4
    told = record["configuration"]
    assert (told["num_repeats"], told["benchmark_repeats"], told["warmup"]) == (4, 1, 1)
    assert written == [NAMES[: number + 1] for number in range(4)], "one after the other, and none again"
    script(*ONCE, PHOTOGRAPHS, "--num-repeats", "2", "--output-dir", tmp_path / "measured")
    assert_same_detections(detections(tmp_path / "outputs"), detections(tmp_path / "measured"))


def test_what_was_found_before_an_interruption_stays(script, tmp_path, monkeypatch):
    write = Outputs.write

    def interrupted(self, ids, found):
        if self.written == 2:
            raise KeyboardInterrupt
        write(self, ids, found)

    monkeypatch.setattr(Outputs, "write", interrupted)
    status, output, errors = script(*ONCE, f"{PHOTOGRAPHS}/*.*g")
    assert status == 130 and errors.endswith("interrupted by SIGINT\n")
    assert "partial results of 2 of 3 counted calls" in output and "\tPer-batch latency p50 = " in output
    assert output.splitlines()[-1].endswith(": the speed is real, the detections mean nothing")
    assert field(output, "pictures") == "2 annotated images and detections.json in outputs"
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == [
        "astronaut.jpg", "chelsea.jpg", "detections.json",
    ]  # fmt: skip
    assert list(detections("outputs")) == ["astronaut.png", "chelsea.png"]


@pytest.mark.parametrize("kind", ["single-image", "repeated-image"])
def test_one_image_alone_or_repeated_gives_its_detections_once(script, tmp_path, kind):
    image = PHOTOGRAPHS / "chelsea.png"
    common = ["--random-weights", "--output-predictions", "--dataset-type", kind, "--image-path", image]
    status, output, _ = script(*TWO_IMAGES, *common)
    assert status == 0
    assert field(output, "batch").startswith("1 images" if kind == "single-image" else "2 images")
    assert list(detections(tmp_path / "outputs")) == ["chelsea.png"]


def test_missing_trained_weights_are_an_error_where_they_matter(script, tmp_path):
    for wish in (["--model-dir", tmp_path / "nowhere"], FROM_PHOTOGRAPHS, ["--output-predictions"]):
        status, output, error = script(*TWO_IMAGES, *wish)
        assert (status, output) == (2, "")
        assert error.startswith("error: ") and wish[0] in error
        assert "python -m ipu_utils.fetch_weights --model-name" in error and "--random-weights" in error
        assert not (tmp_path / "outputs" / "detections.json").exists()


def save_tensorflow_1_checkpoint(network, folder):
    """Write the network's weights as averaged copies under the published names; the raw copies are spoilt."""
    values = {variable.name.split(":")[0]: variable.numpy() for variable in network.weights}
    folder.mkdir()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {}
        for name, value in values.items():
            for key, stored in ((name, value * 0 + 1), (name + "/ExponentialMovingAverage", value)):
                variables[key] = tf.compat.v1.get_variable(key, initializer=tf.constant(stored), use_resource=True)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, str(folder / "model"))


@pytest.mark.slow
@pytest.mark.parametrize("model, cut", [(MODEL, CUT), ("efficientdet-d0", "")])
def test_a_published_checkpoint_gives_the_detections_that_python_gives(script, tmp_path, model, cut):
    hparams = hparams_config.get_inference_config(model, cut, 128)
    network = build_network(hparams)
    random_weights.randomise(network, hparams, 128, seed=7, candidates=60)
    save_tensorflow_1_checkpoint(network, tmp_path / "checkpoint")
    status, output, _ = script(
        *TWO_IMAGES, "--model-name", model, "--hparams", cut, "--model-dir", tmp_path / "checkpoint",
        "--output-predictions", *FROM_PHOTOGRAPHS, "--nms-mode", "class-agnostic",
    )  # fmt: skip
    assert status == 0
    total = len(network.weights)
    assert f"{total} of {total} variables" in field(output, "weights") and "averaged" in field(output, "weights")

    names = sorted(path.name for path in PHOTOGRAPHS.iterdir() if path.suffix in (".png", ".jpg"))
    photographs = [np.array(Image.open(PHOTOGRAPHS / name).convert("RGB")) for name in names]
    images, scales = preprocess_resize(photographs, (128, 128), hparams.mean_rgb)
    normalised = preprocess_normalize_image(images, tf.float32, *normalisation_of(hparams))
    heads = network(normalised, training=False)
    boxes, scores, classes, lengths = (x.numpy() for x in postprocess_predictions(hparams, *heads, scales, "global"))
    found = detections(tmp_path / "outputs")
    assert sum(lengths) > 10
    for row, name in enumerate(names):
        height, width = photographs[row].shape[:2]
        inside = np.clip(boxes[row, : lengths[row]], 0, [height, width, height, width])
        kept = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])  # some lie in the padding altogether
        assert [int(c) for c in classes[row, : lengths[row]][kept]] == [entry[0] for entry in found[name]]
        np.testing.assert_allclose(scores[row, : lengths[row]][kept], [entry[1] for entry in found[name]], atol=2e-4)
        np.testing.assert_allclose(inside[kept], [entry[2:] for entry in found[name]], atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["half", "bfloat16"])
def test_other_precisions_run_and_are_named(script, precision):
    status, output, error = script(*TWO_IMAGES, "--model-precision", precision, "--random-weights")
    if status == 2 and "cannot compute bfloat16 convolutions" in error:
        pytest.skip(error)  # TensorFlow 2.6 has none on a CPU; newer releases run this case
    assert status == 0
    assert field(output, "precision").startswith(precision)
    assert 100 < objects(output)[0] < 900  # about 300, give or take the rounding of the logits


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["float", "half"])
def test_images_may_travel_in_other_types_without_changing_the_detections(script, tmp_path, wire):
    common = [*TWO_IMAGES, "--random-weights", "--output-predictions", *FROM_PHOTOGRAPHS]
    script(*common, "--output-dir", tmp_path / "uint8")
    _, output, _ = script(*common, "--output-dir", tmp_path / wire, "--io-precision", wire)
    assert f"images travel as {wire}" in field(output, "precision")
    assert_same_detections(detections(tmp_path / wire), detections(tmp_path / "uint8"))


@pytest.mark.slow
def test_other_families_and_shapes_run(script):
    status, output, _ = script(*TWO_IMAGES, "--model-name", "efficientdet-d0", "--image-size", "200x120")
    assert status == 0
    assert field(output, "model") == "efficientdet-d0, 200x120 pixels, 90 classes"


@pytest.mark.slow
def test_the_largest_model_runs_at_its_full_size(script):
    status, output, _ = script(
        "--device", "cpu", "--model-name", "efficientdet-d7x", "--random-weights", "--micro-batch-size", "1",
        "--num-repeats", "1", "--benchmark-repeats", "1",
    )  # fmt: skip
    assert status == 0
    assert field(output, "model") == "efficientdet-d7x, 1536x1536 pixels, 90 classes"
    candidates, found = objects(output)
    assert candidates > 0 and found > 0


def test_a_typing_error_ends_with_status_two_and_no_report(script):
    status, output, error = script("--model-name", "efficientdet-d9")
    assert (status, output) == (2, "")
    assert "efficientdet-d" in error and "Traceback" not in error
