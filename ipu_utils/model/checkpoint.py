# SPDX-License-Identifier: Apache-2.0
"""Load a checkpoint into the network completely, or say what does not fit and change nothing.

These forms are read: TensorFlow 1 checkpoints, keyed by variable names, as published; object-based ones, as written by
`model.save_weights`, `tf.train.Checkpoint` and AutoML's trainer, also from a hub module; SavedModel folders; and Keras
`.h5` files.
"""

import contextlib
import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from ipu_utils.base.archives import ARCHIVES, unpack
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.base.printable import one_line
from ipu_utils.base.signals import temporary_folder
from ipu_utils.config.run_hparams import fetch_command
from ipu_utils.model import weights_text
from ipu_utils.model.checkpoint_match import LEAVES, Entry, Match, by_name, by_order, list_of, listed
from ipu_utils.model.checkpoint_mismatch import AVERAGE, VALUE, Misfit, guess
from ipu_utils.model.checkpoint_store import H5, HUB, TF1, UNREADABLE, Store, newest_in, open_store

_SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt")
_HEAD = re.compile(r"/_?head(_\d+)?/")


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded."""

    path: str  # prefix of the checkpoint, or the file
    form: str  # such as "TensorFlow 1 checkpoint": see weights_store
    variable_set: str  # "averaged", "raw", or "as saved" where the form keeps one set and does not say which
    matched: int  # variables of the network that were found
    total: int  # variables of the network; a load that returns has found them all
    how: str  # "matched by name", "matched by attribute path" or "matched by order, ..."

    def __str__(self):
        form = f"{self.form}, {self.variable_set}; {self.how}"
        return weights_text.of_checkpoint(self.matched, self.total, self.path, form)


def find_checkpoint(path: Union[str, Path]) -> Optional[Path]:
    """Return the prefix or file of the checkpoint that a user means, None where there is none.

    Args:
      path: a folder, also of a SavedModel or with one in it, a prefix such as tmp/efficientdet-d0/model, one of its
        files, an .h5 file, or a .tar.gz or .tgz.

    Raises:
      UserError: the folder has several checkpoints and no file `checkpoint` that names one.
    """
    path = Path(path)
    if path.is_dir():
        return _find_in_folder(path) or _one_of(
            path, [_find_in_folder(folder) for folder in sorted(path.iterdir()) if folder.is_dir()]
        )
    if path.name in _SAVED_MODELS:
        return _find_in_folder(path.parent / "variables") if (path.parent / "variables").is_dir() else None
    path = path.with_name(re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path.name))
    if path.with_name(path.name + ".index").is_file():
        return path
    return path if path.is_file() and path.name.endswith((".h5", ".hdf5", ".keras", *ARCHIVES)) else None


def _find_in_folder(folder: Path) -> Optional[Path]:
    newest = newest_in(folder)
    if newest is not None:
        return newest
    # Hidden files are not checkpoints: macOS puts a "._model.index" beside each file of an archive.
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    indices = [path.with_suffix("") for path in files if path.name.endswith(".index")]
    found = _one_of(folder, indices or [path for path in files if path.name.endswith((".h5", ".hdf5"))])
    if found is None and (folder / "variables" / "variables.index").is_file():  # of a SavedModel
        return folder / "variables" / "variables"
    return found


def _one_of(folder: Path, found: Sequence[Optional[Path]]) -> Optional[Path]:
    found = list(dict.fromkeys(path for path in found if path is not None))
    if len(found) > 1:
        names = ", ".join(str(path) for path in found[:5])
        raise UserError(f"{folder} holds {len(found)} checkpoints ({names}); give the one you mean.")
    return found[0] if found else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Store]:
    if not path.name.endswith(ARCHIVES):
        with open_store(path) as store:
            yield store
        return
    with temporary_folder("efficientdet-weights-") as folder:
        unpack(path, folder)
        inside = _one_of(Path(folder), [_find_in_folder(Path(below)) for below, _, _ in sorted(os.walk(folder))])
        if inside is None:
            raise UserError(f"{path} holds no checkpoint.")
        with open_store(inside) as store:
            yield dataclasses.replace(store, path=str(path))


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


def _plan(model: tf.keras.Model, store: Store, use_ema: bool) -> Tuple[Match, str]:
    """Return the key of every variable in the checkpoint, and which set of values that is."""
    names = variable_names(model)
    has_averages = any(key.endswith(AVERAGE) for key in store.shapes)
    if use_ema and has_averages:
        match = by_name(names, store.keys_by_name(AVERAGE))
        return match._replace(keys=[key if key.endswith(AVERAGE) else key + AVERAGE for key in match.keys]), "averaged"
    if has_averages or store.form == TF1:
        return by_name(names, store.keys_by_name()), "raw"
    if store.form == H5:
        return _by_name_or_order(model, store, store.order), "as saved"
    return _plan_objects(model, store), "as saved"


def _plan_objects(model: tf.keras.Model, store: Store) -> Match:
    """By attribute paths where the checkpoint has this network's, else by names, else by the order of a list."""
    paths = object_keys(model)
    found = store.graph.keys([path[: -len(VALUE)] for path in paths])
    if len(found) > 1:
        raise UserError(f"it is ambiguous: {' and '.join(keys[0] for keys in found[:3])} are of different models.")
    if found:
        return Match(found[0], "matched by attribute path")
    keys = listed(store.shapes, len(paths))
    if keys is not None or store.form == HUB:
        return _by_name_or_order(model, store, keys or ())
    match = by_name(variable_names(model), store.keys_by_name())
    if match.is_in(store.shapes):
        return match
    # tf.train.Checkpoint(model=model) puts one name in front of all.
    before = sorted(key[: -len(paths[0])] for key in store.shapes if key.endswith(f"/{paths[0]}"))
    if paths[0] in store.shapes or not before:
        before = [""]
    if len(before) > 1:
        raise UserError(f"it is ambiguous: {' and '.join(before)} are different models.")
    return Match([before[0] + path for path in paths], "matched by attribute path")


