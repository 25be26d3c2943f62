# SPDX-License-Identifier: Apache-2.0
"""What happens to a run while it runs: signals, two runs at once, native code that fails."""

import concurrent.futures
import ctypes
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, List, Sequence

import numpy as np

from ipu_utils.data.decode import read_image
from ipu_utils.executable.file import read_executable
from reliability import edges
from reliability.case import MODEL, Case, Outcome, Stage
from reliability.during import SIGNAL_SECONDS, act_during
from reliability.runner import ROOT, command_of, environment_of, in_process_of_its_own

KILLS = 10
DELAY = 0.3  # seconds into the phase
ATTEMPTS = 3  # on a machine that is busy with something else
ENDLESS = ["--num-repeats", "1000000", "--output-predictions", "--output-dir", "{folder}/out"]
RECORD = ["--results-json", "{folder}/old.json"]
BATCHES = ["--benchmark-repeats", "2"]
ONCE = ["--image-path", "{folder}/in", "--output-predictions", "--output-dir", "{folder}/out"]
RUNS = {  # name of a way to run: script, arguments
    "TensorFlow": ("throughput", [*MODEL, "--engine", "tensorflow", *BATCHES, *ENDLESS, *RECORD]),
    "OpenVINO": ("throughput", [*MODEL, "--engine", "openvino", *BATCHES, *ENDLESS, *RECORD]),
    "executable": ("embedded", ["--exec-file", "{executable}", *ENDLESS, *RECORD]),
    "compiling": ("embedded", [*MODEL, "--model-precision", "float", "--exec-output-dir", "{folder}/kept"]),
    "photographs, in OpenVINO": ("throughput", [*MODEL, "--engine", "openvino", *ONCE, *RECORD]),
    "photographs": ("embedded", ["--exec-file", "{executable}", *ONCE, *RECORD]),
}
PHASES = {  # what is interrupted: name of the way to run, phase
    "the throughput script in TensorFlow": (
        "TensorFlow", ("importing", "building", "compiling", "measuring", "writing"), ["tensorflow"]),
    "the throughput script in OpenVINO": (
        "OpenVINO", ("waiting for TensorFlow", "exporting", "measuring", "writing"), ["executable"]),
    "the embedded script": (
        "compiling", ("importing", "waiting for TensorFlow", "building", "exporting"), ["openvino"]),
    "the embedded script with an executable": ("executable", ("importing", "measuring", "writing"), ["executable"]),
    "the throughput script over photographs": ("photographs, in OpenVINO", ("measuring",), ["executable"]),
    "the embedded script over photographs": ("photographs", ("measuring",), ["executable"]),
}  # fmt: skip
FEW = {  # few counted calls, and many pictures
    "TensorFlow": ["--num-repeats", "2", "--benchmark-repeats", "400"],
    "OpenVINO": ["--num-repeats", "2", "--benchmark-repeats", "400"],
    "executable": ["--num-repeats", "400"],
}
QUICK = ("executable", "photographs")  # ways that start in no time
OLD = '{"old": true}'


def _photographs(folder: Path) -> None:
    """More than are run before the signal comes."""
    (folder / "in").mkdir()
    photograph = ROOT / "tests" / "data" / "images" / "rocket.jpg"
    for number in range(400):
        os.symlink(str(photograph), str(folder / "in" / f"{number:03d}.jpg"))


def _interrupted(way: str, phase: str, number: int) -> Callable[[Stage], Outcome]:
    script, arguments = RUNS[way]
    more, delay = (FEW[way], 0.05) if phase == "writing" else ([], DELAY)

    def run(stage: Stage) -> Outcome:
        filled = stage.filled([*arguments, *more])
        (stage.folder / "old.json").write_text(OLD)
        for _ in range(ATTEMPTS):
            shutil.rmtree(str(stage.folder / "out"), ignore_errors=True)
            ended = act_during(phase, script, filled, lambda process: process.send_signal(number), delay)
            if ended.seconds <= SIGNAL_SECONDS:
                break
        assert ended.seconds <= SIGNAL_SECONDS, ended
        return ended.outcome

    return run


def _nothing_half_done(stage: Stage) -> None:
    """The old record is there, and no file that is not complete."""
    assert (stage.folder / "old.json").read_text() == OLD
    for name in ("out", "kept"):
        folder = stage.folder / name
        left = [path.name for path in folder.iterdir()] if folder.exists() else []
        assert not [path for path in left if path.startswith(".") or path.endswith(".part")], left
        assert not [path for path in left if path.endswith(".effdet")]


def _what_was_found(stage: Stage) -> None:
    """The pictures that were written, whole, and a list of them; the last one may have come before its entry."""
    _nothing_half_done(stage)
    out = stage.folder / "out"
    pictures = sorted(path.name for path in out.glob("*.jpg"))
    listed = [entry["annotated"] for entry in json.loads((out / "detections.json").read_text())]
    assert 2 <= len(listed) < 400 and listed == pictures[: len(listed)] and len(pictures) <= len(listed) + 1
    for name in pictures:
        read_image(out / name)


