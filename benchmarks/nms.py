# SPDX-License-Identifier: Apache-2.0
"""Time post-processing on the host: ours against TensorFlow's and NumPy's, side by side in one run.

    python benchmarks/nms.py
    python benchmarks/nms.py --write docs/NMS.md

Head outputs of one 512x512 image (49104 anchors, 90 classes) with a given number of anchors above the score threshold
of 0.4, grouped around objects. The contenders take turns, so that whatever else the machine does meets all of them; the
median of each is printed with the quartiles. Run make first, and nothing else beside it.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import numpy as np
    from publish import markdown, replace_section

    from ipu_utils.base.console import run_script
    from ipu_utils.base.hardware import cpu_name, usable_cores
    from ipu_utils.config.command_line import count

IMAGE_SIZE = 512
NUM_CLASSES = 90
SCORE_THRESHOLD = 0.4
FUSED = "ours, fused operator"
IN_A_ROW = 10
IN_GRAPH = f"ours, fused operator, one of {IN_A_ROW} in a graph"
READ = "reading the logits once (NumPy maximum)"


class Timing(NamedTuple):
    """Of one contender, milliseconds an image."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    calls: int  # that were timed


class Problem(NamedTuple):
    """Head outputs of one image as NumPy arrays, finest level first."""

    config: Any
    class_outputs: List[np.ndarray]
    box_outputs: List[np.ndarray]


