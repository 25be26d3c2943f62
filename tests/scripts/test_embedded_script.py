# SPDX-License-Identifier: Apache-2.0
"""ipu_embedded_inference.py on a CPU: what it prints, keeps, refuses, and does without."""

import dataclasses
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import coco_set
import numpy as np
import pytest
from shared_folder import shared_folder

pytest.importorskip("openvino", reason="OpenVINO is not installed (there is none for Python 3.8 in requirements.txt)")

import ipu_embedded_inference as script
from ipu_utils.backends import openvino
from ipu_utils.base import hardware
from ipu_utils.base.console import run_script
from ipu_utils.executable import fingerprint
from ipu_utils.executable.file import read_executable, write_executable
from ipu_utils.executable.runtime import Session
from ipu_utils.nms import libraries
from ipu_utils.outputs.writers import Outputs
from ipu_utils.report.record import read_record

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = ROOT / "tests" / "data" / "images"
CUT = ["--hparams", "fpn_cell_repeats=1,box_class_repeats=1"]  # most of compiling is building the network
MODEL = ["--model-name", "efficientdet-lite0", "--image-size", "96x64", "--random-weights", *CUT]
NAME = "efficientdet-lite0_96x64_float32.effdet"

pytestmark = pytest.mark.skipif(
    not libraries.libdetect_path().is_file(), reason="NMS/host/build/libdetect.so is not built: run make"
)


def stand_still(monkeypatch):
    """The same default precision wherever the tests run, and sources that nobody edits meanwhile."""
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
    monkeypatch.setattr(fingerprint, "of_sources", lambda builder: "5" * 64)


@pytest.fixture(autouse=True)
def _stand_still(monkeypatch):
    stand_still(monkeypatch)