def _signals() -> List[Case]:
    return [
        Case(
            f"{number.name} while {what} is {phase}",
            status=128 + number,
            words=["Benchmark interrupted: partial results", "throughput"] if phase in ("measuring", "writing") else [],
            prepare=_photographs if way.startswith("photographs") else lambda folder: None,
            run=_interrupted(way, phase, number),
            check=_what_was_found if way.startswith("photographs") else _nothing_half_done,
            needs=[*needs, "linux"],
            slow=way not in QUICK or (way, number) == ("photographs", signal.SIGTERM),
        )
        for what, (way, phases, needs) in PHASES.items()
        for phase in phases
        for number in (signal.SIGINT, signal.SIGTERM)
    ]


def _killed_while_writing(stage: Stage) -> Outcome:
    """Kill a process that writes one record after the other; whichever is there in the end is complete."""
    path = stage.folder / "record.json"
    code = (
        "import sys; from ipu_utils.base.files import write_atomically\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    text = ('{\"number\": %d, \"samples\": [' % number + '1, ' * 200000 + '2]}').encode()\n"
        "    write_atomically(sys.argv[1], (text,), '--results-json')\n"
        "    print(number, flush=True)\n"
    )
    for _ in range(KILLS):
        run = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], cwd=str(ROOT), env=environment_of({"PYTHONPATH": str(ROOT)}),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        run.stdout.readline()
        time.sleep(random.random() / 20)
        run.kill()
        run.wait()
        assert len(json.loads(path.read_text())["samples"]) == 200001
    return Outcome(-signal.SIGKILL, "", "")


def _two_at_once(script: str, arguments: Sequence[str]) -> Callable[[Stage], Outcome]:
    """Start two runs with the same folders at the same moment."""

    def run(stage: Stage) -> Outcome:
        command = command_of(script, stage.filled(arguments))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(lambda number: in_process_of_its_own(command, {}), range(2)))
        assert [outcome.status for outcome in outcomes] == [0, 0], outcomes
        return outcomes[1]

    return run


def _both_complete(stage: Stage) -> None:
    """Records, table, pictures and executables are whole."""
    for path in stage.folder.rglob("*.json"):
        json.loads(path.read_text())
    table = stage.folder / "table.csv"
    if table.exists():
        lines = table.read_text().splitlines()
        assert len(lines) == 3 and len({line.count(",") for line in lines[1:]}) == 1, lines
    for path in stage.folder.rglob("*.effdet"):
        read_executable(path)
    for path in stage.folder.rglob("*.jpg"):
        read_image(path)
    assert not [path for path in stage.folder.rglob("*") if path.name.startswith(".") or path.name.endswith(".part")]


def _make_twice(stage: Stage) -> Outcome:
    """Run two makes at once in a copy of NMS/, for this TensorFlow if there is one; a third finds nothing to do."""
    copy = stage.folder / "NMS"
    ignored = shutil.ignore_patterns("build", "*.o", "*.so")
    shutil.copytree(str(ROOT / "NMS"), str(copy), ignore=ignored)
    shutil.copytree(str(ROOT / "ipu_utils"), str(copy.with_name("ipu_utils")), ignore=ignored)  # names folders
    command = ["make", "-C", str(copy / "host"), f"PYTHON={sys.executable}", "all"]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda number: in_process_of_its_own(command, {}), range(2)))
    assert [outcome.status for outcome in outcomes] == [0, 0], outcomes
    ctypes.CDLL(str(copy / "host" / "build" / "libdetect.so"))
    operators = list((copy / "host" / "build").glob("tf-*/host_nms.so"))
    assert len(operators) == ("tensorflow" in _installed()), operators
    if operators:  # in a process of its own: this one may have loaded operators of these names
        code = (
            "import sys; from ipu_utils.base.keras2 import tf\nprint(tf.load_op_library(sys.argv[1]).host_nms.__name__)"
        )
        loaded = in_process_of_its_own([sys.executable, "-c", code, str(operators[0])], {"PYTHONPATH": str(ROOT)})
        assert loaded.out.strip() == "host_nms", loaded
    left = [path.name for path in (copy / "host" / "build").rglob("*") if path.name.endswith(".tmp")]
    third = in_process_of_its_own(command, {})
    assert not left and "compiling" not in third.out, (left, third)
    return third


def _installed() -> List[str]:
    return [name for name in ("tensorflow",) if importlib.util.find_spec(name) is not None]


