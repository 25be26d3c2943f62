# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in the published forms, written from the formulas, for tests that load one."""

import tarfile
from pathlib import Path
from typing import Dict, Iterable, Optional, Tuple

import numpy as np
import reference_formulas

from ipu_utils.keras2 import tf


def formula_weights(variables: Iterable[Tuple[str, Iterable[int]]]) -> Dict[str, np.ndarray]:
    """Return the formulas' value of every variable, given as (name without ":0", shape)."""
    return {name: reference_formulas.weight(name, tuple(shape)) for name, shape in variables}


def weights_of(model) -> Dict[str, np.ndarray]:
    """Return the formulas' values of a model's variables by published name."""
    return formula_weights((weight.name.split(":")[0], weight.shape) for weight in model.weights)


def write_tf1_checkpoint(
    folder, values: Dict[str, np.ndarray], averages: Optional[Dict[str, np.ndarray]] = None
) -> Path:
    """Write a TensorFlow 1 checkpoint as published and return its prefix, <folder>/model.

    Args:
      folder: is made where it is missing; gets `checkpoint`, `model.index` and `model.data-00000-of-00001`.
      values: the raw variables by name.
      averages: values of the copies under <name>/ExponentialMovingAverage; None leaves these out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {**values, **{f"{name}/ExponentialMovingAverage": value for name, value in (averages or {}).items()}}
    tensors["global_step"] = np.int64(1)
    names = sorted(tensors)
    prefix = folder / "model"
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(tensors[name]) for name in names],
    )
    (folder / "checkpoint").write_text('model_checkpoint_path: "model"\nall_model_checkpoint_paths: "model"\n')
    return prefix


def pack(archive, folder, arcname) -> Path:
    """Write a .tar.gz of a folder under the name that it has inside, and return its path."""
    with tarfile.open(str(archive), "w:gz") as opened:
        opened.add(str(folder), arcname=arcname)
    return Path(archive)
