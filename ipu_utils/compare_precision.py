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
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    import numpy as np

    from ipu_utils.base.console import progress_bar, run_script, show_notes
    from ipu_utils.base.errors import UserError
    from ipu_utils.base.image_folder import list_folder
    from ipu_utils.base.printable import report_line
    from ipu_utils.config.command_line import Parser
    from ipu_utils.config.model_options import PRECISION_WORDS
    from ipu_utils.config.run_config import load_config
    from ipu_utils.config.run_hparams import follow_hparams, hparams_of
    from ipu_utils.data.sources import ImageFiles
    from ipu_utils.outputs.agreement import Agreement

WORDS = ("float", "half", "bfloat16")
ENGINES = ("tensorflow", "openvino")

Heads = Callable[[np.ndarray], List[np.ndarray]]  # as those of `ipu_utils.backends.heads`


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
    parser.add_argument("--image-path", type=Path, required=True, metavar="PATH",
                        help="an image, a folder of images, or a quoted pattern such as 'photos/*.jpg'")  # fmt: skip
    parser.add_argument("--max-images", type=int, default=16, metavar="N", help="the first N of them (default: 16)")
    parser.add_argument("--precisions", nargs="+", choices=WORDS, default=["half", "bfloat16"],
                        help="what to compare with float in TensorFlow (default: half bfloat16)")  # fmt: skip
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="default: both")
    return parser.parse_known_args(argv)


def open_images(path: Path, most: int, hparams: Any) -> ImageFiles:
    """The first images of a folder or pattern, or the image of a file, for the model's input."""
    paths, root = [path], path.parent
    if not path.is_file():
        paths, _, root = list_folder(path)
    return ImageFiles(paths[: max(1, most)], root, hparams.image_size, skip_bad=True, mean_rgb=hparams.mean_rgb)


def main(argv: Optional[Sequence[str]] = None) -> None:
    options, rest = parse(argv)
    source_options = ["--dataset-type", "single-image" if options.image_path.is_file() else "image-directory",
                      "--image-path", str(options.image_path), "--micro-batch-size", "1"]  # fmt: skip
    config = load_config([*rest, *source_options], choose_device=lambda requested: "cpu")
    followed = follow_hparams(config)
    show_notes(followed.notes[len(config.notes) :])
    config = followed
    hparams = hparams_of(config.model, config.data.image_size, config.nms.preset)
    source = open_images(options.image_path, options.max_images, hparams)
    from ipu_utils.backends import heads  # TensorFlow, for which a mistyped option need not wait

    model = heads.build(config)
    others: Dict[str, Heads] = {}
    for engine in options.engines:
        for word in options.precisions:
            try:
                if engine == "tensorflow":
                    others[f"{engine} {word}"] = heads.in_tensorflow(model, PRECISION_WORDS[word].value)
                else:
                    typed = [*rest, *source_options, "--model-precision", word]
                    executable = follow_hparams(load_config(typed, "embedded", lambda requested: "cpu"))
                    others[f"{engine} {word}"] = heads.in_openvino(model, executable)
            except UserError as error:
                show_notes([f"{engine} {word} is left out: {error}"])
    if not others:
        raise UserError("nothing to compare with float: the notes above say why.")
    with progress_bar(source.count, "images") as bar:
        found = compare(
            heads.in_tensorflow(model, "float32"),
            others,
            heads.detector_of(model, config.nms.nms_mode.value),
            source,
            bar.update,
        )
    threshold = hparams.nms_configs.score_thresh
    print(report_line("weights", model.weights))
    print(report_line("images", f"{source.readable} of {options.image_path}; detections above {threshold}"))
    print(f"reference: float in TensorFlow\n{Agreement.HEADER}")
    for name, agreement in found.items():
        print(agreement.row(name))


if __name__ == "__main__":
    program.run(lambda: run_script(main))
