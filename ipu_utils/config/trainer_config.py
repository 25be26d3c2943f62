# SPDX-License-Identifier: Apache-2.0
"""The config.yaml that AutoML's trainer leaves in a model's folder, when no --hparams is given. No TensorFlow.

The trainer writes every value, most of which nobody has chosen. What is as published therefore says nothing, so that
the settings for inference stay; what differs is how this model was made.
"""

from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import hparams_config
from ipu_utils.base.archives import ARCHIVES
from ipu_utils.base.errors import ConfigError
from ipu_utils.config.model_options import ModelConfig
from ipu_utils.config.options import shortened
from utils import parse_image_size

NAME = "config.yaml"
# Of the trainer's keys these mean something here, if only a note. A network for inference has no training mode, and
# weights do not depend on the order of axes in which a GPU computed.
READ = (
    {key for key in hparams_config.MODEL_KEYS if key not in ("name", "is_training_bn", "data_format")}
    | {"mixed_precision", "moving_average_decay", "strategy", "use_keras_model", "model_optimizations"}
)  # fmt: skip
_SAME = {"label_map": (None, "coco"), "strategy": (None, "")}  # two ways to say the same


class TrainerConfig(NamedTuple):
    """What a config.yaml says of a model."""

    path: Path
    changes: Dict[str, Any]  # what differs from the published model, as `Config.override` takes it
    unknown: Tuple[str, ...]  # keys that no configuration has
    foreign: bool = False  # it is another program's file

    def note(self) -> str:
        """What the user should know."""
        if self.foreign:
            return f"{self.path} is not read: it holds nothing of a model's configuration."
        told = ", ".join(f"{key}={_short(key, value)}" for key, value in _flat(self.changes))
        text = f"{self.path} is read, as there is no --hparams: {told or 'it changes nothing'}."
        return text + (f" Not known here: {', '.join(self.unknown)}." if self.unknown else "")


def find_config(model: ModelConfig) -> Optional[Path]:
    """The config.yaml that belongs to the weights of a run: in their folder, or beside the file that was named."""
    if model.hparams or model.random_weights:
        return None
    path = model.weights_path
    if path.is_dir():
        return _config_in(path) or _only(_config_in(inner) for inner in sorted(path.iterdir()) if inner.is_dir())
    named = path.is_file() or path.with_name(path.name + ".index").is_file()
    return _config_in(path.parent) if named and not path.name.endswith(ARCHIVES) else None


def _config_in(folder: Path) -> Optional[Path]:
    # The trainer keeps copies of its best checkpoints in a folder `archive`.
    folders = [folder, folder.parent] if folder.name == "archive" else [folder]
    return next((inner / NAME for inner in folders if (inner / NAME).is_file()), None)


def _only(found: Iterable[Optional[Path]]) -> Optional[Path]:
    there = [path for path in found if path is not None]
    return there[0] if len(there) == 1 else None


def read_config(model: ModelConfig) -> Optional[TrainerConfig]:
    """Read the config.yaml of a run's weights, None where there is none or --hparams takes its place.

    Raises:
      ConfigError: it cannot be read, or is of another model than the run's.
    """
    path = find_config(model)
    if path is None:
        return None
    try:
        values = hparams_config.read_yaml(str(path))
        name = values.get("name")
        if name in hparams_config.MODEL_NAMES and name != model.model_name:
            raise ConfigError(f"{path} is of {name}, not {model.model_name}: add --model-name {name}")
        published = hparams_config.get_efficientdet_config(model.model_name).as_dict()
        if not any(key in values for key in READ):
            return TrainerConfig(path, {}, (), foreign=True)
        changes, unknown = _differences(values, published)
        hparams_config.get_efficientdet_config(model.model_name).override(changes)
    except ConfigError as error:
        text = str(error).rstrip(".")
        text = text if str(path) in text else f"{path}: {text}"
        raise ConfigError(f"{text}; or give --hparams, which is then read in its place.") from None
    return TrainerConfig(path, changes, unknown)


def _differences(values: Dict[str, Any], published: Dict[str, Any]) -> Tuple[Dict[str, Any], Tuple[str, ...]]:
    changes: Dict[str, Any] = {}
    unknown: List[str] = []
    for key, value in values.items():
        if key not in published:
            if key not in hparams_config.LEGACY_KEYS:
                unknown.append(str(key))
        elif key == "nms_configs" and isinstance(value, dict):
            unknown += [f"{key}.{inner}" for inner in value if inner not in published[key]]
            # None is AutoML's word for its default, in releases that had other ones.
            group = {inner: new for inner, new in value.items()
                     if inner in published[key] and new is not None and new != published[key][inner]}  # fmt: skip
            if group:
                changes[key] = group
        elif key in READ and not _equal(key, value, published[key]):
            changes[key] = value
    return changes, tuple(unknown)


def _equal(key: str, one: Any, other: Any) -> bool:
    if key in _SAME and one in _SAME[key] and other in _SAME[key]:
        return True
    if key == "image_size":
        try:
            return parse_image_size(one) == parse_image_size(other)
        except ConfigError:
            return False  # told where it is used
    return _plain(one) == _plain(other)


def _plain(value: Any) -> Any:
    return [_plain(member) for member in value] if isinstance(value, (list, tuple)) else value


def _flat(changes: Dict[str, Any]) -> Iterator[Tuple[str, Any]]:
    for key, value in changes.items():
        if key == "nms_configs" and isinstance(value, dict):
            yield from ((f"{key}.{inner}", inner_value) for inner, inner_value in value.items())
        else:
            yield key, value


def _short(key: str, value: Any) -> str:
    if key == "image_size" and isinstance(value, (list, tuple)) and len(value) == 2:
        return f"{value[1]}x{value[0]}"
    if key == "label_map" and isinstance(value, dict):
        return f"{{{len(value)} names}}"
    return shortened(str(value))
