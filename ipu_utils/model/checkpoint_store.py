# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as keys, shapes and values, whatever their form."""

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import TrackableObjectGraph, tf
from ipu_utils.base.printable import one_line
from ipu_utils.base.signals import temporary_folder
from ipu_utils.model.checkpoint_match import hub_name
from ipu_utils.model.hdf5 import Hdf5, little_memory, open_hdf5

ATTRIBUTES = "/.ATTRIBUTES"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
TF1, OBJECTS, SAVED_MODEL = "TensorFlow 1 checkpoint", "object-based checkpoint", "SavedModel"
HUB, H5 = "checkpoint trained from a hub module", "h5 file"
# The readers raise what their C++ side reports, which for a short file is an IndexError.
UNREADABLE = (tf.errors.OpError, ValueError, RuntimeError, LookupError, OSError, TypeError, OverflowError)

MAX_STATE_BYTES = 1 << 20  # of the file `checkpoint`, which names every checkpoint that is kept, with its path
MAX_NAME = 200  # characters; leaves room for the ends that files of a checkpoint have


def newest_in(folder: Path) -> Optional[Path]:
    """Return the prefix of the checkpoint that a folder's file names, None where it names none that is there.

    The file holds a full path when TensorFlow wrote it, which in a moved or copied folder leads to nothing or to other
    weights: the last part of it is what counts.
    """
    path = folder / "checkpoint"
    try:
        if not path.is_file() or path.stat().st_size > MAX_STATE_BYTES:
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


class ObjectGraph:
    """Which object of a saved program has which attributes, and the keys of the values that they end in."""

    def __init__(self, nodes: Sequence[Any] = ()):
        self._children = [{child.local_name: child.node_id for child in node.children} for node in nodes]
        self._values = [{value.name: value for value in node.attributes} for node in nodes]

    @classmethod
    def parse(cls, content: bytes) -> "ObjectGraph":
        """Read what a checkpoint holds under GRAPH; an empty graph where that is something else."""
        graph = TrackableObjectGraph()
        try:
            graph.ParseFromString(content)
        except Exception:  # DecodeError of whichever protobuf is installed; names in the keys are then what there is.
            return cls()
        return cls(graph.nodes)

    def names(self) -> Dict[str, str]:
        """The name that each value had as a variable, by key."""
        values = [values["VARIABLE_VALUE"] for values in self._values if "VARIABLE_VALUE" in values]
        return {value.checkpoint_key: value.full_name for value in values}

    def keys(self, paths: Sequence[str]) -> List[List[str]]:
        """The keys of values by attribute paths such as `backbone/_stem/_bn/beta`, for each object that has them all.

        The keys themselves may be other ones: where several ways lead to a value it is kept under the shortest.
        """
        first = {path.split("/")[0] for path in paths}
        found = []
        for node, children in enumerate(self._children):
            if first <= set(children):
                keys = [self._key(node, path) for path in paths]
                if None not in keys:
                    found.append(keys)
        return found

    def _key(self, node: int, path: str) -> Optional[str]:
        for name in path.split("/"):
            if not 0 <= node < len(self._children) or name not in self._children[node]:
                return None
            node = self._children[node][name]
        value = self._values[node].get("VARIABLE_VALUE") if 0 <= node < len(self._values) else None
        return value.checkpoint_key if value is not None else None


@dataclass(frozen=True)
class Store:
    """An open checkpoint."""

    path: str
    form: str  # one of the above
    shapes: Mapping[str, Tuple[int, ...]]  # by key
    read: Callable[[str], np.ndarray]  # the value of a key
    names: Mapping[str, str] = field(default_factory=dict)  # of the variables, by key, where the key is not the name
    order: Sequence[str] = ()  # keys in the order of the model that was saved, where the form keeps it
    graph: ObjectGraph = field(default_factory=ObjectGraph)

    def name_of(self, key: str) -> str:
        """The name of what has a key, as far as the checkpoint tells."""
        return self.names.get(key, key)

    def keys_by_name(self, end: str = "") -> Dict[str, List[str]]:
        """The keys of every name that ends so, without that end."""
        found: Dict[str, List[str]] = {}
        for key in self.shapes:
            name = self.name_of(key)
            if name.endswith(end):
                found.setdefault(name[: len(name) - len(end)], []).append(key)
        return found


