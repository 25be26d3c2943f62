# SPDX-License-Identifier: Apache-2.0
"""A host's executable against the TensorFlow path: the same numbers, the same detections, without TensorFlow."""

import dataclasses
import functools
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared_folder import shared_folder

pytest.importorskip("openvino", reason="OpenVINO is not installed (there is none for Python 3.8 in requirements.txt)")

from ipu_utils.backends.openvino import wanted
from ipu_utils.base import openvino_api
from ipu_utils.base.detections import ImageDetections
from ipu_utils.base.errors import UserError
from ipu_utils.config.run_config import load_config
from ipu_utils.data.decode import read_image
from ipu_utils.data.resize import fit_image
from ipu_utils.executable import cache, freeze
from ipu_utils.executable.file import ExecutableError, read_executable, write_executable
from ipu_utils.executable.runtime import EmbeddedModel
from ipu_utils.nms import libraries

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = sorted((ROOT / "tests" / "data" / "images").glob("*.[pj][np]g"))
HEIGHT, WIDTH = 96, 128

pytestmark = pytest.mark.skipif(
    not libraries.libdetect_path().is_file(), reason="NMS/host/build/libdetect.so is not built: run make"
)


def run_config(*arguments):
    # In float32, which a CPU with AMX would not choose by itself.
    model = ["--image-size", f"{WIDTH}x{HEIGHT}", "--random-weights", "--model-precision", "float"]
    model += ["--hparams", "fpn_cell_repeats=1,box_class_repeats=1"]  # most of the time is building the network
    return load_config([*model, *arguments], "embedded", choose_device=lambda requested: "cpu")


class Reference:
    """The TensorFlow path: the network as Keras runs it, and post-processing by TensorFlow's own operators."""

    def __init__(self, config):
        from ipu_utils.model.host import Host
        from ipu_utils.model.network import heads_of, prepare

        self.hparams = cache.hparams_of(config)
        self.model = prepare(config, self.hparams, Host("cpu", 2))
        self.outputs = functools.partial(heads_of, self.model.network, self.hparams, "float32")

    def heads(self, image):
        """All outputs for one uint8 image of the network's size."""
        class_outputs, box_outputs = self.outputs(image[None])
        return [output.numpy() for output in (*class_outputs, *box_outputs)]

    def detect(self, heads, scale, nms_configs, mode):
        """Detections of one image."""
        from ipu_automl_io import postprocess_predictions

        params = {**self.hparams.as_dict(), "nms_configs": nms_configs}
        found = postprocess_predictions(params, heads[:5], heads[5:], np.array([scale], np.float32), mode=mode)
        boxes, scores, classes, lengths = (np.asarray(part) for part in found)
        return ImageDetections(*(part[0, : lengths[0]] for part in (boxes, scores, classes.astype(int))))


def threshold_for(class_outputs, candidates):
    """A score that so many anchors exceed, half way to the next one, so that rounding decides about none."""
    best = np.concatenate([output.reshape(-1, 90).max(1) for output in class_outputs])
    scores = np.sort(1 / (1 + np.exp(-best.astype(np.float64))))[::-1]
    return float(scores[candidates - 1 : candidates + 1].mean())


@pytest.fixture(scope="module")
def config():
    return run_config()


@pytest.fixture(scope="module")
def reference(config):
    return Reference(config)


@pytest.fixture(scope="module")
def path(config, reference, tmp_path_factory):
    """An executable of the reference's network."""
    header = cache.with_weights(wanted(config), reference.model.weights, True)
    path = shared_folder(tmp_path_factory, "runtime") / "d0.effdet"
    if not path.exists():
        write_executable(path, header, freeze.compile_network(reference.outputs, header))
    return path


@pytest.fixture(scope="module")
def model(path):
    return EmbeddedModel.load(path)


def rewritten(path, folder, **changes):
    """The same file with another header."""
    found = read_executable(path)
    copy = folder / path.name
    write_executable(copy, dataclasses.replace(found.header, **changes), bytes(found.network()))
    return copy


def photographs():
    return [read_image(path) for path in PHOTOGRAPHS]


def test_there_are_four_photographs():
    assert len(PHOTOGRAPHS) == 4


@pytest.mark.parametrize("number", range(4))
def test_head_outputs_equal_those_of_tensorflow(model, reference, number):
    fitted = fit_image(photographs()[number], (HEIGHT, WIDTH))
    worker = model.session()
    worker.load(fitted.image, fitted.scale_to_original)
    worker.run()
    wanted_outputs = reference.heads(fitted.image)
    for ours, theirs in zip(worker.class_outputs + worker.box_outputs, wanted_outputs):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * np.std(theirs))


