# SPDX-License-Identifier: Apache-2.0
"""What an executable was made from and for, as short texts that can be compared. No TensorFlow.

Weights are known by their content, the network's code by its sources: neither a retrained checkpoint of the same name
nor an update of this project can be mistaken for what was compiled.
"""

import hashlib
import json
import os
import platform
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Tuple

from ipu_utils.base import hardware, instruction_sets, machine
from ipu_utils.executable import sources
from ipu_utils.model.checkpoint_files import checkpoint_files

# What takes part in making a network, by the name that it is installed under. Of TensorFlow there are several.
TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tensorflow-gpu", "tensorflow-macos")
KERASES = ("tf-keras", "keras")  # the first of them is the one that `ipu_utils.base.keras2` takes
_PART = re.compile(r"\.(index|meta|data-\d+-of-\d+|tar\.gz|[^.]+)$")


def cpu_features() -> Tuple[str, ...]:
    """Architecture of this machine, then the instruction sets that engines may use in this process, sorted."""
    return (platform.machine(), *sorted(instruction_sets.effective(hardware.cpu_flags())))


def digest(value: Any) -> str:
    """SHA-256 of a value made of JSON types; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def of_files(files: Iterable[Path], name_of: Callable[[Path], str] = lambda path: path.name) -> str:
    """SHA-256 of names, or what counts of them, and contents."""
    found = hashlib.sha256()
    for path in sorted(files, key=name_of):
        content = hashlib.sha256()
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                content.update(piece)
        found.update(os.fsencode(name_of(path)) + f" {content.hexdigest()}\n".encode())
    return found.hexdigest()


def of_weights(path: Path, use_random: bool, recipe: Dict[str, Any]) -> str:
    """Identify the weights.

    Args:
      path: where the checkpoint is looked for.
      use_random: ignore the checkpoint.
      recipe: what random weights depend on, and which of a checkpoint's weights are taken.
    """
    files = [] if use_random else checkpoint_files(path)
    parts = [file for file in files if file.name != "checkpoint"]
    if len({(file.parent, _PART.sub("", file.name)) for file in parts}) == 1:  # one checkpoint, whatever it is called
        return digest({"files": of_files(parts, _part_of), **recipe})
    return digest({"files": of_files(files) if files else "random", **recipe})


def _part_of(path: Path) -> str:
    """What follows the name of a checkpoint: ".index", ".data-00000-of-00001", ".h5"."""
    found = _PART.search(path.name)
    return "" if found is None else found.group()


def of_hparams(hparams: Any) -> str:
    """Identify a model configuration, without the names of its classes: a header holds those, and they decide nothing.

    Args:
      hparams: an `hparams_config.Config`.
    """
    return digest({key: value for key, value in hparams.as_dict().items() if key != "label_map"})


def of_sources(builder: str) -> str:
    """Identify the code that a network is made by.

    Args:
      builder: the module that makes it; everything of the project that it imports counts.
    """
    return sources.of_modules([builder])


def versions() -> Dict[str, str]:
    """Version of each package that takes part in making a network, without importing any; what is missing is left out.

    Empty where there is no TensorFlow: nothing is made here, and a file that was kept may come from another NumPy.
    `engine` of a header says what else there is: OpenVINO, Poplar.
    """
    found = {}
    for name, packages in (("numpy", ("numpy",)), ("tensorflow", TENSORFLOWS), ("keras", KERASES)):
        version = next(filter(None, map(machine.package_version, packages)), None)
        if version is not None:
            found[name] = version
    return found if "tensorflow" in found else {}