def make_problem(image_size: int, candidates: int, max_detections: int = 100, seed: int = 0) -> Problem:
    """Head outputs with exactly `candidates` anchors above the threshold, about twelve of them an object."""
    import hparams_config

    overrides = {"image_size": image_size, "nms_configs": {"max_output_size": max_detections}}
    config = hparams_config.get_inference_config("efficientdet-d0", overrides)
    rng = np.random.RandomState(seed)
    sides = [image_size // 2**level for level in range(config.min_level, config.max_level + 1)]
    rows = [side * side * 9 for side in sides]
    logits = np.minimum(rng.standard_normal((sum(rows), NUM_CLASSES)) * 0.8 - 4, -1.0).astype(np.float32)
    regressions = (rng.standard_normal((sum(rows), 4)) * 0.3).astype(np.float32)
    # Anchors of a cell and of its neighbours see the same object.
    starts = rng.permutation(sum(rows) // 12)[: -(-candidates // 12)] * 12
    hot = (starts[:, None] + np.arange(12)).reshape(-1)[:candidates]
    labels = np.repeat(rng.randint(0, NUM_CLASSES, len(starts)), 12)[:candidates]
    logits[hot, labels] = rng.uniform(-0.35, 4, len(hot))

    def split(values):
        parts = np.split(values, np.cumsum(rows)[:-1])
        return [part.reshape(1, side, side, -1) for part, side in zip(parts, sides)]

    return Problem(config, split(logits), split(regressions))


def contenders(problem: Problem) -> Dict[str, Callable[[], Any]]:
    """What is compared, each a call that detects in the image once."""
    import ipu_nms
    import nms_np
    from ipu_utils.base.keras2 import tf
    from tf2 import postprocess

    config, params = problem.config, problem.config.as_dict()
    tensors = [tf.constant(x) for x in problem.class_outputs], [tf.constant(x) for x in problem.box_outputs]
    detector = make_detector(problem)
    anchors = make_anchors(problem).T

    def unfused(classes, boxes):
        scores, corners, labels = ipu_nms.decode(config, classes, boxes)
        found = ipu_nms.ipu_nms(params, scores, corners, labels, device="host")
        return postprocess.clip_boxes(found.boxes, config.image_size), found

    def automl(classes, boxes):
        """AutoML's global mode: all anchors decoded, then TensorFlow's operator, image by image."""
        corners, scores, labels = postprocess.pre_nms(params, classes, boxes, topk=True)
        found = postprocess.nms(params, corners[0], scores[0], labels[0], padded=True)
        return postprocess.clip_boxes(found[0], config.image_size), found

    def with_numpy():
        logits = np.concatenate([x.reshape(-1, NUM_CLASSES) for x in problem.class_outputs])
        codes = np.concatenate([x.reshape(-1, 4) for x in problem.box_outputs])
        scores, labels = nms_np.sigmoid(logits.max(1)), logits.argmax(1)
        boxes = nms_np.decode_box_outputs_np(codes.T, anchors)
        return nms_np.non_max_suppression(boxes, scores, labels, 100, 0.5, SCORE_THRESHOLD)

    def in_a_row(classes, boxes):
        """The fused operator many times in one graph; other scales each time, or the graph would keep one of them."""
        found = []
        for number in range(IN_A_ROW):
            with tf.control_dependencies(found[-1:]):
                found.append(ipu_nms.detect(config, classes, boxes, tf.constant([1.0 + number])).boxes)
        return found

    def graph(function):
        compiled = tf.function(function)
        return lambda: compiled(*tensors)

    return {
        READ: lambda: [x.max() for x in problem.class_outputs],
        "an empty tf.function with the same inputs": graph(lambda classes, boxes: classes[0][0, 0, 0, 0]),
        FUSED: graph(lambda classes, boxes: ipu_nms.detect(config, classes, boxes)),
        IN_GRAPH: graph(in_a_row),
        "ours, libdetect, one thread": lambda: detector.run(problem.class_outputs, problem.box_outputs),
        "ours, unfused operators": graph(unfused),
        "TensorFlow's operators, candidates first (tf2/postprocess.py)": graph(
            lambda classes, boxes: postprocess.postprocess_best_class(params, classes, boxes)
        ),
        "AutoML's post-processing in TensorFlow (global NMS)": graph(automl),
        "TensorFlow combined NMS": graph(
            lambda classes, boxes: postprocess.postprocess_combined(params, classes, boxes)
        ),
        "NumPy": with_numpy,
    }


def make_anchors(problem: Problem) -> np.ndarray:
    """The anchors of the problem's configuration, [N, 4]."""
    from tf2.anchor_boxes import Anchors

    keys = ("min_level", "max_level", "num_scales", "aspect_ratios", "anchor_scale", "image_size")
    return Anchors(*(problem.config[key] for key in keys)).boxes


def make_detector(problem: Problem) -> Any:
    """libdetect for the problem's configuration."""
    from ipu_utils.nms.libdetect import Detector
    from utils import parse_image_size

    return Detector(
        make_anchors(problem),
        [x.size // 4 for x in problem.box_outputs],
        NUM_CLASSES,
        parse_image_size(problem.config.image_size),
        score_threshold=SCORE_THRESHOLD,
        max_detections=problem.config.nms_configs.max_output_size,
    )


def measure(calls: Dict[str, Callable[[], Any]], rounds: int) -> Dict[str, Timing]:
    """Time the calls in turns, each right after an untimed one: in use, the network has just written what they read.

    A call of more than 50 ms is made only in every tenth round.
    """
    seconds = {name: [] for name in calls}
    for call in calls.values():
        call()  # traces
    for number in range(rounds):
        for name, call in calls.items():
            if number % 10 and seconds[name][0] > 0.05:
                continue
            call()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(*(1e3 * np.percentile(values, [50, 25, 75])), len(values)) for name, values in seconds.items()}


def compare(rounds: int) -> List[str]:
    """The table of contenders at 300 candidates."""
    timings = measure(contenders(make_problem(IMAGE_SIZE, 300)), rounds)
    ten = timings[IN_GRAPH]
    timings[IN_GRAPH] = Timing(*(time / IN_A_ROW for time in ten[:3]), ten.calls)
    fused = timings[FUSED].median
    rows = []
    for name, timing in timings.items():
        quartiles = f"{timing.low:.2f} - {timing.high:.2f}"
        rows.append([name, f"{timing.median:.2f}", quartiles, str(timing.calls), f"{timing.median / fused:.1f}"])
    head = ["300 candidates, batch 1", "median, ms", "quartiles", "calls", "times the fused operator"]
    excess = timings[IN_GRAPH].median - timings[READ].median
    more = f"{abs(excess):.2f} ms {'less' if excess < 0 else 'more'}"
    return [markdown(head, rows), "", f"In a graph the fused operator takes {more} than reading the logits once."]


def scale(rounds: int) -> List[str]:
    """The table of libdetect on one thread over numbers of candidates, detections and anchors."""
    cases: List[Tuple[int, int, int]] = [(IMAGE_SIZE, count, 100) for count in (0, 30, 300, 3000, 30000)]
    cases += [(IMAGE_SIZE, 300, rows) for rows in (10, 1000)] + [(256, 300, 100), (1024, 300, 100)]
    problems = {case: make_problem(*case) for case in cases}
    calls = {}
    for case, problem in problems.items():
        detector = make_detector(problem)
        calls[case] = lambda d=detector, p=problem: d.run(p.class_outputs, p.box_outputs)
        calls[(*case, READ)] = lambda p=problem: [x.max() for x in p.class_outputs]
    timings = measure(calls, rounds)
    rows = []
    for case in cases:
        _, count, most = case
        anchors = sum(x.size // 4 for x in problems[case].box_outputs)
        read, detect = timings[(*case, READ)], timings[case]
        rows.append([str(anchors), str(count), str(most), f"{read.median:.2f}", f"{detect.median:.2f}"])
    return [markdown(["anchors", "candidates", "rows K", "reading, ms", "detecting, ms"], rows)]


def machine() -> str:
    """Where and with what this was measured, in one line."""
    from ipu_utils.base.keras2 import tf

    return (
        f"{cpu_name()}, {usable_cores()} cores, float32 outputs, TensorFlow {tf.__version__}, NumPy {np.__version__}, "
        f"Python {platform.python_version()}; load average at the start {os.getloadavg()[0]:.1f}."
    )


def main() -> None:
    """Measure and print, in Markdown."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=count, default=100, help="turns of every contender (default: %(default)s)")
    parser.add_argument("--write", type=Path, help="a document to put the tables into, between its markers")
    options = parser.parse_args()
    one_thread = f"libdetect on one thread, medians of {options.rounds} calls:"
    lines = [machine(), "", *compare(options.rounds), "", one_thread, "", *scale(options.rounds)]
    print("\n".join(lines))
    if options.write:
        replace_section(options.write, "nms", "\n".join(lines))


if __name__ == "__main__":
    sys.exit(run_script(main))
