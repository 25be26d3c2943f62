# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in the published forms, written from the formulas, for tests that load one."""

import tarfile
from pathlib import Path
from typing import Dict, Iterable, Optional, Tuple

import numpy as np
import reference_formulas

from ipu_utils.base.keras2 import tf


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


def live_values(golden, variables: Iterable[Tuple[str, Iterable[int]]]) -> Dict[str, np.ndarray]:
    """Return the value of every variable of a `live-*.npz` golden file, by published name in the given order."""
    statistics = reference_formulas.live_statistics(golden)
    return {
        name: np.asarray(reference_formulas.live_weight(name, tuple(shape), statistics), np.float32)
        for name, shape in variables
    }


def write_saved_model(folder, variables, *, trainable=(), head=(), whole=False) -> Path:
    """Write what AutoML's `inspector --mode=export` leaves of its variables, with TensorFlow alone.

    Args:
      folder: is made.
      variables: (name or None, value) in the order of the model's weights: `model/variables/<number>`.
      trainable: the places of those that are listed a second time as trainable, and are kept there, as by Keras 2.6.
      head: (name, value) of the backbone's classifier, which has no place in the list.
      whole: export by `tf.saved_model.save`, which is slow, instead of writing the variables alone.
    """
    made = [tf.Variable(value, name=name) for name, value in variables]
    first = [made[place] for place in trainable]
    model = tf.train.Checkpoint()
    if first:
        model.trainable_variables = first
    model.variables = made
    model.backbone = tf.train.Checkpoint(_head=tf.train.Checkpoint())
    for name, value in head:
        setattr(model.backbone._head, name.split("/")[-1], tf.Variable(value, name=name))
    root = tf.train.Checkpoint(model=model)
    if whole:
        tf.saved_model.save(root, str(folder))
    else:
        (Path(folder) / "variables").mkdir(parents=True)
        root.write(str(Path(folder) / "variables" / "variables"))
        (Path(folder) / "saved_model.pb").write_bytes(b"")
    return Path(folder)


HUB_LAYERS = (("class_net/class-predict/", "classes"), ("box_net/box-predict/", "boxes"))


def write_hub_checkpoint(folder, values: Dict[str, np.ndarray]) -> Path:
    """Write what AutoML's trainer saves of a network on a hub module, with TensorFlow alone, and return its prefix."""
    parts = {"base_model": tf.train.Checkpoint(), "classes": tf.train.Checkpoint(), "boxes": tf.train.Checkpoint()}
    for name, value in values.items():
        for start, part in HUB_LAYERS:
            if name.startswith(start):
                setattr(parts[part], name[len(start) :], tf.Variable(value))
                break
        else:
            setattr(parts["base_model"], f"{name}:0", tf.Variable(value))
    return Path(tf.train.Checkpoint(**parts).write(str(Path(folder) / "emackpt-1")))


def write_h5(path, values: Dict[str, np.ndarray]) -> Path:
    """Write an .h5 file as Keras' `save_weights` lays it out: layers, and below them variables by their full names."""
    import h5py

    layers: Dict[str, Dict[str, np.ndarray]] = {}
    for name, value in values.items():
        layers.setdefault(name.split("/")[0], {})[f"{name}:0"] = value
    with h5py.File(str(path), "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, members in layers.items():
            group = file.create_group(layer)
            names = [name.encode() for name in members]
            # HDF5 holds 64 KiB an attribute: longer lists are cut.
            if sum(map(len, names)) < 60000:
                group.attrs["weight_names"] = names
            else:
                half = len(names) // 2
                group.attrs["weight_names0"], group.attrs["weight_names1"] = names[:half], names[half:]
            for name, value in members.items():
                group[name] = value
    return Path(path)