@pytest.mark.parametrize("mode", ["best-class", "class-agnostic", "multi-class"])
@pytest.mark.parametrize("number", range(4))
def test_detections_equal_those_of_tensorflow(path, reference, tmp_path, number, mode):
    photograph = photographs()[number]
    fitted = fit_image(photograph, (HEIGHT, WIDTH))
    heads = reference.heads(fitted.image)
    nms = {**reference.hparams.nms_configs.as_dict(), "score_thresh": threshold_for(heads[:5], candidates=80)}
    wanted = reference.detect(heads, fitted.scale_to_original, nms, mode)
    boxes, scores, classes = EmbeddedModel.load(rewritten(path, tmp_path, nms_mode=mode, nms_configs=nms)).detect(
        photograph
    )
    assert len(boxes) > 5  # else there is nothing to compare
    assert classes.tolist() == wanted.classes.tolist()
    np.testing.assert_allclose(scores, wanted.scores, atol=1e-5)
    np.testing.assert_allclose(boxes, wanted.boxes, atol=1e-2)  # pixels of photographs 300 to 600 pixels high


@pytest.mark.slow
def test_the_published_size_equals_tensorflow_too(tmp_path):
    config = load_config(["--random-weights"], "embedded", choose_device=lambda requested: "cpu")
    reference, header = Reference(config), wanted(config)
    write_executable(tmp_path / "d0.effdet", header, freeze.compile_network(reference.outputs, header))
    model = EmbeddedModel.load(tmp_path / "d0.effdet")
    worker, found = model.session(), 0
    for photograph in photographs():
        fitted = fit_image(photograph, header.image_size)
        heads = reference.heads(fitted.image)
        worker.load(fitted.image, fitted.scale_to_original)
        worker.run()
        for ours, theirs in zip(worker.class_outputs + worker.box_outputs, heads):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * np.std(theirs))
        exact = reference.detect(heads, fitted.scale_to_original, header.nms_configs, header.nms_mode)
        ours = model.detect(photograph)
        assert ours.classes.tolist() == exact.classes.tolist()
        np.testing.assert_allclose(ours.boxes, exact.boxes, atol=1e-2)
        found += len(exact.boxes)
    assert found > 20  # else there is nothing to compare


def test_boxes_are_in_the_pixels_of_the_image_that_was_given(path, reference, tmp_path):
    nms = {**reference.hparams.nms_configs.as_dict(), "score_thresh": None}
    model = EmbeddedModel.load(rewritten(path, tmp_path, nms_configs=nms))
    image = fit_image(photographs()[0], (HEIGHT, WIDTH)).image
    thrice = np.repeat(np.repeat(image, 3, 0), 3, 1)  # fits into the input as the image itself, bar interpolation
    small, large = model.detect(image), model.detect(thrice)
    assert small.boxes.max() <= max(HEIGHT, WIDTH) < large.boxes.max() <= 3 * max(HEIGHT, WIDTH)


def test_an_image_may_be_of_any_size_but_must_be_rgb(model):
    assert len(model.detect(np.zeros((1, 1, 3), np.uint8)).scores) >= 0
    with pytest.raises(ValueError, match="uint8"):
        model.detect(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="convert it to RGB"):
        model.detect(np.zeros((8, 8, 4), np.uint8))


def test_earlier_results_stay_what_they_were(model):
    first = model.detect(photographs()[0])
    copy = [np.array(part) for part in first]
    model.detect(photographs()[1])
    for now, before in zip(first, copy):
        np.testing.assert_array_equal(now, before)


def test_workers_in_threads_get_their_own_answers(model):
    images = [fit_image(photograph, (HEIGHT, WIDTH)) for photograph in photographs()]
    outputs, wrong = [], []
    for image in images:
        alone = model.session()
        alone.load(image.image, image.scale_to_original)
        alone.run()
        outputs.append(alone.class_outputs[0].copy())

    def serve(number):
        worker = model.session()
        for _ in range(5):
            worker.load(images[number].image, images[number].scale_to_original)
            worker.run()
            worker.detections()
            if not np.array_equal(worker.class_outputs[0], outputs[number]):
                wrong.append(number)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_libdetect_reads_the_memory_that_the_network_writes(model):
    session = model.session()
    before = [output.ctypes.data for output in session.class_outputs + session.box_outputs]
    session.class_outputs[0][...] = 7
    session.run()
    assert [output.ctypes.data for output in session.class_outputs + session.box_outputs] == before
    assert (session.class_outputs[0] != 7).all()


