#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How far an executable's numbers are from TensorFlow's in float32: head outputs and detections, on images of a folder.

    python benchmarks/precision.py --model-name efficientdet-d0 --images tests/data/images

Weights are random and calibrated unless --model-dir names trained ones. Drift on random weights says how much a
precision rounds, not what it costs in accuracy. Deviations are in standard deviations of TensorFlow's output; `plain`
is the network as OpenVINO converts and compiles it by itself.
"""

import argparse
import dataclasses
import functools
import sys
import tempfile
from pathlib import Path
from typing import Callable, List

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from ipu_utils.config import NmsConfig, Precision, load_config
from ipu_utils.devices import get_device
from ipu_utils.devices.detect_library import Detector
from ipu_utils.embedded import plan
from ipu_utils.embedded.build import compile_network
from ipu_utils.embedded.executable import Header, write_executable
from ipu_utils.embedded.host import wanted
from ipu_utils.embedded.runtime import (
    EmbeddedModel,
    ImageDetections,
    Worker,
    first_image,
    import_openvino,
    make_detector,
    properties,
)
from ipu_utils.errors import UserError
from ipu_utils.graph.freeze import freeze
from ipu_utils.images import list_images, read_image
from ipu_utils.keras2 import tf
from ipu_utils.model import prepare
from ipu_utils.pipeline import Pipeline
from ipu_utils.resize import fit_image

SAME_BOX = 0.9  # IoU above which two boxes of a class count as the same
SAME_PIXELS = 1.0  # and boxes without area when no corner is further away


def as_float(output: np.ndarray) -> np.ndarray:
    """An output in float32; bfloat16 comes as uint16."""
    return (output.astype(np.uint32) << 16).view(np.float32) if output.dtype == np.uint16 else output


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Overlap of one box [4] with others [n, 4]."""
    corners = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inside = np.prod(np.clip(corners[1] - corners[0], 0, None), 1)
    areas = np.prod(others[:, 2:] - others[:, :2], 1) + np.prod(box[2:] - box[:2])
    return inside / np.maximum(areas - inside, 1e-9)


def found_again(ours: ImageDetections, reference: ImageDetections) -> int:
    """Detections of the reference that also we have: same class, almost the same box."""
    count = 0
    for box, number in zip(reference.boxes, reference.classes):
        same = ours.boxes[ours.classes == number]
        count += bool(len(same) and np.any((iou(box, same) > SAME_BOX) | (np.abs(same - box).max(1) < SAME_PIXELS)))
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-name", default="efficientdet-d0")
    parser.add_argument("--model-dir", help="trained weights instead of random ones")
    parser.add_argument("--images", default="tests/data/images", help="folder of images (default: tests/data/images)")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    options = parser.parse_args()

    weights = ["--model-dir", options.model_dir] if options.model_dir else ["--random-weights"]
    arguments = ["--config", "efficientdet-low-latency", "--model-name", options.model_name, *weights]
    config = load_config(arguments, "embedded", choose_device=lambda name: "cpu")
    hparams = plan.hparams_of(config)
    device = get_device("cpu")
    model = prepare(config, hparams, device)
    heads = Pipeline(model.network, hparams, NmsConfig(onchip_nms=False), "float32", device).heads
    paths = list_images(options.images)
    fitted = [fit_image(read_image(path), tuple(hparams.image_size)) for path in paths]
    reference = [[output.numpy() for level in heads(image[None]) for output in level] for image, _ in fitted]
    print(f"{options.model_name}, weights {model.weights}, {len(paths)} images of {options.images}")
    print(f"{'precision':16} {'rms':>9} {'largest':>9}   detections of TensorFlow found again")
    for precision in options.precisions:
        chosen = dataclasses.replace(config.model, model_precision=Precision(precision))
        header = wanted(dataclasses.replace(config, model=chosen))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.effdet")
            write_executable(path, header, compile_network(heads, header))
            worker = EmbeddedModel.load(path).worker()
            plain = compile_plain(heads, header, Path(folder, "plain.pb"))
        detector = make_detector(header)
        for name, run in ((precision, functools.partial(run_ours, worker)), (f"{precision} plain", plain)):
            report(name, [run(image) for image, _ in fitted], reference, fitted, detector)


def run_ours(worker: Worker, image: np.ndarray) -> List[np.ndarray]:
    """All outputs of an executable for one image."""
    worker.load(image, 1.0)
    worker.run()
    return [as_float(output).copy() for output in worker.class_outputs + worker.box_outputs]


def compile_plain(heads: Callable, header: Header, path: Path) -> Callable[[np.ndarray], List[np.ndarray]]:
    """The frozen network, untouched, in OpenVINO at the same precision."""
    openvino = import_openvino()
    signature = [tf.TensorSpec((1, *header.image_size, 3), tf.uint8)]
    frozen = freeze(lambda images: [output for level in heads(images) for output in level], signature)
    path.write_bytes(frozen.graph_def.SerializeToString())
    model = openvino.Core().read_model(path)
    compiled = openvino.Core().compile_model(model, "CPU", properties(header.precision, None))

    def run(image: np.ndarray) -> List[np.ndarray]:
        found = compiled([image[None]])
        return [found[name] for name in frozen.outputs]

    return run


def report(name: str, outputs: List, reference: List, fitted: List, detector: Detector) -> None:
    """Print one row."""

    def detections(heads: List[np.ndarray], scale: float) -> ImageDetections:
        levels = len(heads) // 2
        return first_image(detector.run(heads[:levels], heads[levels:], np.array([scale], np.float32)))

    rms, largest, again, total = [], [], 0, 0
    for ours, theirs, (_, scale) in zip(outputs, reference, fitted):
        for output, wanted_output in zip(ours, theirs):
            error = (output - wanted_output) / wanted_output.std()
            rms.append(np.sqrt(np.mean(error**2)))
            largest.append(np.abs(error).max())
        exact = detections(theirs, scale)
        again += found_again(detections(ours, scale), exact)
        total += len(exact.boxes)
    print(f"{name:16} {np.max(rms):9.2e} {np.max(largest):9.2e}   {again} of {total}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
