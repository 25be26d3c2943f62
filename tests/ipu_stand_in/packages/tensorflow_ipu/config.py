# SPDX-License-Identifier: Apache-2.0
"""IPUConfig with the attribute tree, types and defaults of the release, read from tests/data/ipu."""

import ast
import difflib
import enum
import json
import logging
from pathlib import Path

import tensorflow as tf
from tensorflow.python.ipu import _state

API_FILE = next(
    parent / "data" / "ipu" / "tensorflow_ipu_api.json"
    for parent in Path(__file__).resolve().parents
    if (parent / "data" / "ipu" / "tensorflow_ipu_api.json").is_file()
)
_API = json.loads(API_FILE.read_text(encoding="utf-8"))["tensorflow.python.ipu.config"]
_ENUMS = (
    "SelectionOrder",
    "ExecutionProfileType",
    "DeviceConnectionType",
    "MergeRemoteBuffersBehaviour",
    "SchedulingAlgorithm",
    "StochasticRoundingBehaviour",
)
for _name in _ENUMS:
    _values = {k: v["value"] for k, v in _API[_name]["members"].items() if "value" in v}
    globals()[_name] = enum.Enum(_name, _values, module=__name__)

MAX_IO_TILES = 192
log = logging.getLogger(__name__)


def _from_bool(value):
    return StochasticRoundingBehaviour.ON if value else StochasticRoundingBehaviour.OFF  # noqa: F821 - made above


StochasticRoundingBehaviour.from_bool = staticmethod(_from_bool)  # noqa: F821


def _default(leaf):
    if leaf["type"] in _ENUMS:
        return globals()[leaf["type"]][leaf["default"].split(".")[1]]
    return ast.literal_eval(leaf["default"])


def _check(leaf, value):
    """Raise TypeError unless `value` has the attribute's type. Nothing is coerced."""
    kind = leaf["type"]
    if kind in _ENUMS:
        good = isinstance(value, globals()[kind])
    elif kind.startswith("typing.Union"):  # a number of IPUs or their indices
        numbers = value if isinstance(value, (list, tuple)) else [value]
        good = all(type(number) is int for number in numbers)
        if good and len(set(numbers)) != len(numbers):
            raise ValueError(f"{leaf['full_name']}: duplicate indices in {value}")
    else:
        good = type(value) is {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}[kind]
    if not good:
        raise TypeError(f"{leaf['full_name']} must be {kind}, got {type(value).__name__} {value!r}")


