# SPDX-License-Identifier: Apache-2.0
"""Load a checkpoint into the network completely, or say what does not fit and change nothing.

Three forms are read: TensorFlow 1 checkpoints, keyed by variable names, as published; object-based ones, as written by
`model.save_weights` and `tf.train.Checkpoint`; and Keras `.h5` files.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from ipu_utils import weights_text
from ipu_utils.archives import ARCHIVES, unpack
from ipu_utils.checkpoint_state import newest_in
from ipu_utils.errors import UserError
from ipu_utils.fetch_weights import fetch_command
from ipu_utils.hdf5 import open_hdf5
from ipu_utils.interruption import temporary_folder
from ipu_utils.keras2 import tf
from ipu_utils.weights_guess import AVERAGE, VALUE, Misfit, guess

# Ends of the names that belong to a network; anything else in a checkpoint is an optimiser's or a counter.
_LEAVES = re.compile(r"/(depthwise_kernel|pointwise_kernel|kernel|bias|gamma|beta|moving_mean|moving_variance|WSM\w*)$")

# The readers raise what their C++ side reports, which for a short file is an IndexError.
_UNREADABLE = (tf.errors.OpError, ValueError, RuntimeError, LookupError, OSError, TypeError, OverflowError)


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded."""

    path: str  # prefix of the checkpoint, or the file
    form: str  # "TensorFlow 1 checkpoint", "object-based checkpoint" or "h5 file"
    variable_set: str  # "averaged", "raw", or "as saved" where the form keeps one set and does not say which
    matched: int  # variables of the network that were found
    total: int  # variables of the network; a load that returns has found them all

    def __str__(self):
        return weights_text.of_checkpoint(self.matched, self.total, self.path, f"{self.form}, {self.variable_set}")


@dataclass(frozen=True)
class _Store:
    """An open checkpoint: the shapes of its tensors by key, and a function that reads one."""

    path: str
    form: str
    shapes: Dict[str, Tuple[int, ...]]
    read: Callable[[str], np.ndarray]


def find_checkpoint(path: Union[str, Path]) -> Optional[Path]:
    """Return the prefix or file of the checkpoint that a user means, None where there is none.

    Args:
      path: a folder, a prefix such as tmp/efficientdet-d0/model, one of its files, an .h5 file, or a .tar.gz or .tgz.

    Raises:
      UserError: the folder has several checkpoints and no file `checkpoint` that names one.
    """
    path = Path(path)
    if path.is_dir():
        return _find_in_folder(path) or _one_of(
            path, [_find_in_folder(folder) for folder in sorted(path.iterdir()) if folder.is_dir()]
        )
    if path.name.endswith((".index", ".meta")) or ".data-" in path.name:
        path = path.with_name(re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path.name))
    if path.with_name(path.name + ".index").is_file():
        return path
    return path if path.is_file() and path.name.endswith((".h5", ".hdf5", ".keras", *ARCHIVES)) else None


def _find_below(folder: Path) -> Optional[Path]:
    """The one checkpoint at any depth of a folder."""
    return _one_of(folder, [_find_in_folder(Path(inner)) for inner, _, _ in sorted(os.walk(str(folder)))])


def _find_in_folder(folder: Path) -> Optional[Path]:
    newest = newest_in(folder)
    if newest is not None:
        return newest
    # Hidden files are not checkpoints: macOS puts a "._model.index" beside each file of an archive.
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    indices = [path.with_suffix("") for path in files if path.name.endswith(".index")]
    return _one_of(folder, indices or [path for path in files if path.name.endswith((".h5", ".hdf5"))])


def _one_of(folder: Path, found: Sequence[Optional[Path]]) -> Optional[Path]:
    found = [path for path in found if path is not None]
    if len(found) > 1:
        names = ", ".join(str(path) for path in found[:5])
        raise UserError(f"{folder} holds {len(found)} checkpoints ({names}); give the one you mean.")
    return found[0] if found else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Store]:
    if path.name.endswith(ARCHIVES):
        with temporary_folder("efficientdet-weights-") as folder:
            unpack(path, folder)
            inside = _find_below(Path(folder))
            if inside is None:
                raise UserError(f"{path} holds no checkpoint.")
            with _opened(inside) as store:
                yield _Store(str(path), store.form, store.shapes, store.read)
    elif path.name.endswith((".h5", ".hdf5", ".keras")):
        with _opened_h5(path) as store:
            yield store
    else:
        try:
            reader = tf.train.load_checkpoint(str(path))
            shapes = {key: tuple(shape) for key, shape in reader.get_variable_to_shape_map().items()}
        except _UNREADABLE as error:
            raise UserError(f"checkpoint {path} cannot be read: {error}") from error
        form = "object-based checkpoint" if "_CHECKPOINTABLE_OBJECT_GRAPH" in shapes else "TensorFlow 1 checkpoint"
        yield _Store(str(path), form, shapes, reader.get_tensor)


@contextlib.contextmanager
def _opened_h5(path: Path) -> Iterator[_Store]:
    with open_hdf5(path) as found:
        # <layer>/<variable name>:0, below model_weights in a file that holds a whole model.
        paths = {name.replace("model_weights/", "", 1).partition("/")[2].split(":")[0]: name for name in found.datasets}
        shapes = {key: found.shape_of(name) for key, name in paths.items()}
        yield _Store(str(path), "h5 file", shapes, lambda key: found.datasets[paths[key]][()])


