# SPDX-License-Identifier: Apache-2.0
"""What half and bfloat16 do to a model's numbers, against float: head outputs and detections on your own images.

    python -m ipu_utils.compare_precision --model-name efficientdet-d0 --image-path photographs

Deviations are in standard deviations of the float output, of the worst output and image. Detections agree when class
and box (IoU above 0.9) are the same. Both engines of a host are compared where they are there: TensorFlow's graph with
batch norm folded, as the throughput script runs it, and OpenVINO's executables.
"""

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import numpy as np

    from ipu_utils.base.console import progress_bar, run_script, show_notes
    from ipu_utils.base.errors import UserError
    from ipu_utils.base.printable import report_line
    from ipu_utils.config.command_line import Parser
    from ipu_utils.config.model_options import PRECISION_WORDS
    from ipu_utils.config.run_config import NmsConfig, Precision, RunConfig, load_config
    from ipu_utils.config.run_hparams import follow_hparams, hparams_of
    from ipu_utils.data.decode import list_images
    from ipu_utils.data.sources import ImageFiles
    from ipu_utils.outputs.agreement import Agreement, Found

WORDS = ("float", "half", "bfloat16")
ENGINES = ("tensorflow", "openvino")

Heads = Callable[[np.ndarray], List[np.ndarray]]  # uint8 [1, h, w, 3] -> float32 outputs: class levels, box levels


class Model(NamedTuple):
    """The network in float and what goes with it."""

    network: Any
    hparams: Any
    device: Any
    weights: str


def build(config: RunConfig) -> Model:
    """Load the model in float, as the throughput script does."""
    from ipu_utils.backends.contract import get_device
    from ipu_utils.model.network import prepare

    hparams = hparams_of(config.model, config.data.image_size, config.nms.preset)
    device = get_device("cpu", config)
    float_model = dataclasses.replace(config.model, model_precision=Precision.FLOAT)
    prepared = prepare(dataclasses.replace(config, model=float_model), hparams, device)
    return Model(prepared.network, hparams, device, prepared.weights)


def in_tensorflow(model: Model, precision: str) -> Heads:
    """The network in a precision, as the throughput script's graph computes it.

    Raises:
      UserError: this TensorFlow cannot compute in that precision.
    """
    from ipu_utils.backends.tensorflow_pipeline import TensorFlowPipeline
    from ipu_utils.base.keras2 import tf
    from ipu_utils.model.network import build_network

    model.device.check_precision(precision)
    network = build_network(model.hparams, model.device.dtype_policy(precision), model.device.swish)
    network.set_weights(model.network.get_weights())
    heads = TensorFlowPipeline(network, model.hparams, NmsConfig(onchip_nms=False), precision, model.device).heads
    signature = [tf.TensorSpec((1, *model.hparams.image_size, 3), tf.uint8)]
    function = model.device.optimise(lambda images: tuple(out for level in heads(images) for out in level), signature)
    return lambda image: [np.asarray(output).astype(np.float32) for output in function(tf.constant(image))]


def in_openvino(model: Model, config: RunConfig) -> Heads:
    """The network as the executable that a run of the embedded script makes.

    Raises:
      UserError: OpenVINO is missing, or does not compute in the run's precision on this CPU.
    """
    from ipu_utils.backends.openvino_requests import wanted
    from ipu_utils.backends.tensorflow_pipeline import TensorFlowPipeline
    from ipu_utils.executable.file import write_executable
    from ipu_utils.executable.freeze import compile_network
    from ipu_utils.executable.runtime import EmbeddedModel

    header = wanted(config)
    heads = TensorFlowPipeline(model.network, model.hparams, NmsConfig(onchip_nms=False), "float32", model.device).heads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.effdet")
        write_executable(path, header, compile_network(heads, header))
        worker = EmbeddedModel.load(path).worker()

    def run(image: np.ndarray) -> List[np.ndarray]:
        worker.load(image, np.ones(1, np.float32))
        worker.run()
        return [as_float32(output) for output in worker.class_outputs + worker.box_outputs]

    return run


def as_float32(output: np.ndarray) -> np.ndarray:
    """A copy in float32; bfloat16 comes as uint16, its bits."""
    if output.dtype == np.uint16:
        return (output.astype(np.uint32) << 16).view(np.float32)
    return output.astype(np.float32)


