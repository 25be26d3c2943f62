# SPDX-License-Identifier: Apache-2.0
"""Write a model's network as a file that other tools open: what an engine runs here, for their own programs.

    python -m ipu_utils.export --model-name efficientdet-d0 --to efficientdet-d0.onnx

The end of the name says the format: .tflite, .onnx, .xml (OpenVINO, with .bin beside it), .pb (a frozen TensorFlow
graph), or a folder, which ends in / or has no suffix (a SavedModel). A uint8 image goes in, the outputs of the heads
come out. NAME.json beside it says what else a program needs: anchors, thresholds, labels, where the weights come from.
"""

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from ipu_utils.base.console import run_script, show_notes
    from ipu_utils.base.errors import ConfigError, UserError
    from ipu_utils.base.files import check_writable, write_atomically
    from ipu_utils.base.printable import report_line
    from ipu_utils.base.signals import temporary_folder
    from ipu_utils.config.command_line import Parser
    from ipu_utils.config.facets import NOT_COMPILED
    from ipu_utils.config.model_options import Precision
    from ipu_utils.config.options import ADDRESS, flag_of
    from ipu_utils.config.run_config import RunConfig, load_config
    from ipu_utils.config.run_hparams import check_wishes, follow_hparams
    from ipu_utils.config.sections import all_rules
    from ipu_utils.executable import cache
    from ipu_utils.executable.calibration import calibration_of
    from ipu_utils.executable.formats import FOLDER, FORMATS, describe, suffix_of
    from ipu_utils.model.checkpoint_files import checkpoint_files
    from ipu_utils.outputs.claims import Claim, check_apart, read_by

OPTION, PROGRAM = "--to", "python -m ipu_utils.export"


def parse(argv: Optional[Sequence[str]]) -> Tuple[str, List[str]]:
    """Return where to write, and the options that are handed to the scripts' parser."""
    parser = Parser(
        prog=PROGRAM, description=__doc__, allow_abbrev=False,
        epilog="Options of ipu_embedded_inference.py about the model are taken too: --model-name, --model-dir, "
        "--no-ema, --random-weights, --hparams, --image-size, --micro-batch-size, --io-precision, --nms-mode, "
        "--score-preset, --seed; and --model-precision, float or (.tflite and .xml) half, of the weights in the "
        "file, or int8 with --calibration-images.",
    )  # fmt: skip
    parser.add_argument(OPTION, required=True, metavar="FILE", help="the file or folder to write")
    options, rest = parser.parse_known_args(argv)
    if ADDRESS.match(options.to):
        parser.error(f"{OPTION} {options.to} is an address, and only files of this machine are written.")
    return options.to, rest


def precision_of(config: RunConfig, to: str) -> Precision:
    """The precision of the weights that are to be written.

    Raises:
      ConfigError: the format does not hold it here.
    """
    chosen, found = config.model.model_precision, FORMATS[suffix_of(to)]
    if chosen is None:
        return found.precisions[0]
    if chosen not in found.precisions:
        known = " or ".join(precision.word for precision in found.precisions)
        raise ConfigError(f"{OPTION} {to}: {found.title} is written in {known}, not in {chosen.word}.")
    return chosen


def places(to: str) -> List[Path]:
    """The files that are written, the last of them what describes the rest; the first one may be a folder."""
    path, suffix = Path(to), suffix_of(to)
    weights = [path.with_suffix(".bin")] if suffix == ".xml" else []
    return [*weights, path, path.with_name(path.name + ".json")]


def check_places(to: str, config: RunConfig) -> None:
    """Find out whether everything can be written, before time is spent on it.

    Raises:
      UserError: it cannot, or would destroy something that is read, or a folder is there and is not empty.
    """
    found = places(to)
    check_apart([Claim(path, OPTION) for path in found], read_by(config))
    if suffix_of(to) == FOLDER:
        folder = found.pop(0)
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ConfigError(f"{OPTION} {to} is there already: move it away, or name another folder.")
    for path in found:
        check_writable(path, OPTION)


def put(made: Path, place: Path) -> None:
    """Bring a file or folder to its place, where it appears complete or not at all."""
    if not made.is_dir():
        with open(made, "rb") as file:
            write_atomically(place, iter(lambda: file.read(1 << 20), b""), OPTION)
        return
    with tempfile.TemporaryDirectory(dir=str(place.parent), prefix=".") as room:
        copy = shutil.copytree(str(made), os.path.join(room, "copy"))
        os.rename(copy, os.path.realpath(str(place)))  # of a link that leads nowhere yet, where it leads


def main(argv: Optional[Sequence[str]] = None) -> None:
    to, rest = parse(argv)
    suffix = suffix_of(to)
    config = follow_hparams(load_config(rest, "embedded", lambda requested: "cpu", program=PROGRAM))
    idle = [name for name, rule in all_rules().items() if name in config.typed and rule.facets.compiled == NOT_COMPILED]
    show_notes([*config.notes, *(f"{flag_of(name)} has no effect on what is written." for name in idle)])
    precision = precision_of(config, to)
    FORMATS[suffix].check()
    if not config.model.random_weights and not checkpoint_files(config.model.weights_path):
        check_wishes(config, f"{OPTION} {to}")
    check_places(to, config)
    from ipu_utils.executable import write_formats  # TensorFlow, for which a mistyped option need not wait

    is_quantised = precision is Precision.INT8
    outputs = "int8" if is_quantised and suffix == ".tflite" else "float32"
    header = cache.plan(config, precision.value, outputs, FORMATS[suffix].title, ())
    header, heads = write_formats.build_heads(config, header)
    calibration = calibration_of(config, cache.hparams_of(config), header.random_weights) if is_quantised else None
    *named, beside = places(to)
    try:
        with temporary_folder("efficientdet-") as folder:
            made = write_formats.write_format(suffix, heads, header, folder, calibration)
            for source, place in zip(made, named):
                put(source, place)
    except OSError as error:
        raise UserError(
            f"{OPTION} {to} cannot be written ({error.strerror or error}): free space there, and in "
            f"{tempfile.gettempdir()}, which TMPDIR names."
        ) from error
    text = json.dumps(describe(header, cache.hparams_of(config), suffix), indent=1)
    write_atomically(beside, ((text + "\n").encode(),), OPTION)
    print(report_line("weights", header.weights))
    print(report_line("format", f"{FORMATS[suffix].title}, {precision.word}"))
    print(report_line("written", ", ".join(map(str, (*named, beside)))))


if __name__ == "__main__":
    program.run(lambda: run_script(main))
