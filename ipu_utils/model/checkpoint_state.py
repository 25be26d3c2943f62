# SPDX-License-Identifier: Apache-2.0
"""Where TensorFlow finds a checkpoint: the file `checkpoint`, which names the newest of a folder, and plain paths."""

import contextlib
from pathlib import Path
from typing import Iterator, Optional

from ipu_utils.base.keras2 import tf
from ipu_utils.base.signals import temporary_folder

MAX_FILE_BYTES = 1 << 20  # it names every checkpoint that is kept, with its path
MAX_NAME = 200  # characters; leaves room for the ends that files of a checkpoint have


def newest_in(folder: Path) -> Optional[Path]:
    """Return the prefix of the checkpoint that a folder's file names, None where it names none that is there.

    The file holds a full path when TensorFlow wrote it, which in a moved or copied folder leads to nothing or to other
    weights: the last part of it is what counts.
    """
    path = folder / "checkpoint"
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            return None
        with named_plainly(folder) as plain:
            state = tf.train.get_checkpoint_state(str(plain))
    except (OSError, ValueError, RuntimeError, tf.errors.OpError):  # It is no such file: bytes that are no text, say.
        return None
    name = "" if state is None else state.model_checkpoint_path.rstrip("/").rpartition("/")[2]
    if name in ("", ".", "..") or "\0" in name or len(name) > MAX_NAME:
        return None
    return folder / name if (folder / f"{name}.index").is_file() else None


@contextlib.contextmanager
def named_plainly(path: Path) -> Iterator[Path]:
    """A checkpoint's folder or prefix by a path that TensorFlow takes: it wants UTF-8, and logs names as they are."""
    if str(path.absolute()).isprintable():
        yield path
        return
    with temporary_folder("efficientdet-weights-") as folder:
        plain = Path(folder, "model")
        if path.is_dir():
            plain.symlink_to(path.absolute(), target_is_directory=True)
        else:
            for file in path.parent.iterdir():
                rest = file.name[len(path.name) :]
                if file.name.startswith(f"{path.name}.") and rest.isprintable():
                    plain.with_name(plain.name + rest).symlink_to(file.absolute())
        yield plain