def _by_name_or_order(model: tf.keras.Model, store: Store, order: Sequence[str]) -> Match:
    """By names where all are there, else by order where nothing contradicts it, else what of the names is there."""
    names, shapes = variable_names(model), [tuple(weight.shape) for weight in model.weights]
    named = by_name(names, store.keys_by_name())
    if named.is_in(store.shapes) or len(order) != len(names):
        return named
    entries = [Entry(key, store.names.get(key, ""), store.shapes.get(key)) for key in order]
    ordered = by_order(names, shapes, entries)
    if ordered is None and not any(key in store.shapes for key in named.keys):
        # Neither; what is wrong is told by places in the list, unless it is the names that contradict.
        return named if shapes == [entry.shape for entry in entries] else Match(list(order), "")
    return ordered or named


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
            f"there is no checkpoint at {path}. To fetch the published one of {model.config.name}:",
            f"  {fetch_command(model.config.name)}",
            "or run with --random-weights.",
        )
    with _opened(found) as store:
        try:
            match, variable_set = _plan(model, store, use_ema)
        except UserError as error:
            raise UserError(f"checkpoint {store.path} ({store.form}) is not loaded: {error}") from None
        _check(model, store, match.keys)
        try:
            values = [np.asarray(store.read(key)) for key in match.keys]
        except UNREADABLE as error:
            raise UserError(f"checkpoint {store.path} is damaged: {one_line(error)}") from error
    for key, value in zip(match.keys, values):
        if value.dtype.kind not in "fiu" and value.dtype.name != "bfloat16":
            raise UserError(f"checkpoint {store.path}: {key} holds {value.dtype.name} values, expected numbers.")
        if not np.isfinite(value).all():
            raise UserError(f"checkpoint {store.path}: {key} holds values that are not finite; its training diverged.")
    for weight, value in zip(model.weights, values):
        weight.assign(tf.cast(value, weight.dtype))
    return WeightsReport(store.path, store.form, variable_set, len(values), len(model.weights), match.how)


def _check(model: tf.keras.Model, store: Store, keys: Sequence[str]):
    """Raise UserError unless the checkpoint holds exactly this network."""
    shapes = [tuple(weight.shape) for weight in model.weights]
    # Keys that say nothing are told, and guessed from, by the name of the variable.
    labels = dict(store.names)
    labels.update((key, name) for key, name in zip(keys, variable_names(model)) if list_of(key) is not None)

    def label(key: str) -> str:
        return labels.get(key, key)

    def told(key: str) -> str:
        return key if label(key) == key else f"{key} ({label(key)})"

    missing = [key for key in keys if key not in store.shapes]
    wrong = [(key, shape) for key, shape in zip(keys, shapes) if store.shapes.get(key, shape) != shape]
    problems = [f"{told(key)} is missing" for key in missing]
    problems += [f"{told(key)} has shape {list(store.shapes[key])}, expected {list(shape)}" for key, shape in wrong]
    if not problems:
        # A network with fewer cells or levels finds all its variables in the checkpoint of a larger one.
        problems = [f"{told(key)} belongs to no layer of this network" for key in _left_over(store, keys)]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        misfit = Misfit([label(key) for key in keys], [label(key) for key in missing],
                        [(label(key), shape) for key, shape in wrong])  # fmt: skip
        raise UserError(
            f"checkpoint {store.path} ({store.form}) does not fit {model.config.name}: of {len(keys)} variables "
            f"{len(missing)} are missing and {len(wrong)} have another shape. {'; '.join(problems[:3])}{more}. "
            f"{guess(model.config, {label(key): shape for key, shape in store.shapes.items()}, misfit)}"
        )


def _left_over(store: Store, keys: Sequence[str]) -> List[str]:
    """Keys of what looks like variables of a network of this kind, and is not in `keys`."""

    def plain(key: str) -> str:
        name = store.name_of(key)
        return name[: -len(VALUE)] if name.endswith(VALUE) else name

    scopes = {plain(key).split("/")[0] for key in keys}
    lists = {list_of(key) for key in keys} - {None}
    known = {key[: -len(AVERAGE)] if key.endswith(AVERAGE) else key for key in keys}
    rest = sorted(set(store.shapes) - known - set(keys))
    own = [key for key in rest if plain(key).split("/")[0] in scopes and LEAVES.search(plain(key))]
    own += [key for key in rest if list_of(key) in lists and key not in own]
    return [key for key in own if not _HEAD.search(plain(key))]  # A backbone's classifier is not used.
