# SPDX-License-Identifier: Apache-2.0
"""What lower precisions do to a model's numbers, against float: head outputs, detections, and accuracy on your images.

    python -m ipu_utils.compare_precision --model-name efficientdet-d0 --image-path photographs

Every engine that is installed runs in every precision that it has. Deviations are in standard deviations of the float
output, of the worst output and image. Detections are found again when class and box are the same, at three IoU. With
--coco-annotations COCO's twelve numbers follow, and how far they are from those of float. int8 is calibrated on
--calibration-images, else on the images themselves, which flatters it.
"""

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import argparse
import re
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from ipu_utils.base.console import progress_bar, run_script, show_notes
    from ipu_utils.base.errors import ConfigError, UserError
    from ipu_utils.base.image_folder import list_folder
    from ipu_utils.base.printable import report_line
    from ipu_utils.config.command_line import Parser, count
    from ipu_utils.config.run_config import RunConfig, load_config
    from ipu_utils.config.run_hparams import follow_hparams, hparams_of_run
    from ipu_utils.config.sections import all_rules
    from ipu_utils.data.sources import ImageFiles
    from ipu_utils.executable.engines import ENGINES
    from ipu_utils.outputs import coco_eval
    from ipu_utils.outputs.agreement import Agreement
    from ipu_utils.outputs.coco import Annotations, CocoWriter
    from ipu_utils.outputs.coco_classes import classes_of

WORDS = ("float", "bfloat16", "half", "int8")
REFERENCE = "tensorflow float"
PROGRAM = "python -m ipu_utils.compare_precision"


class Row(NamedTuple):
    """What one engine does in one precision."""

    run: Callable  # see `ipu_utils.backends.heads.Run`
    weights: str  # for the report
    agreement: Agreement
    results: Optional[CocoWriter]  # its detections, where there are annotations


def compare(rows: Dict[str, Row], source: ImageFiles, on_image: Callable = lambda: None) -> None:
    """Run everything on one image after the other, so that outputs of a single image are in memory."""
    for image_id in range(source.count):
        fitted = source.try_fitted(image_id)
        if fitted is not None:
            reference = rows[REFERENCE].run(fitted)
            for name, row in rows.items():
                found = reference if name == REFERENCE else row.run(fitted)
                row.agreement.add_heads(reference.outputs, found.outputs)
                row.agreement.add_detections(reference.detections.of_image(0), found.detections.of_image(0))
                if row.results is not None:
                    row.results.write([image_id], found.detections[:4])
        on_image()


def parse(argv: Optional[Sequence[str]]) -> Tuple[argparse.Namespace, List[str]]:
    """Return this program's options, and those that it hands to the embedded script's parser."""
    parser = Parser(
        prog=PROGRAM, description=__doc__, allow_abbrev=False,
        epilog="Options of ipu_embedded_inference.py about the model are taken too: --model-name, --model-dir, "
        "--no-ema, --random-weights, --hparams, --image-size, --calibration-images, --nms-mode, --score-preset, "
        "--seed.",
    )  # fmt: skip
    parser.add_argument("--image-path", required=True, metavar="PATH",
                        help="an image, a folder of images, or a quoted pattern such as 'photos/*.jpg'")  # fmt: skip
    parser.add_argument("--coco-annotations", type=Path, metavar="FILE", help="compare with these, too (default: none)")
    parser.add_argument("--max-images", type=count, default=16, metavar="N", help="the first N of them (default: 16)")
    lists = {"precisions": ("model_precision", WORDS), "engines": ("engine", tuple(ENGINES))}
    for name, (_, known) in lists.items():
        parser.add_argument(f"--{name}", nargs="+", default=["all"], metavar="WORD",
                            help=f"some of {', '.join(known)}, or all (default: all)")  # fmt: skip
    options, rest = parser.parse_known_args(argv)
    for word in rest:
        if word.split("=")[0] in ("--engine", "--model-precision", "--precision"):
            ours = "--engines" if word.startswith("--engine") else "--precisions"
            parser.error(f"{word.split('=')[0]} is chosen here by {ours}, which takes several.")
    for name, (option, known) in lists.items():
        try:
            setattr(options, name, words_of(f"--{name}", getattr(options, name), option, known))
        except UserError as error:
            parser.error(str(error))
    return options, rest