def _told(call: Callable[[], Any]) -> Outcome:
    """Which Python error a call ends with."""
    try:
        call()
    except (ValueError, RuntimeError) as error:
        text = str(error)
    except Exception as error:
        if not any(kind.__name__ == "OpError" for kind in type(error).__mro__):  # TensorFlow's
            raise
        # In a graph TensorFlow says first where each node was made, and in front of all which kernel it was.
        lines = [re.sub(r"{{.*?}}|\[[Op:].*|\[\[.*", "", line).strip() for line in str(error).splitlines()]
        text = next(line for line in lines if "must" in line or "number" in line)
    else:
        return Outcome(1, "", "no error came")
    return Outcome(0, "", f"note: {text}")


def _operator_errors() -> List[Case]:
    """What the wrapper and the operators themselves cannot compute; in a graph shapes are known to the kernel alone."""

    def numbers(*shape: int) -> np.ndarray:
        return np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)

    def nms(boxes: Sequence[int] = (2, 6, 4), iou: float = 0.5, sigma: float = 0.0) -> Callable[[Stage], Outcome]:
        def run(stage: Stage) -> Outcome:
            import ipu_nms

            return _told(
                lambda: ipu_nms.nms_op(iou, 0.0, 5, numbers(2, 6), numbers(*boxes), sigma=sigma, device="host")
            )

        return run

    def in_a_graph(stage: Stage) -> Outcome:
        from ipu_utils.base.keras2 import tf
        from ipu_utils.nms import libraries

        unknown = tf.TensorSpec(None, tf.float32)
        call = tf.function(
            libraries.load_operators().host_nms, input_signature=[unknown, unknown, tf.TensorSpec(None, tf.int32)]
        )
        return _told(lambda: call(numbers(2, 6), numbers(3, 6, 4), np.zeros((2, 6), np.int32)))

    def decode(anchors: int, classes: int) -> Callable[[Stage], Outcome]:
        def run(stage: Stage) -> Outcome:
            from ipu_utils.nms import libraries

            heads = {"class_outputs": [numbers(1, 2, 2, 9)], "box_outputs": [numbers(1, 2, 2, 12)]}
            operator = libraries.load_operators().host_decode
            return _told(lambda: operator(**heads, anchors=numbers(anchors, 4), num_classes=classes, mode="best-class"))

        return run

    deeds = [
        ("the NMS operator with too few boxes", nms((2, 5, 4)), ["boxes must be [N, K, 4] = [2,6,4]", "got [2,5,4]"]),
        ("the NMS operator with boxes of three corners", nms((2, 6, 3)), ["got [2,6,3]"]),
        ("the NMS operator with an IoU that is not a number", nms(iou=float("nan")), ["iou_threshold is not a number"]),
        ("the NMS operator with a sigma below zero", nms(sigma=-1.0), ["sigma must be 0", "got -1"]),
        ("the NMS operator, in a graph, with boxes of another batch", in_a_graph, ["boxes must be", "got [3,6,4]"]),
        ("the decoding operator with too few anchors", decode(5, 3), ["anchors must be [12,4], got [5,4]"]),
        (
            "the decoding operator with another number of classes",
            decode(12, 2),
            ["with 2 classes", "num_classes"],
        ),
    ]
    return [Case(given, status=0, words=words, run=run, needs=["operators"]) for given, run, words in deeds]


def _native_error(stage: Stage) -> Outcome:
    """Give the post-processing library what it cannot compute."""
    from ipu_utils.nms.libdetect import Detector

    anchors = np.zeros((6, 4), np.float32)
    detector = Detector(anchors, [6], 2, (8, 8), 0.5, 0.4, 0.0, 3, "best-class", 1)
    scores, boxes, scales = np.zeros((1, 6, 2), np.float32), np.zeros((1, 5, 4), np.float32), np.ones(1, np.float32)
    return _told(lambda: detector.run([scores], [boxes], scales, dtype="float32"))


RECORDS = ["--results-json", "{folder}/record.json", "--results-csv", "{folder}/table.csv"]
CASES = [
    *edges.CASES,
    *_signals(),
    Case(
        "SIGKILL while records are written, ten times",
        status=-signal.SIGKILL,
        run=_killed_while_writing,
        needs=["linux"],
    ),
    Case(
        "two runs at once with the same folders",
        status=0,
        words=["throughput"],
        check=_both_complete,
        run=_two_at_once("embedded", [*RUNS["executable"][1], "--num-repeats", "20", *RECORDS]),
        needs=["executable"],
        slow=True,
    ),
    Case(
        "two runs at once that compile into the same folder",
        status=0,
        words=["throughput"],
        check=_both_complete,
        run=_two_at_once("embedded", [*RUNS["compiling"][1], "--num-repeats", "5"]),
        needs=["openvino"],
        slow=True,
    ),
    Case("`make` twice in parallel", status=0, run=_make_twice, needs=["make"], slow=True),
    Case(
        "libdetect with too few boxes",
        status=0,
        words=["box_outputs is float32 [1, 5, 4]", "6 anchors"],
        run=_native_error,
        needs=["libdetect"],
    ),
    *_operator_errors(),
]