INTERRUPTED = """
import os, signal, sys, time
from ipu_utils.executable.runtime import EmbeddedModel
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process has it ignored
models = [EmbeddedModel.load(sys.argv[1]) for _ in range(3)]
while models:
    models.pop(0)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)  # another thread may be the one that gets the signal, and this one hears of it a moment later
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("threads, asked, made", [(1, 64, 1), (2, 3, 2), (2, 2, 2), (2, None, 1)])
def test_the_streams_that_are_reported_are_those_that_there_are(path, threads, asked, made):
    assert EmbeddedModel.load(path, num_threads=threads, num_streams=asked).num_streams == made


def test_an_interruption_after_models_were_dropped_in_any_order_is_an_exception(path):
    command = [sys.executable, "-c", INTERRUPTED, str(path)]
    done = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done


def test_a_model_may_be_dropped_while_a_worker_lives(path):
    worker = EmbeddedModel.load(path).session()  # the file stays mapped for the weights
    worker.run()
    assert np.isfinite(worker.class_outputs[0]).all()


def test_the_header_tells_what_a_deployment_needs(model, config):
    header = model.header
    assert header.label_map[17] == "cat" and header.label_map[90] == "toothbrush"
    assert (header.model_name, header.image_size, header.precision) == ("efficientdet-d0", (HEIGHT, WIDTH), "float32")
    assert header.nms_configs["score_thresh"] == 0.4 and header.nms_mode == "best-class"
    assert header.random_weights and header.weights.startswith("random, seed 0")
    assert header.engine.startswith("OpenVINO 20") and len(header.target) > 1


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"engine": "OpenVINO 2019.1"}, "compiled by OpenVINO 2019.1, this is OpenVINO 20"),
        ({"target": ("x86_64", "avx1024")}, "compiled for another processor: this one has no avx1024"),
        ({"precision": "float8"}, "precision should be one of float32, float16, bfloat16"),
    ],
)
def test_a_file_for_another_machine_is_refused_and_says_how_to_get_one(path, tmp_path, changes, text):
    with pytest.raises(ExecutableError, match=text):
        EmbeddedModel.load(rewritten(path, tmp_path, **changes))


def with_anchors(path, **changes):
    return {**read_executable(path).header.anchors, **changes}


@pytest.mark.parametrize(
    "changes, anchors, text",
    [
        ({"output_type": "float16"}, {}, "output class_3 of its network is float32, its header says float16"),
        ({"output_type": "bfloat16"}, {}, "output class_3 of its network is float32, its header says bfloat16"),
        ({"input_type": "float32"}, {}, "input of its network is uint8, its header says float32"),
        ({"image_size": (HEIGHT, WIDTH + 1)}, {}, r"input of its network is \[1, 96, 128, 3\], .* \[1, 96, 129, 3\]"),
        ({"image_size": (8192, 8192)}, {}, r"input of its network is .* says \[1, 8192, 8192, 3\]"),
        ({"batch_size": 65536}, {}, r"input of its network is .* says \[65536, 96, 128, 3\]"),
        ({"num_classes": 91}, {}, r"output class_3 of its network is \[1, 12, 16, 810\], .* \[1, 12, 16, 819\]"),
        ({"num_classes": 4}, {}, r"output class_3 of its network is .* says \[1, 12, 16, 36\]"),
        ({}, {"max_level": 8}, "has 10 outputs, its header describes 12"),
        ({}, {"max_level": 6}, "has 10 outputs, its header describes 8"),
        ({}, {"min_level": 2, "max_level": 6}, "has no output class_2"),
        ({}, {"num_scales": 2}, r"output class_3 of its network is .* says \[1, 12, 16, 540\]"),
        ({}, {"num_scales": 32, "aspect_ratios": [1.0] * 32}, r"says \[1, 12, 16, 92160\]"),
    ],
)
def test_a_header_that_is_not_true_of_its_network_is_refused(path, tmp_path, changes, anchors, text):
    changes = {**changes, **({"anchors": with_anchors(path, **anchors)} if anchors else {})}
    with pytest.raises(ExecutableError, match=f"is not what it says it is: .*{text}"):
        EmbeddedModel.load(rewritten(path, tmp_path, **changes))


def test_what_runs_is_what_was_checked(path, tmp_path):
    """The file is swapped between looking at it and running it."""
    copy = rewritten(path, tmp_path)
    found = read_executable(copy)
    write_executable(copy, found.header, b"not a network" * 1000)
    assert len(EmbeddedModel(found).detect(photographs()[0]).boxes) > 0


@pytest.mark.parametrize(
    "image",
    [
        None,
        PHOTOGRAPHS[0],
        str(PHOTOGRAPHS[0]),
        Image.open(str(PHOTOGRAPHS[0])),
        [[[0, 0, 0]]],
        np.zeros((5, 5, 3)),
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((1, 5, 5, 3), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
    ],
    ids=["nothing", "a path", "a name", "a Pillow image", "a list", "float", "grey", "RGBA", "a batch", "empty"],
)
def test_what_is_no_image_is_the_documented_error(model, image):
    with pytest.raises(ValueError, match=r"image must be .*uint8 \[H, W, 3\]"):
        model.detect(image)


def test_several_threads_get_the_detections_of_their_own_image(model):
    images = photographs()
    wanted, found = [model.detect(image) for image in images], {}
    assert len({len(one.boxes) for one in wanted}) > 1, "the images are told apart by nothing"

    def detect(number):
        found[number] = [model.detect(images[number]) for _ in range(15)]

    threads = [threading.Thread(target=detect, args=(number,)) for number in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, one in enumerate(wanted):
        assert len(found[number]) == 15
        for other in found[number]:
            for expected, got in zip(one, other):
                np.testing.assert_array_equal(got, expected)


def test_a_network_that_openvino_cannot_read_is_the_users_error(path, tmp_path):
    copy = tmp_path / "bad.effdet"
    write_executable(copy, read_executable(path).header, b"not a network" * 1000)
    with pytest.raises(ExecutableError, match="cannot be loaded by OpenVINO"):
        EmbeddedModel.load(copy)


def test_a_file_for_batches_is_not_for_single_images(reference, config, tmp_path):
    header = dataclasses.replace(wanted(config), batch_size=2)
    copy = tmp_path / "b2.effdet"
    write_executable(copy, header, freeze.compile_network(reference.outputs, header))
    model = EmbeddedModel.load(copy)
    with pytest.raises(UserError, match="batches of 2 images"):
        model.detect(photographs()[0])
    images = [fit_image(photograph, (HEIGHT, WIDTH)) for photograph in photographs()[:2]]
    worker = model.session()
    worker.load(np.stack([image.image for image in images]), [image.scale_to_original for image in images])
    worker.run()
    for number, image in enumerate(images):
        for ours, theirs in zip(worker.class_outputs + worker.box_outputs, reference.heads(image.image)):
            np.testing.assert_allclose(ours[number : number + 1], theirs, rtol=0, atol=1e-3 * np.std(theirs))
    assert worker.detections().boxes.shape == (2, 100, 4)


def test_bfloat16_drifts_by_its_own_rounding_only(reference, config, tmp_path):
    header = dataclasses.replace(wanted(config), precision="bfloat16", output_type="bfloat16")
    try:
        openvino_api.check_precision("bfloat16")
    except UserError as error:
        pytest.skip(str(error))
    path = tmp_path / "bf16.effdet"
    write_executable(path, header, freeze.compile_network(reference.outputs, header))
    worker = EmbeddedModel.load(path).session()
    image = fit_image(photographs()[0], (HEIGHT, WIDTH)).image
    worker.load(image, 1.0)
    worker.run()
    for ours, theirs in zip(worker.class_outputs + worker.box_outputs, reference.heads(image)):
        assert ours.dtype == np.uint16
        values = (ours.astype(np.uint32) << 16).view(np.float32)
        # Some 60 layers, each rounding to 8 bits: 2^-9 * sqrt(60) = 0.015 of a standard deviation, with room.
        assert np.sqrt(np.mean((values - theirs) ** 2)) < 0.1 * np.std(theirs)
    assert worker.detections().lengths[0] > 0


def test_a_precision_that_the_cpu_lacks_is_the_users_error(monkeypatch):
    class Core:
        def get_property(self, device, name):
            return ["FP32", "INT8"]

    class OpenVino:
        pass

    OpenVino.Core = Core
    monkeypatch.setattr(openvino_api, "import_openvino", lambda: OpenVino)
    with pytest.raises(UserError, match="cannot compute in float16 on this CPU, only in float32"):
        openvino_api.check_precision("float16")


DETECT = """
import sys
import numpy as np
from ipu_utils.executable.runtime import EmbeddedModel

found = EmbeddedModel.load(sys.argv[1]).detect(np.random.RandomState(0).randint(0, 256, (300, 200, 3)).astype(np.uint8))
assert found.boxes.shape == (len(found.scores), 4)
loaded = [name for name in ("tensorflow", "tf_keras", "keras", "openvino_telemetry") if name in sys.modules]
print(loaded)
"""


def test_detecting_imports_no_tensorflow_and_reports_to_nobody(path):
    run = subprocess.run([sys.executable, "-c", DETECT, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.stderr, run.stdout.strip()) == ("", "[]")
