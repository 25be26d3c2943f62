# SPDX-License-Identifier: Apache-2.0
"""Which files a run reads and which it writes, compared as files before anything is measured. No TensorFlow.

Two paths are one file when they lead to the same place: links are resolved, hard links and open descriptors are known
by device and inode, and what does not exist yet by the path that it will have. An output that is an input, or another
output, is refused: it would be destroyed.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from hparams_config import overrides_file
from ipu_utils.base.errors import ConfigError
from ipu_utils.base.image_folder import DETECTIONS_FILE
from ipu_utils.base.paths import status_of, target_of
from ipu_utils.config.options import flag_of, rules_of
from ipu_utils.config.preset_files import preset_path
from ipu_utils.config.run_config import OutputConfig, RunConfig, app_json_path
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.data.sources import ImageSource
from ipu_utils.model.checkpoint_files import checkpoint_files

STANDARD_OUTPUT = Path("-")
STREAMS = ((1, "standard output"), (2, "standard error"))

Identity = Tuple[Any, ...]


class Claim(NamedTuple):
    """A file and what it is for."""

    path: Path
    role: str  # the option that names it, or what it is


def identity(path: Path) -> Optional[Identity]:
    """What tells a file from all others; None for what several may share: devices, and folders, which are no files."""
    try:
        target = target_of(path)
        status = status_of(target)
    except OSError:
        return None  # whoever opens it says so
    if status is None:
        return "path", str(target)
    shared = stat.S_ISCHR(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return None if shared else (status.st_dev, status.st_ino)


def _identity_of_input(path: Path) -> Optional[Identity]:
    """As `identity`, and quick for a file that is there: a folder may hold a hundred thousand images."""
    try:
        status = os.stat(str(path))
    except OSError:
        return identity(path)
    return status.st_dev, status.st_ino


def check_apart(outputs: Iterable[Claim], inputs: Iterable[Claim] = ()) -> None:
    """Raise ConfigError where an output is an input, another output, or the file that standard output goes to."""
    taken: Dict[Identity, Claim] = {}
    for output in outputs:
        found = identity(output.path)
        if found is None:
            continue
        other = taken.setdefault(found, output)
        if other is not output:
            raise ConfigError(
                f"{_named(other)} and {_named(output)} are one file, and each would overwrite the other: name two."
            )
    for output in taken.values():
        target = target_of(output.path)
        for folder in target.parents if isinstance(target, Path) else ():
            other = taken.get(("path", str(folder)))
            if other is not None:
                raise ConfigError(f"{_named(other)} would be the folder of {_named(output)}, and a file: name another.")
    for number, name in STREAMS:
        output = taken.get(_file_of_stream(number))
        if output is not None and not isinstance(target_of(output.path), int):
            raise ConfigError(
                f"{_named(output)} is the file that {name} goes to, whose text would be lost: choose another file."
            )
    if taken:
        for claim in inputs:
            output = taken.get(_identity_of_input(claim.path))
            if output is not None:
                raise ConfigError(
                    f"{_named(output)} would overwrite {_named(claim)}, which the run reads: choose another place for "
                    f"{output.role}."
                )


def _named(claim: Claim) -> str:
    return f"{claim.role} {claim.path}"


def _file_of_stream(number: int) -> Optional[Identity]:
    with contextlib.suppress(OSError):
        status = os.fstat(number)
        if stat.S_ISREG(status.st_mode):
            return status.st_dev, status.st_ino
    return None


def written_files(output: OutputConfig) -> List[Claim]:
    """The files that options of a run name to be written."""
    files = [name for name, rule in rules_of(output).items() if rule.kind.is_written_file]
    found = [Claim(getattr(output, name), flag_of(name)) for name in files if getattr(output, name) is not None]
    found = [claim for claim in found if claim.path != STANDARD_OUTPUT]
    if output.output_predictions:
        found.append(Claim(output.output_dir / DETECTIONS_FILE, "--output-dir"))
    return found


def written_by(config: RunConfig) -> List[Claim]:
    """The files that a run writes, as far as options name them; an executable's name depends on what it is of."""
    found = written_files(config.output)
    if config.output.profile_dir is not None:
        found.append(Claim(app_json_path(config.output.profile_dir), "--profile-dir"))
    return found


def read_by(config: RunConfig) -> List[Claim]:
    """The files that a run reads, but the images of a folder; UserError where one that names others cannot be used."""
    hparams_file = overrides_file(config.model.hparams)
    label_map = hparams_of(config.model, config.data.image_size, config.nms.score_preset).get("label_map")
    named = [
        (config.output.coco_annotations, "--coco-annotations"),
        (config.embedded and config.embedded.exec_file, "--exec-file"),
        (preset_path(config.config_name), "--config"),
        (hparams_file, "--hparams"),
        (label_map if isinstance(label_map, str) and label_map.endswith((".yaml", ".yml")) else None, "the label map"),
    ]
    if isinstance(config.model.calibration_images, Path):
        named.append((config.model.calibration_images, "--calibration-images"))
    if config.data.dataset_type != "generated":
        named.append((config.data.image_path, "--image-path"))
    if config.device.device == "ipu" and config.embedded is not None and config.embedded.exec_file is not None:
        named.append((f"{config.embedded.exec_file}.json", "--exec-file"))  # Poplar's file is described beside it
    found = [Claim(Path(path).expanduser(), role) for path, role in named if path is not None]
    if not config.model.random_weights:
        with contextlib.suppress(OSError):  # whoever loads them says so
            found += [Claim(path, "the checkpoint's") for path in checkpoint_files(config.model.weights_path)]
    return found


def check_run(config: RunConfig, more: Sequence[Claim] = ()) -> None:
    """As `check_apart`, of the files of a run, without the images of a folder, and `more` that it writes."""
    check_apart([*more, *written_by(config)], read_by(config))


def check_images(output: OutputConfig, source: ImageSource, pictures: Sequence[str] = ()) -> None:
    """Compare what a run writes with the images that it reads; for errors see `check_apart`.

    Args:
      pictures: names of the annotated pictures below --output-dir.
    """
    named = written_files(output)
    images = (Claim(path, "the image") for path in source.files)
    annotations = [Claim(output.coco_annotations, "--coco-annotations")] if output.coco_annotations else []
    check_apart([*named, *_pictures(output.output_dir, pictures, named)], [*annotations, *images])


def _pictures(folder: Path, names: Sequence[str], others: Sequence[Claim]) -> List[Claim]:
    """Those pictures that can meet another file at all: they are there, or have a name that another output has."""
    try:
        there = {*os.listdir(str(folder))}
    except OSError:
        there = set()
    targets = (target_of(claim.path) for claim in others)
    there.update(target.name for target in targets if isinstance(target, Path))
    return [Claim(folder / name, "--output-dir") for name in names if name in there]
