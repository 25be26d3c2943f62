# SPDX-License-Identifier: Apache-2.0
"""Which files belong to a checkpoint, told by their names. No TensorFlow."""

import re
from pathlib import Path
from typing import List

# Everything that may belong to a checkpoint in one of the forms that ipu_utils.model.checkpoint reads.
CHECKPOINT_FILES = ("*.index", "*.data-*", "*.h5", "*.hdf5", "*.keras", "*.tar.gz", "*.tgz")
SAVED_MODEL_FILES = ("*/variables/variables.index", "*/variables/variables.data-*")  # in the folder that is named


def checkpoint_files(path: Path) -> List[Path]:
    """The files that a checkpoint may consist of, for a folder, a prefix or one of the files; empty when there is none.

    May name more than are read, which costs a needless compilation when one of those changes.
    """
    if path.name in ("saved_model.pb", "saved_model.pbtxt"):
        path = path.parent / "variables"
    if path.is_dir():
        patterns = [*CHECKPOINT_FILES, *(f"*/{pattern}" for pattern in CHECKPOINT_FILES), *SAVED_MODEL_FILES]
        found = {file for pattern in patterns for file in path.glob(pattern)}
        if found:
            found.update(path.glob("checkpoint"), path.glob("*/checkpoint"))  # says which of several is meant
    else:
        prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path.name)
        found = {path, *path.parent.glob(prefix + ".index"), *path.parent.glob(prefix + ".data-*")}
    return sorted(file for file in found if file.is_file())


def checkpoint_name(path: Path) -> Path:
    """The prefix or file of the one checkpoint that a path leads to; the path itself where there are several."""
    if not path.is_dir():
        return path
    files = [file for file in checkpoint_files(path) if file.name != "checkpoint" and ".data-" not in file.name]
    return path if len(files) != 1 else files[0].with_name(re.sub(r"\.index$", "", files[0].name))