@contextlib.contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """Open the checkpoint of a prefix or an `.h5` file; UserError where it cannot be read."""
    if path.name.endswith((".h5", ".hdf5", ".keras")):
        with _opened_h5(path) as store:
            yield store
        return
    with named_plainly(path) as plain:
        try:
            reader = tf.train.load_checkpoint(str(plain))
            shapes = {key: tuple(shape) for key, shape in reader.get_variable_to_shape_map().items()}
            content = reader.get_tensor(GRAPH) if GRAPH in shapes else b""
        except UNREADABLE as error:
            raise UserError(f"checkpoint {path} cannot be read: {one_line(error)}") from error
        yield _store_of(path, reader, shapes, content)


def _store_of(path: Path, reader: Any, shapes: Dict[str, Tuple[int, ...]], content: Any) -> Store:
    graph = ObjectGraph.parse(content if isinstance(content, bytes) else b"")
    form = OBJECTS if GRAPH in shapes else TF1
    # Where a key does not end in a number it is the name, or the attributes that lead there.
    names = {key: name for key, name in graph.names().items() if key.split(ATTRIBUTES)[0].rpartition("/")[2].isdigit()}
    hub = {key: hub_name(key) for key in shapes if hub_name(key)}
    if any("base_model/" in key for key in hub):
        form, own = HUB, {name for key, (_, name) in hub.items() if "base_model/" not in key}
        # The module's own last layers, should it have any, are not those that were trained.
        names.update((key, name) for key, (_, name) in hub.items() if "base_model/" not in key or name not in own)
    if path.name == path.parent.name == "variables":
        form = SAVED_MODEL
    return Store(str(path), form, shapes, reader.get_tensor, names, graph=graph)


@contextlib.contextmanager
def _opened_h5(path: Path) -> Iterator[Store]:
    with open_hdf5(path) as found:
        try:
            with little_memory():
                paths = _h5_order(found.file)
        except (*UNREADABLE, MemoryError) as error:
            raise UserError(f"checkpoint {path} is damaged: {one_line(error)}") from error
        names = _h5_names(found.datasets)
        by_key = {key: inside for inside, (key, _) in names.items()}
        yield Store(
            str(path),
            H5,
            {key: found.shape_of(inside) for key, inside in by_key.items()},
            lambda key: _h5_values(found, by_key[key]),
            dict(names.values()),
            [names[inside][0] for inside in paths if inside in names],
        )


def _h5_values(found: Hdf5, path: str) -> Any:
    """The values of a dataset."""
    dataset = found.datasets[path]
    if not dataset.dtype.hasobject:
        return dataset[()]
    try:
        with little_memory():
            return dataset[()]
    except MemoryError as error:
        raise ValueError(f"{path} holds texts, and one of a length that no file has") from error


def _h5_names(datasets: Iterable[str]) -> Dict[str, Tuple[str, str]]:
    """A key for every dataset, and the variable's name, which is the key unless two layers have one of that name."""
    # <layer>/<variable name>:0, below model_weights in a file that holds a whole model.
    parts = {path: path.replace("model_weights/", "", 1).partition("/") for path in datasets}
    names = {path: rest.split(":")[0] for path, (_, _, rest) in parts.items()}
    times = Counter(names.values())
    return {path: (name if times[name] == 1 else f"{parts[path][0]}/{name}", name) for path, name in names.items()}


def _h5_order(file: Any) -> List[str]:
    """Paths of the datasets in the order of the model's layers and their weights; none where the file does not tell."""
    group = file.get("model_weights", file)
    found = []
    for layer in _h5_list(group, "layer_names"):
        if layer in group:
            found += [f"{group[layer].name}/{weight}".lstrip("/") for weight in _h5_list(group[layer], "weight_names")]
    return found


def _h5_list(group: Any, attribute: str) -> List[str]:
    """A list of names, which Keras cuts into numbered pieces where it is long."""
    pieces = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(pieces)}" in group.attrs:
        pieces.append(f"{attribute}{len(pieces)}")
    names = [name for piece in pieces for name in np.ravel(group.attrs[piece])]
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names]