def words_of(flag: str, typed: Sequence[str], option: str, known: Sequence[str]) -> List[str]:
    """Words of a list with spaces or commas between them, each as the scripts' option spells it.

    Raises:
      ConfigError: one of them is not known.
    """
    rule, found = all_rules()[option], []
    for part in re.split(r"[,\s]+", ",".join(typed).strip(" ,")):
        if part.lower() == "all":
            found += known
            continue
        hint = ""
        try:
            found.append(rule.kind.text_of(rule.check(option, part)))
        except ConfigError as error:
            found.append("")
            hint = str(error).partition(f"; got {part!r}.")[2]
        if found[-1] not in known:
            raise ConfigError(f"{flag} takes some of {', '.join(known)}, or all; got {part!r}.{hint}")
    return list(dict.fromkeys(found))


def open_images(path: Path, most: int, hparams: Any) -> ImageFiles:
    """The first images of a folder or pattern, or the image of a file, for the model's input."""
    paths, root = [path], path.parent
    if not path.is_file():
        paths, _, root = list_folder(path)
    return ImageFiles(paths[:most], root, hparams.image_size, skip_bad=True, mean_rgb=hparams.mean_rgb)


def configure(typed: Sequence[str], engine: str, word: str) -> RunConfig:
    """The run of an engine in a precision; what hparams say is followed, without its notes."""
    more = ["--engine", engine, "--model-precision", word]
    return follow_hparams(load_config([*typed, *more], "embedded", lambda requested: "cpu", program=PROGRAM))


def open_rows(options: argparse.Namespace, typed: Sequence[str], folder: Path, results: Callable) -> Dict[str, Row]:
    """Compile and load everything that can be, the reference first; a note says why the rest is left out."""
    from ipu_utils.backends import heads  # what it imports is not waited for by a mistyped option

    asked = [f"{engine} {word}" for engine in options.engines for word in options.precisions]
    rows: Dict[str, Row] = {}
    for name in dict.fromkeys([REFERENCE, *asked]):
        try:
            run, weights = heads.opened(configure(typed, *name.split()), folder)
        except UserError as error:
            if name == REFERENCE:
                raise
            show_notes([f"{name} is left out: {error}"])
        else:
            rows[name] = Row(run, weights, Agreement(), results())
    if len(rows) < 2:
        raise UserError("nothing to compare with float: the notes above say why.")
    return rows


def accuracy_lines(rows: Dict[str, Row]) -> List[str]:
    """COCO's numbers of each row, and below them how far they are from those of the reference."""
    names = [name for name, *_ in coco_eval.METRICS]
    lines = [f"{'':20} " + " ".join(f"{name:>7}" for name in names)]
    reference = rows[REFERENCE].results.accuracy().values
    for name, row in rows.items():
        values = row.results.accuracy().values
        lines.append(f"{name:20} " + " ".join("   none" if value < 0 else f"{value:7.4f}" for value in values))
        if name != REFERENCE:
            lines.append(f"{'':20} " + " ".join(f"{ours - theirs:+7.4f}" for ours, theirs in zip(values, reference)))
    return lines


def main(argv: Optional[Sequence[str]] = None) -> None:
    options, rest = parse(argv)
    typed = [*rest, "--image-path", options.image_path, "--micro-batch-size", "1"]
    config = load_config([*typed, "--engine", "tensorflow"], "embedded", lambda requested: "cpu", program=PROGRAM)
    followed = follow_hparams(config)
    show_notes(followed.notes[len(config.notes) :])
    hparams = hparams_of_run(followed)
    source = open_images(Path(options.image_path), options.max_images, hparams)
    annotations = None
    if options.coco_annotations is not None:
        coco_eval.require()
        annotations = Annotations(options.coco_annotations)

    def results() -> Optional[CocoWriter]:
        return None if annotations is None else CocoWriter(source, None, annotations, classes_of(hparams))

    with tempfile.TemporaryDirectory(prefix="efficientdet-") as folder:
        rows = open_rows(options, typed, Path(folder), results)
        with progress_bar(source.count, "images") as bar:
            compare(rows, source, bar.update)
    print(report_line("weights", rows[REFERENCE].weights))
    threshold = hparams.nms_configs.score_thresh
    print(report_line("images", f"{source.readable} of {options.image_path}; detections above {threshold}"))
    print(f"reference: float in TensorFlow\n{Agreement.HEADER}")
    for name, row in rows.items():
        if name != REFERENCE:
            print(row.agreement.row(name))
    if annotations is not None:
        print("\n".join(accuracy_lines(rows)))


if __name__ == "__main__":
    program.run(lambda: run_script(main))