@pytest.fixture
def run(capfd):
    """Run the script; (exit status, standard output, standard error without TensorFlow's own messages)."""

    def run(*arguments):
        capfd.readouterr()
        try:
            status = run_script(lambda: script.main(["--device", "cpu", *map(str, arguments)]))
        except SystemExit as stop:
            status = stop.code
        out, err = capfd.readouterr()
        own = [line for line in err.splitlines() if not re.match(r"[IWE]\d{4} |WARNING: All log", line)]
        return status, out, "\n".join(own)

    return run


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder with one executable, compiled by the script."""
    folder = shared_folder(tmp_path_factory, "embedded")
    with pytest.MonkeyPatch.context() as patch:
        stand_still(patch)
        arguments = ["--device", "cpu", *MODEL, "--exec-output-dir", str(folder), "--compile-only"]
        assert run_script(lambda: script.main(arguments)) == 0
    assert (folder / NAME).is_file()
    return folder


@pytest.fixture
def kept(compiled, tmp_path):
    """The folder, to be changed by a test."""
    (tmp_path / "kept").mkdir()
    shutil.copy(str(compiled / NAME), str(tmp_path / "kept"))
    return tmp_path / "kept"


FEW = ["--num-repeats", "4"]


def copying(network):
    """In the place of `Compiler.build`: what is compiled is this network."""
    return lambda compiler, header: (header, lambda path: write_executable(path, header, network))


def test_the_record_says_what_the_executable_came_from(run, kept, tmp_path):
    header = read_executable(kept / NAME).header
    path = tmp_path / "record.json"
    for how in (["--exec-file", kept / NAME], [*MODEL, "--exec-output-dir", kept]):
        assert run(*how, *FEW, "--results-json", path)[0] == 0
        assert read_record(path)["executable"] == {
            "origin": "given" if "--exec-file" in how else "kept",
            "bytes": (kept / NAME).stat().st_size,
            "compile_seconds": None,
            "engine": header.engine,
            "sources_sha256": "5" * 64,
            "nms_operator_sha256": None,
            "versions": fingerprint.versions(),
        }
    path.unlink()


def test_the_report_says_what_ran_and_has_the_lines_that_scripts_read(run, kept):
    status, out, err = run(*MODEL, *FEW, "--exec-output-dir", kept)
    assert (status, err) == (0, "")
    out.encode("ascii")
    lines = out.splitlines()
    names = [line.split(":")[0] for line in lines if not line.startswith("\t")]
    assert names == [
        "weights", "model", "device", "executable", "precision", "data", "batch", "nms", "requests", "measured",
        "Benchmark complete.", "Statistics", "stages", "objects", "start-up", "weights",
    ]  # fmt: skip
    assert "Stats captured over 4 runs." in out
    rate = float(re.search(r"throughput: *(.*?) samples\/sec,", out)[1])
    assert rate * float(re.search(r"Per-batch latency avg: *(.*?) ms,", out)[1]) == pytest.approx(1000, rel=0.05)
    assert re.search(r"\tRequest latency p50 = \d+\.\d\d ms, p90 = .* ms, p95 = .* ms, p99 = \d+\.\d\d ms\n", out)
    stages = r"stages:    input \d+\.\d\d ms, device \d+\.\d\d ms, post-processing \d+\.\d\d ms a batch \(means of 4;"
    assert re.search(stages, out)
    assert f"executable: {kept / NAME} (kept from an earlier run)" in out
    assert "precision: float, images travel as uint8" in out
    assert "best-class, hard, IoU > 0.5 suppresses, score > 0.4, at most 100 an image; libdetect" in out
    assert "requests:  4 requests, one at a time" in out
    assert "measured:  device: from an image of the network's size in memory to detections in memory" in out
    assert re.search(r"objects: +\d+\.\d candidates and \d+\.\d detections an image \(mean of 4\)", out)


def test_coco_results_a_contact_sheet_and_skipped_files(run, kept, tmp_path):
    coco = coco_set.make_set(tmp_path / "set", count=3)
    (coco.images / "empty.jpg").write_bytes(b"")
    broken = coco.images / "000000000001.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])
    status, out, _ = run(
        *MODEL, *FEW, "--exec-output-dir", kept, "--dataset-type", "image-directory", "--image-path", coco.images,
        "--coco-results", tmp_path / "results.json", "--coco-annotations", coco.annotations,
        "--contact-sheet", tmp_path / "sheet.png",
    )  # fmt: skip
    assert status == 3
    assert "over all 2 annotated images that ran" in out and "sheet:     2 of 2 images" in out
    assert "skipped:   2 files" in out and "\tempty.jpg: " in out and "\t000000000001.jpg: " in out
    found = json.loads((tmp_path / "results.json").read_text())
    assert {one["image_id"] for one in found} <= {1000, 986}
    shown = [float(number) for number in re.findall(r"^\tAR\w+ += +(\d\.\d{4}) ", out, re.MULTILINE)]
    assert len(shown) >= 3


def test_annotations_are_compared_with_the_classes_of_a_given_executable(run, kept, tmp_path):
    pytest.importorskip("pycocotools")
    coco = coco_set.make_set(tmp_path / "set", count=2)
    known = read_executable(kept / NAME)
    names = {2: "Person", 4: "car", 5: "cat", 6: "toothbrush"}
    path = tmp_path / "named.effdet"
    write_executable(path, dataclasses.replace(known.header, label_map=names), bytes(known.network()))
    arguments = [
        *FEW, "--exec-file", path, "--dataset-type", "image-directory", "--image-path", coco.images,
        "--coco-annotations", coco.annotations,
    ]  # fmt: skip
    for more in ([], ["--dry-run"]):
        status, out, _ = run(*arguments, *more)
        assert status == 0
        assert "matched by name, not by number: categories[0] (1, person) is class 2 of the model" in out


def test_random_weights_are_named_first_and_last(run, kept):
    _, out, _ = run(*MODEL, *FEW, "--exec-output-dir", kept)
    lines = out.splitlines()
    assert lines[0].startswith("weights:   random, seed 0")
    assert lines[-1] == lines[0] + ": the speed is real, the detections mean nothing"


def test_an_interrupted_run_calls_requests_by_their_name_and_ends_with_what_random_weights_mean(
    run, kept, tmp_path, monkeypatch
):
    write = Outputs.write

    def interrupted(self, ids, found):
        if self.written == 2:
            raise KeyboardInterrupt
        write(self, ids, found)

    monkeypatch.setattr(Outputs, "write", interrupted)
    status, out, _ = run(
        *MODEL, "--exec-output-dir", kept, "--image-path", PHOTOGRAPHS, "--output-predictions", "--output-dir", tmp_path
    )
    assert status == 130 and "partial results of" in out
    assert "\tRequest latency p50 = " in out and "Per-batch latency p50" not in out
    lines = out.splitlines()
    assert lines[-1] == lines[0] + ": the speed is real, the detections mean nothing"


def test_a_second_run_compiles_nothing(run, kept, monkeypatch):
    monkeypatch.setattr(openvino.Compiler, "build", None)  # would fail if called
    before = (kept / NAME).stat().st_mtime_ns
    assert run(*MODEL, *FEW, "--exec-output-dir", kept)[0] == 0
    assert (kept / NAME).stat().st_mtime_ns == before


@pytest.mark.parametrize("measure", ["network", "device", "end-to-end"])
def test_every_span_is_measured_and_named(run, kept, measure):
    status, out, _ = run(*MODEL, *FEW, "--exec-output-dir", kept, "--measure", measure)
    assert status == 0 and f"measured:  {measure}: from " in out


def test_without_on_chip_nms_the_span_ends_with_the_outputs(run, kept):
    _, out, _ = run(*MODEL, *FEW, "--exec-output-dir", kept, "--onchip-nms", "false")
    assert "to the network's outputs in memory, without post-processing" in out
    _, out, _ = run(*MODEL, *FEW, "--exec-output-dir", kept, "--onchip-nms", "false", "--benchmark-host-postprocessing")
    assert "to detections in memory" in out


def test_requests_in_flight_and_arrivals_are_told(run, kept):
    status, out, _ = run(*MODEL, "--num-repeats", "8", "--exec-output-dir", kept, "--requests-in-flight", "3")
    assert status == 0 and "requests:  8 requests, 3 in flight" in out
    status, out, _ = run(*MODEL, "--num-repeats", "8", "--exec-output-dir", kept, "--arrival-rate", "200")
    assert status == 0 and "Poisson arrivals at 200 a second (seed 0), latency from the planned arrival" in out


def test_arrivals_that_nothing_can_keep_up_with_are_noted(run, kept):
    _, _, err = run(*MODEL, "--num-repeats", "30", "--exec-output-dir", kept, "--arrival-rate", "1e6")
    assert "note: requests arrive faster than they are answered" in err


def test_photographs_end_to_end_and_predictions(run, kept, tmp_path):
    folder = tmp_path / "out"
    arguments = ["--dataset-type", "image-directory", "--image-path", PHOTOGRAPHS, "--measure", "end-to-end"]
    status, out, _ = run(
        *MODEL, *FEW, *arguments, "--exec-output-dir", kept, "--output-predictions", "--output-dir", folder
    )
    assert status == 0
    assert "end-to-end: from an image file, decoded and resized for each request, to detections in memory" in out
    entries = json.loads((folder / "detections.json").read_text())
    assert [entry["file"] for entry in entries] == ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]
    assert [entry["annotated"] for entry in entries] == sorted(path.name for path in folder.glob("*.jpg"))


@pytest.mark.parametrize("more", [[], ["--measure", "end-to-end"], ["--requests-in-flight", "2"]])
def test_each_photograph_is_requested_once(run, kept, tmp_path, monkeypatch, more):
    written, computed, write, compute = [], [], Outputs.write, Session.run

    def watched(self, ids, found):
        written.extend(int(number) for number in ids)
        write(self, ids, found)

    def counted(self):
        computed.append(self)
        compute(self)

    arguments = ["--exec-file", kept / NAME, "--image-path", PHOTOGRAPHS, "--output-predictions", "--output-dir"]
    assert run(*arguments, tmp_path / "measured", *FEW, *more)[0] == 0
    monkeypatch.setattr(Outputs, "write", watched)
    monkeypatch.setattr(Session, "run", counted)
    status, out, err = run(*arguments, tmp_path / "out", *more, "--results-json", tmp_path / "r.json")
    assert status == 0 and "note: each image is run once, because of --output-predictions" in err
    assert "pass:      each image once: 4 requests, after 1 more that is not counted\n" in out
    assert "detections an image (mean of 4)" in out and written == [0, 1, 2, 3]
    assert len(computed) == 1 + len({*computed}) + 4, "the very first request, a warm-up each, and one an image"
    record = read_record(tmp_path / "r.json")
    assert len(record["samples"]["instances"][0]["seconds"]) == 4 == record["configuration"]["num_repeats"]
    one, other = (json.loads((tmp_path / name / "detections.json").read_text()) for name in ("measured", "out"))
    assert one == other and [entry["annotated"] for entry in one] == [
        "astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "more, first, second", [([], "without", "with"), (["--measure", "end-to-end"], "with", "without")]
)
def test_a_video_is_run_frame_by_frame_with_and_without_decoding(run, kept, tmp_path, more, first, second):
    pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    from videos import make_video

    clip = make_video(tmp_path / "clip.mp4", 9)
    arguments = ["--exec-file", kept / NAME, "--image-path", clip, "--output-predictions", "--output-dir"]
    status, out, err = run(*arguments, tmp_path / "out", *more)
    assert status == 0 and "data:      video (" in out and "requests:  9 requests" in out
    assert "video:     9 annotated frames in " in out and "--dataset-type video" in err
    told = re.search(rf"video:     (.*) frames/sec {first} decoding, (.*) {second}; a frame takes (.*) ms to", out)
    measured, other, decoding = map(float, told.groups())
    assert measured == float(re.search(r"throughput: (\S+) samples/sec", out)[1])
    assert (other < measured) == (second == "with") and decoding > 0
    assert 1000 / min(measured, other) - 1000 / max(measured, other) == pytest.approx(decoding, rel=0.05, abs=0.02)
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 9
    (tmp_path / "bad.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    status, out, err = run("--exec-file", kept / NAME, "--image-path", tmp_path / "bad.mp4")
    assert status == 2 and re.search(r"bad\.mp4 .* video that FFmpeg can read", err) and "Traceback" not in err


def test_more_photographs_than_lie_in_memory_are_all_requested(run, kept, tmp_path, monkeypatch):
    monkeypatch.setattr("ipu_utils.launch.requests.POOL_BYTES", 2 * 64 * 96 * 3)
    arguments = ["--exec-file", kept / NAME, "--image-path", PHOTOGRAPHS, "--output-predictions", "--output-dir"]
    status, out, err = run(*arguments, tmp_path / "out")
    assert status == 0 and "not requested" not in err and "requests:  4 requests" in out
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 4
    assert "2 of 4 images are not requested" in run(*arguments, tmp_path / "measured", *FEW)[2]
    one, other = ((tmp_path / name / "detections.json").read_text() for name in ("measured", "out"))
    assert one == other


def test_a_given_file_is_run_as_it_is(run, kept):
    status, out, _ = run(*FEW, "--exec-file", kept / NAME)
    assert status == 0
    assert "model:     efficientdet-lite0, 96x64 pixels" in out and f"{NAME} (given)" in out


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--model-name", "efficientdet-d1"], "compiled for --model-name efficientdet-lite0, not efficientdet-d1"),
        (["--image-size", "128"], "compiled for --image-size 96x64, not 128x128"),
        (["--model-precision", "bfloat16"], "compiled for --model-precision float, not bfloat16"),
        (["--nms-mode", "multi-class"], "compiled for --nms-mode best-class, not multi-class"),
        (["--hparams", "num_classes=3"], "--hparams takes part in compiling"),
        (["--model-dir", "tmp"], "--model-dir takes part in compiling"),
    ],
)
def test_options_that_a_given_file_contradicts_are_refused(run, kept, arguments, text):
    status, _, err = run(*FEW, "--exec-file", kept / NAME, *arguments)
    assert status == 2 and err.startswith("error: ") and text in err


def test_options_that_a_given_file_agrees_with_are_taken(run, kept):
    assert run(*FEW, "--exec-file", kept / NAME, "--model-name", "efficientdet-lite0", "--image-size", "96x64")[0] == 0


def test_a_pipe_is_no_executable_and_is_not_waited_for(run, tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    status, out, err = run(*FEW, "--exec-file", tmp_path / "pipe")
    assert (status, out) == (2, "") and "pipe is a pipe or a device: expected a file" in err


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_a_given_file_for_more_than_onednn_may_use_is_refused_with_the_variable(run, kept, monkeypatch, variable):
    monkeypatch.setenv(variable, "sse41")
    status, _, err = run(*FEW, "--exec-file", kept / NAME)
    assert status == 2 and f"this one below {variable}=sse41 has no avx2 fma" in err


def test_a_damaged_given_file_is_refused(run, kept):
    path = kept / NAME
    path.write_bytes(path.read_bytes()[:-100])
    status, out, err = run(*FEW, "--exec-file", path)
    assert (status, out) == (2, "") and err.startswith(f"error: {path} has ")


def of_format_1(path, found):
    """Before the header said what surrounds an image."""
    content = path.read_bytes()
    path.write_bytes(content[:8] + struct.pack("<I", 1) + content[12:])


def test_a_given_file_of_the_former_format_is_refused(run, kept):
    of_format_1(kept / NAME, None)
    status, out, err = run(*FEW, "--exec-file", kept / NAME)
    assert (status, out) == (2, "") and "format version 1" in err and "compile it again, with --exec-output-dir" in err


def test_a_given_file_for_another_machine_is_refused(run, kept):
    found = read_executable(kept / NAME)
    other = dataclasses.replace(found.header, engine="OpenVINO 2019.1")
    write_executable(kept / "other.effdet", other, bytes(found.network()))
    status, _, err = run(*FEW, "--exec-file", kept / "other.effdet")
    assert status == 2 and "compiled by OpenVINO 2019.1" in err and "Compile it on this machine" in err


@pytest.mark.parametrize(
    "break_it, text",
    [
        (lambda path, found: path.write_bytes(b"EFFDET\r\n"), "is cut off after 8 bytes"),
        (of_format_1, "has format version 1, this release reads version 4"),
        (
            lambda path, found: write_executable(
                path, dataclasses.replace(found.header, engine="OpenVINO 2019.1"), bytes(found.network())
            ),
            "its engine is OpenVINO 2019.1, not OpenVINO 20",
        ),
        (
            lambda path, found: write_executable(
                path,
                dataclasses.replace(found.header, fingerprint={**found.header.fingerprint, "weights": "0"}),
                bytes(found.network()),
            ),
            "it was made from other weights",
        ),
    ],
    ids=["damaged", "former format", "other OpenVINO", "other weights"],
)
def test_a_kept_file_that_does_not_fit_is_compiled_again_with_a_note(run, kept, monkeypatch, caplog, break_it, text):
    path = kept / NAME
    found = read_executable(path)
    network = bytes(found.network())
    break_it(path, found)

    def build(compiler, header):
        header = dataclasses.replace(header, weights="again")
        return header, lambda target: write_executable(target, header, network)

    monkeypatch.setattr(openvino.Compiler, "build", build)
    status, out, _ = run(*MODEL, "--exec-output-dir", kept, "--compile-only")
    assert status == 0 and f"executable: {path} (compiled)" in out
    assert "is compiled again: " in caplog.text and text in caplog.text
    assert read_executable(path).header.weights == "again"


def test_a_temporary_executable_is_said_to_be_one_with_the_option_that_keeps_it(run, kept, monkeypatch, tmp_path):
    network = bytes(read_executable(kept / NAME).network())

    monkeypatch.setattr(openvino.Compiler, "build", copying(network))
    for more in ([], ["--exec-output-dir", tmp_path / "new"], ["--executable-cache-dir", tmp_path / "cache"]):
        status, out, _ = run(*MODEL, "--num-repeats", "2", *more)
        (line,) = [line for line in out.splitlines() if line.startswith("executable: ")]
        assert status == 0 and "(compiled)" in line
        assert ("a temporary file: it is removed at the end, --exec-output-dir FOLDER keeps it" in line) != bool(more)
        assert Path(line.split()[1]).is_file() == bool(more)


def test_what_another_run_wrote_into_the_same_file_meanwhile_is_not_run(run, kept, monkeypatch):
    found = read_executable(kept / NAME)
    network = bytes(found.network())

    def overtaken(compiler, header):
        return header, lambda path: write_executable(path, dataclasses.replace(header, batch_size=7), network)

    monkeypatch.setattr(openvino.Compiler, "build", overtaken)
    status, _, err = run(*MODEL, "--seed", "1", "--exec-output-dir", kept, "--compile-only")
    assert status == 2 and "was written by another run in the meantime (its batch_size is 7, not 1)" in err


def test_a_kept_file_speaks_of_the_run_that_finds_it_not_of_the_one_that_wrote_it(run, kept):
    asked = read_executable(kept / NAME).header.weights
    assert "no checkpoint in" not in asked
    without = [argument for argument in MODEL if argument != "--random-weights"]
    _, out, _ = run(*without, "--exec-output-dir", kept, "--compile-only")
    assert out.startswith(f"weights:   {asked} (no checkpoint in tmp/efficientdet-lite0)\n")
    assert "kept from an earlier run" in out
    _, out, _ = run(*MODEL, "--exec-output-dir", kept, "--compile-only")
    assert out.startswith(f"weights:   {asked}\n") and "kept from an earlier run" in out


@pytest.mark.parametrize("arguments", [["--seed", "1"], ["--hparams", "nms_configs.score_thresh=0.3"]])
def test_other_weights_or_settings_need_another_executable(run, kept, monkeypatch, arguments):
    compiled, network = [], bytes(read_executable(kept / NAME).network())

    def build(compiler, header):
        return header, lambda path: (compiled.append(path), write_executable(path, header, network))

    monkeypatch.setattr(openvino.Compiler, "build", build)
    assert run(*MODEL, *arguments, "--exec-output-dir", kept, "--compile-only")[0] == 0
    assert compiled == [kept / NAME]


def test_photographs_ask_for_trained_weights_although_random_ones_are_kept(run, kept):
    without = [argument for argument in MODEL if argument != "--random-weights"]
    arguments = ["--dataset-type", "image-directory", "--image-path", PHOTOGRAPHS]
    status, _, err = run(*without, *FEW, *arguments, "--exec-output-dir", kept)
    assert status == 2 and "error: " in err and "asks for trained weights" in err


def test_nothing_is_left_of_an_executable_that_is_not_to_be_kept(run, compiled, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = read_executable(compiled / NAME)

    monkeypatch.setattr(openvino.Compiler, "build", copying(bytes(found.network())))
    assert run(*MODEL, *FEW)[0] == 0
    assert list(tmp_path.iterdir()) == []


START = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from ipu_utils.base import hardware
from ipu_utils.executable import fingerprint
hardware.cpu_flags, fingerprint.of_sources = lambda: frozenset({"avx2", "fma"}), lambda builder: "5" * 64
import ipu_embedded_inference
ipu_embedded_inference.main()
print([name for name in ("tensorflow", "tf_keras", "keras", "openvino_telemetry") if name in sys.modules])
"""


@pytest.mark.parametrize("how", ["given", "kept"])
def test_a_start_from_a_file_imports_no_tensorflow(kept, how):
    arguments = ["--exec-file", kept / NAME] if how == "given" else [*MODEL, "--exec-output-dir", kept]
    command = [sys.executable, "-c", START, ROOT, "--device", "cpu", *FEW, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=str(kept))
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"


def test_noise_of_a_run_is_distinct_from_request_to_request(compiled):
    from ipu_utils.config.run_config import load_config
    from ipu_utils.launch.requests import open_inputs

    config = load_config(MODEL, "embedded", choose_device=lambda requested: "cpu")
    inputs = open_inputs(config, read_executable(compiled / NAME).header, 20)
    assert inputs.images.shape == (20, 1, 64, 96, 3) and inputs.left_out == 0
    assert len({image.tobytes() for image in inputs.images}) == 20
    assert np.ptp(inputs.images) == 255