def object_keys(model: tf.keras.Model) -> List[str]:
    """Return the key of every variable of `model.weights` in an object-based checkpoint, in the same order."""
    keys = {}

    def visit(layer, path):
        own = {id(weight): weight for weight in layer.weights}
        for name, value in vars(layer).items():
            if not name.startswith("_self_"):  # Keras' own list of the layers below
                for sub_path, sub_layer in _layers_in(value, name):
                    visit(sub_layer, f"{path}{sub_path}/")
                    for weight in sub_layer.weights:
                        own.pop(id(weight), None)
        for weight in own.values():
            keys[id(weight)] = path + weight.name.split(":")[0].split("/")[-1] + VALUE

    visit(model, "")
    return [keys[id(weight)] for weight in model.weights]


def _layers_in(value, path) -> Iterator[Tuple[str, tf.keras.layers.Layer]]:
    if isinstance(value, tf.keras.layers.Layer):
        yield path, value
    elif isinstance(value, list):
        for i, member in enumerate(value):
            yield from _layers_in(member, f"{path}/{i}")


def variable_names(model: tf.keras.Model) -> List[str]:
    """Return the published name of every variable of `model.weights`, in the same order."""
    prefix = f"{model.name}/" if model.name else ""
    return [weight.name[len(prefix) :].split(":")[0] for weight in model.weights]


def _plan(model: tf.keras.Model, store: _Store, use_ema: bool) -> Tuple[List[str], str]:
    """Return the key of every variable in the checkpoint, and which set of values that is."""
    names = variable_names(model)
    if store.form == "object-based checkpoint":
        keys = object_keys(model)
        # tf.train.Checkpoint(model=model) puts one name in front of all.
        first = [key[: -len(keys[0])] for key in store.shapes if key.endswith(f"/{keys[0]}")]
        prefix = first[0] if keys[0] not in store.shapes and first else ""
        return [prefix + key for key in keys], "as saved"
    if store.form == "h5 file":
        return names, "as saved"
    has_averages = any(key.endswith(AVERAGE) for key in store.shapes)
    return ([name + AVERAGE for name in names], "averaged") if use_ema and has_averages else (names, "raw")


def load_weights(model: tf.keras.Model, path: Union[str, Path], *, use_ema: bool = True) -> WeightsReport:
    """Set all variables of an EfficientDetNet from a checkpoint.

    Nothing is assigned before every variable has been found with its shape and every value has been read, so a load
    that fails leaves the model as it was. Values are converted to the dtype of the variables.

    Args:
      model: an EfficientDetNet; its variables are made here if it has none yet.
      path: see `find_checkpoint`.
      use_ema: take the averaged copies of a TensorFlow 1 checkpoint, whose accuracy is the published one, where it has
        them. The other forms hold one set.

    Raises:
      UserError: there is no checkpoint, it cannot be read, a variable is missing or has another shape, the checkpoint
        holds variables of a larger network, or a value is not finite.
    """
    if not model.weights:
        model.build((None, 64, 64, 3))
    found = find_checkpoint(path)
    if found is None:
        raise UserError(
            f"there is no checkpoint at {path}. To fetch the published one of {model.config.name}:\n"
            f"  {fetch_command(model.config.name)}\nor run with --random-weights."
        )
    with _opened(found) as store:
        keys, variable_set = _plan(model, store, use_ema)
        _check(model, store, keys)
        try:
            values = [np.asarray(store.read(key)) for key in keys]
        except _UNREADABLE as error:
            raise UserError(f"checkpoint {store.path} is damaged: {error}") from error
    for key, value in zip(keys, values):
        if value.dtype.kind not in "fiu" and value.dtype.name != "bfloat16":
            raise UserError(f"checkpoint {store.path}: {key} holds {value.dtype.name} values, expected numbers.")
        if not np.isfinite(value).all():
            raise UserError(f"checkpoint {store.path}: {key} holds values that are not finite; its training diverged.")
    for weight, value in zip(model.weights, values):
        weight.assign(tf.cast(value, weight.dtype))
    return WeightsReport(store.path, store.form, variable_set, len(keys), len(model.weights))


def _check(model: tf.keras.Model, store: _Store, keys: Sequence[str]):
    """Raise UserError unless the checkpoint holds exactly this network."""
    shapes = [tuple(weight.shape) for weight in model.weights]
    missing = [key for key in keys if key not in store.shapes]
    wrong = [(key, shape) for key, shape in zip(keys, shapes) if store.shapes.get(key, shape) != shape]
    problems = [f"{key} is missing" for key in missing]
    problems += [f"{key} has shape {list(store.shapes[key])}, expected {list(shape)}" for key, shape in wrong]
    if not problems:
        # A network with fewer cells or levels finds all its variables in the checkpoint of a larger one.
        problems = [f"{key} belongs to no layer of this network" for key in _left_over(store, keys)]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"checkpoint {store.path} ({store.form}) does not fit {model.config.name}: of {len(keys)} variables "
            f"{len(missing)} are missing and {len(wrong)} have another shape. {'; '.join(problems[:3])}{more}. "
            f"{guess(model.config, store.shapes, Misfit(keys, missing, wrong))}"
        )


def _left_over(store: _Store, keys: Sequence[str]) -> List[str]:
    def plain(key):
        return key[: -len(VALUE)] if key.endswith(VALUE) else key

    scopes = {key.split("/")[0] for key in keys}
    known = {key[: -len(AVERAGE)] if key.endswith(AVERAGE) else key for key in keys}
    rest = sorted(set(store.shapes) - known - set(keys))
    own = [key for key in rest if key.split("/")[0] in scopes and _LEAVES.search(plain(key))]
    return [key for key in own if "/head/" not in key and "/_head/" not in key]  # A backbone's classifier is not used.