class _Category:
    """A group of attributes: can be read, not assigned; its leaves are type-checked."""

    def __init__(self, tree):
        object.__setattr__(self, "_tree", tree)
        values = {
            name: _Category(entry["members"]) if "members" in entry else _default(entry) for name, entry in tree.items()
        }
        object.__setattr__(self, "_values", values)

    def _entry(self, name):
        if name not in self._tree:
            near = difflib.get_close_matches(name, self._tree, 1)
            raise ValueError(f"no configuration attribute {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return self._tree[name]

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        self._entry(name)
        return self._values[name]

    def __setattr__(self, name, value):
        entry = self._entry(name)
        if "members" in entry:
            raise Exception(f"{name!r} is a category and cannot be assigned")
        _check(entry, value)
        if entry.get("deprecated"):
            log.warning("%s is deprecated: %s", entry["full_name"], entry["deprecated"])
        self._values[name] = value

    def to_dict(self):
        """Every leaf by its dotted name."""
        flat = {}
        for name, value in self._values.items():
            flat.update(value.to_dict() if isinstance(value, _Category) else {self._tree[name]["full_name"]: value})
        return flat


class IPUConfig(_Category):
    """The configuration of the IPU system."""

    def __init__(self):
        super().__init__(_API["IPUConfig"]["config_attributes"])

    def configure_ipu_system(self, device="cpu"):
        """Put this configuration into effect."""
        configure_ipu_system(self, device)

    def from_dict(self, dct):
        """Assign attributes by dotted name."""
        for full_name, value in dct.items():
            *path, leaf = full_name.split(".")
            category = self
            for part in path:
                category = getattr(category, part)
            setattr(category, leaf, value)

    def to_json(self):
        """The attributes as JSON; enums by name."""
        return json.dumps({k: v.name if isinstance(v, enum.Enum) else v for k, v in self.to_dict().items()})


def running_on_ipu_model():
    """Whether the flags ask for the IPU model instead of hardware."""
    return bool(_state.current.flags.get("use_ipu_model"))


def _validate(config):
    """Refuse what the conversion to the plugin's options refuses."""
    values = config.to_dict()
    for name, value in values.items():
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str) or not isinstance(item, str):
                    raise TypeError(f"{name}: keys and values must be str, got {key!r}: {item!r}")
    if values["auto_select_ipus"] and values["select_ipus"]:
        raise Exception("auto_select_ipus and select_ipus cannot both be set")
    count, index = (values[f"experimental.multi_replica_distribution.process_{what}"] for what in ("count", "index"))
    if running_on_ipu_model():
        if values["select_ipus"]:
            raise Exception("select_ipus cannot be used with the IPU model")
        if not values["ipu_model.version"]:
            raise ValueError("ipu_model.version must be set")
        if count > 0:
            raise Exception("the IPU model cannot be distributed over processes")
    if count > 0 and not 0 <= index < count:
        raise ValueError(
            f"experimental.multi_replica_distribution.process_index must be in the range [0, {count}), got {index}"
        )
    if values["io_tiles.place_ops_on_io_tiles"] and values["io_tiles.num_io_tiles"] == 0:
        raise ValueError("place_ops_on_io_tiles needs num_io_tiles above 0")
    kind = values["device_connection.type"]
    if kind in (DeviceConnectionType.NEVER, DeviceConnectionType.PRE_COMPILE):  # noqa: F821
        if values["device_connection.version"] not in ("ipu1", "ipu2", "ipu21"):
            raise ValueError(f"device_connection.version must be set for {kind.name}")
        if kind.name == "PRE_COMPILE" and not _state.current.flags.get("executable_cache_path"):
            raise ValueError("PRE_COMPILE needs --executable_cache_path in TF_POPLAR_FLAGS")


def configure_ipu_system(config, device="cpu", reset_configuration=True):
    """Put `config` into effect; a differing earlier one is replaced with a warning."""
    if not isinstance(config, IPUConfig):
        raise TypeError(f"config must be an IPUConfig, got {type(config).__name__}")
    _validate(config)
    state = _state.current
    if state.configuration is not None and state.configuration.to_dict() != config.to_dict():
        if not reset_configuration:
            raise Exception("the IPU system is already configured differently")
        log.warning("resetting the IPU configuration")
    state.configuration = config


def reset_ipu_configuration():
    """Drop the configuration in effect."""
    _state.current.configuration = None


def get_ipu_config(session=None):
    """The configuration in effect."""
    return [required()]


def required():
    """Return the configuration in effect; raise as the compiler does when there is none."""
    if _state.current.configuration is None:
        raise tf.errors.FailedPreconditionError(None, None, "No device target has been configured")
    return _state.current.configuration


def check_compilable():
    """Raise what the compiler finds in the configuration when the first program is compiled."""
    config = required()
    if not 0 <= config.io_tiles.num_io_tiles <= MAX_IO_TILES:
        tiles = config.io_tiles.num_io_tiles
        raise tf.errors.InvalidArgumentError(None, None, f"{tiles} I/O tiles are not between 0 and {MAX_IO_TILES}")


def check_executable():
    """Raise when the device connection only compiles."""
    if required().device_connection.type is DeviceConnectionType.NEVER:  # noqa: F821
        raise tf.errors.InvalidArgumentError(
            None, None, "Trying to run an executable on a device that was configured for compilation only."
        )