def detector_of(model: Model, mode: str) -> Callable[[List[np.ndarray], float], Found]:
    """Post-processing in float32, the same for every precision."""
    from ipu_automl_io import postprocess_predictions
    from ipu_utils.base.keras2 import tf

    levels = model.hparams.max_level - model.hparams.min_level + 1
    function = tf.function(
        lambda heads, scale: postprocess_predictions(model.hparams, heads[:levels], heads[levels:], scale, mode)
    )

    def detect(heads: List[np.ndarray], scale: float) -> Found:
        found = function([tf.constant(output) for output in heads], tf.constant([scale], tf.float32))
        boxes, scores, classes, lengths = (np.asarray(part)[0] for part in found)
        return Found(boxes[:lengths], scores[:lengths], classes[:lengths])

    return detect


def compare(
    reference: Heads, others: Dict[str, Heads], detect: Callable, source: ImageFiles, on_image: Callable = lambda: None
) -> Dict[str, Agreement]:
    """Run everything on one image after the other, so that outputs of a single image are in memory."""
    agreements = {name: Agreement() for name in others}
    for image_id in range(source.count):
        fitted = source.try_fitted(image_id)
        if fitted is not None:
            expected = reference(fitted.image[None])
            detections = detect(expected, fitted.scale_to_original)
            for name, heads in others.items():
                outputs = heads(fitted.image[None])
                agreements[name].add_heads(expected, outputs)
                agreements[name].add_detections(detections, detect(outputs, fitted.scale_to_original))
        on_image()
    return agreements


def parse(argv: Optional[Sequence[str]]) -> Tuple[argparse.Namespace, List[str]]:
    """Return this program's options, and those that it hands to the throughput script's parser."""
    parser = Parser(
        prog="-m ipu_utils.compare_precision", description=__doc__, allow_abbrev=False,
        epilog="Options of ipu_inference.py about the model are taken too: --model-name, --model-dir, --no-ema, "
        "--random-weights, --hparams, --image-size, --nms-mode, --preset, --seed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--image-path", type=Path, required=True, metavar="PATH", help="an image or a folder of images")
    parser.add_argument("--max-images", type=int, default=16, metavar="N", help="the first N of them (default: 16)")
    parser.add_argument("--precisions", nargs="+", choices=WORDS, default=["half", "bfloat16"],
                        help="what to compare with float in TensorFlow (default: half bfloat16)")  # fmt: skip
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="default: both")
    return parser.parse_known_args(argv)


def open_images(path: Path, most: int, hparams: Any) -> ImageFiles:
    """The first images of a folder, or the image of a file, for the model's input."""
    paths, root = (list_images(path), path) if path.is_dir() else ([path], path.parent)
    return ImageFiles(paths[: max(1, most)], root, hparams.image_size, skip_bad=True, mean_rgb=hparams.mean_rgb)


def main(argv: Optional[Sequence[str]] = None) -> None:
    options, rest = parse(argv)
    source_options = ["--dataset-type", "image-directory" if options.image_path.is_dir() else "single-image",
                      "--image-path", str(options.image_path), "--micro-batch-size", "1"]  # fmt: skip
    config = load_config([*rest, *source_options], choose_device=lambda requested: "cpu")
    followed = follow_hparams(config)
    show_notes(followed.notes[len(config.notes) :])
    config = followed
    hparams = hparams_of(config.model, config.data.image_size, config.nms.preset)
    source = open_images(options.image_path, options.max_images, hparams)
    model = build(config)
    others: Dict[str, Heads] = {}
    for engine in options.engines:
        for word in options.precisions:
            try:
                others[f"{engine} {word}"] = _heads(engine, word, model, rest, source_options)
            except UserError as error:
                show_notes([f"{engine} {word} is left out: {error}"])
    if not others:
        raise UserError("nothing to compare with float: the notes above say why.")
    with progress_bar(source.count, "images") as bar:
        found = compare(
            in_tensorflow(model, "float32"), others, detector_of(model, config.nms.nms_mode.value), source, bar.update
        )
    threshold = hparams.nms_configs.score_thresh
    print(report_line("weights", model.weights))
    print(report_line("images", f"{source.readable} of {options.image_path}; detections above {threshold}"))
    print(f"reference: float in TensorFlow\n{Agreement.HEADER}")
    for name, agreement in found.items():
        print(agreement.row(name))


def _heads(engine: str, word: str, model: Model, rest: List[str], source_options: List[str]) -> Heads:
    if engine == "tensorflow":
        return in_tensorflow(model, PRECISION_WORDS[word].value)
    typed = [*rest, *source_options, "--model-precision", word]
    return in_openvino(model, follow_hparams(load_config(typed, "embedded", lambda requested: "cpu")))


if __name__ == "__main__":
    program.run(lambda: run_script(main))
