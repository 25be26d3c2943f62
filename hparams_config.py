# SPDX-License-Identifier: Apache-2.0
"""Configurations of the published EfficientDet models, and the ways to change them. Needs no TensorFlow.

Keys, defaults and the notation of overrides are those of google/automl's hparams_config.py, so that its hparams
files load here. Training keys are legal and never read.
"""

import ast
import copy
import difflib
import json
import numbers
import os
import re
from typing import Any, Dict, Iterable, List, Optional, Union

import yaml

from ipu_utils.base.errors import ConfigError
from ipu_utils.base.files import write_atomically
from ipu_utils.base.safe_yaml import check_plain, load_yaml
from tf2.nms_settings import MAX_DETECTIONS, SCORE_THRESHOLDS
from utils import ImageSize, parse_image_size


class UnknownKeyError(ConfigError, KeyError):
    """A key that no configuration has. Also a KeyError, which is what automl raises here."""


# Groups whose keys the user invents: class numbers, block descriptions, optimisation names.
_NUMBER_OR_LIST = ("mean_rgb", "stddev_rgb", "anchor_scale")  # one for each channel, or for each level
_OPEN_GROUPS = ("label_map", "fpn_config", "backbone_config", "model_optimizations")


class Config:
    """A nested set of named values with attribute and item access: `config.nms_configs.method`, `config["name"]`."""

    def __init__(self, config_dict: Optional[Dict[str, Any]] = None):
        self.update(config_dict)

    def __setattr__(self, key, value):
        self.__dict__[key] = Config(value) if isinstance(value, dict) else copy.deepcopy(value)

    def __getattr__(self, key):  # Only reached for what is not in __dict__.
        raise AttributeError(_unknown(key, self.__dict__))

    def __getitem__(self, key):
        if key not in self.__dict__:
            raise UnknownKeyError(_unknown(key, self.__dict__))
        return self.__dict__[key]

    def __setitem__(self, key, value):
        setattr(self, key, value) if isinstance(key, str) else self.__dict__.__setitem__(key, value)

    def __contains__(self, key):
        return key in self.__dict__

    def __eq__(self, other):
        return isinstance(other, Config) and self.as_dict() == other.as_dict()

    __hash__ = None  # Two equal configurations can become different.

    def __deepcopy__(self, memo):
        return Config(self.as_dict())

    def __repr__(self):
        return f"Config({self.as_dict()!r})"

    def __str__(self):
        return self.to_json()

    def keys(self) -> Iterable[str]:
        """Return the names of this level."""
        return self.__dict__.keys()

    def get(self, key: str, default_value: Any = None) -> Any:
        """Return the value of `key`, or the default where there is none; a value of None counts as a value."""
        return self.__dict__.get(key, default_value)

    def as_dict(self) -> Dict[str, Any]:
        """Return a plain nested dictionary that shares nothing with this configuration."""
        return {k: v.as_dict() if isinstance(v, Config) else copy.deepcopy(v) for k, v in self.__dict__.items()}

    def to_json(self) -> str:
        """Return the configuration as indented JSON; a function, such as a device's activation, appears by name."""
        return json.dumps(_plain(self.as_dict()), indent=2)

    def save_to_yaml(self, yaml_file_path: str):
        """Write a file that `override` reads back."""
        text = yaml.safe_dump(_plain(self.as_dict()), default_flow_style=False, sort_keys=False)
        write_atomically(yaml_file_path, (text.encode(),), "file")

    def update(self, config_dict: Optional[Union[Dict[str, Any], "Config"]]):
        """Set values, taking new keys as they come."""
        self._update(config_dict, allow_new_keys=True)

    def override(self, config_dict_or_str: Union[str, Dict[str, Any], "Config"], allow_new_keys: bool = False):
        """Change values that exist; nothing is changed when one of them is wrong.

        Args:
          config_dict_or_str: the text "a=1,b.c=2", the path of a YAML file, or a dictionary. A text value is a Python
            literal, true, false, a list `1*2*3` or `[1, 2, 3]`, or else a string. An empty text changes nothing.
          allow_new_keys: take keys that no configuration has instead of refusing them.

        Raises:
          UnknownKeyError: a key does not exist.
          ConfigError: the text or the file cannot be read, or a value has the wrong type.
        """
        trial = copy.deepcopy(self)
        trial._update(_read_overrides(config_dict_or_str), allow_new_keys)
        self.__dict__.update(trial.__dict__)

    def _update(self, values, allow_new_keys, path="", is_open=False):
        if isinstance(values, Config):
            values = values.as_dict()
        for key, value in (values or {}).items():
            known = key in self.__dict__
            if not (known or allow_new_keys or is_open or (not path and key in LEGACY_KEYS)):
                raise UnknownKeyError(_unknown(key, self.__dict__, path))
            old = self.__dict__.get(key)
            if isinstance(old, Config) and isinstance(value, (dict, Config)):
                old._update(value, allow_new_keys, f"{path}{key}.", is_open or key in _OPEN_GROUPS)
            else:
                checked = _checked(f"{path}{key}", old, value) if known and not is_open else value
                self[key] = checked.as_dict() if isinstance(checked, Config) else checked


def _unknown(key: str, known: Iterable[str], path: str = "") -> str:
    close = difflib.get_close_matches(str(key), [str(name) for name in known], n=1)
    hint = f" Did you mean {path}{close[0]}?" if close else ""
    if path and not close:
        hint = f" {path[:-1]} has {', '.join(str(name) for name in known)}."
    elif not close:
        hint = " hparams_config.py lists them."
    return f"the configuration has no key {path}{key}.{hint}"


def _plain(value: Any) -> Any:
    """Return `value` as a file can hold it: tuples as lists, functions by name."""
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    return getattr(value, "__name__", repr(value)) if callable(value) else value


def _checked(name: str, old: Any, value: Any) -> Any:
    """Return `value`, made a number where `old` is one; raise ConfigError where the type cannot be meant."""
    if isinstance(old, Config) and name not in _OPEN_GROUPS:
        keys = ", ".join(f"{name}.{key}" for key in old.as_dict())
        raise ConfigError(f"{name} is a group of values, got {value!r}; set one of {keys}.")
    if isinstance(old, bool):
        if value is not None and not isinstance(value, (bool, numbers.Integral)):
            raise ConfigError(f"{name} must be true or false, got {value!r}.")
        return value if value is None else bool(value)
    if isinstance(old, numbers.Number) and name != "image_size":
        if name in _NUMBER_OR_LIST and isinstance(value, (list, tuple)):
            return value
        if value is not None and (not isinstance(value, numbers.Number) or isinstance(value, bool)):
            try:
                number = float(value)  # YAML reads 1e-3, without a point, as a text.
            except (TypeError, ValueError):
                raise ConfigError(f"{name} must be a number, got {value!r}.") from None
            return int(number) if isinstance(old, int) and number.is_integer() else number
    return value


def _read_overrides(source: Union[str, Dict[str, Any], Config]) -> Union[Dict[str, Any], Config]:
    if isinstance(source, (dict, Config)):
        return source
    if not isinstance(source, str):
        raise ConfigError(f"hparams must be a text, a file or a dictionary, got {source!r}.")
    if overrides_file(source) is not None:
        return read_yaml(source)
    if source.strip() and "=" not in source:
        raise ConfigError(
            f"hparams {_short(source)}: expected pairs such as num_classes=20, or the name of a .yaml file."
        )
    return parse_from_str(source)


def overrides_file(source: str) -> Optional[str]:
    """The file that a text of overrides names; None when it holds them itself."""
    return source if os.path.splitext(source)[1] in (".yaml", ".yml") and "=" not in source else None


def read_yaml(path: str) -> Dict[str, Any]:
    """Return the values of a YAML file, without the flags of automl's trainer that are in its config.yaml.

    Raises:
      ConfigError: the file cannot be read, or holds something else than keys and values.
    """
    values = load_yaml(path)
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"hparams file {path} must hold `key: value` lines, got {type(values).__name__}.")
    values = values or {}
    if "model_name" in values:
        values.setdefault("name", values["model_name"])
    return {key: value for key, value in values.items() if key not in TRAINER_FLAGS}


def eval_str_fn(text: str) -> Any:
    """Return the value that a text means: true, false, a Python literal, a list a*b*c, or else the text itself."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (
        ValueError,
        SyntaxError,
        TypeError,
        MemoryError,
        RecursionError,
    ):  # The last three: `{[]: 1}` and "((((...".
        parts = _split_outside_brackets(text, "*")
        return [eval_str_fn(part) for part in parts] if len(parts) > 1 else text


def parse_from_str(config_str: str) -> Dict[str, Any]:
    """Parse "x.y=1,x.z=2" into {"x": {"y": 1, "z": 2}}. Commas inside brackets and quotes do not separate."""
    values = {}
    for pair in _split_outside_brackets(config_str, ","):
        if not pair.strip():
            continue
        key, equals, text = pair.partition("=")
        # Class numbers, as in label_map.3, are whole numbers; "²" is a digit to Python, but no number.
        names = [int(name) if re.fullmatch("[0-9]{1,9}", name) else name for name in map(str.strip, key.split("."))]
        if not equals or "" in names:
            raise ConfigError(f"hparams {_short(config_str)}: {_short(pair.strip())} is not of the form key=value.")
        group = values
        for name in names[:-1]:
            group = group.setdefault(name, {})
            if not isinstance(group, dict):
                raise ConfigError(f"hparams {_short(config_str)}: {name} is given both a value and members.")
        group[names[-1]] = eval_str_fn(text)
        try:
            check_plain(group[names[-1]])
        except ValueError as error:
            raise ConfigError(f"hparams {_short(config_str)}: {key.strip()} cannot be used: {error}.") from None
    return values


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _split_outside_brackets(text: str, separator: str) -> List[str]:
    parts, depth, quote = [""], 0, ""
    for char in text:
        if char == separator and depth == 0 and not quote:
            parts.append("")
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        else:
            depth = max(0, depth + (char in "([{") - (char in ")]}"))
        parts[-1] += char
    return parts


# What the network, its input and its output are made of.
_MODEL_DEFAULTS = {
    "name": "efficientdet-d1",
    "act_type": "swish",  # A name of utils.ACTIVATIONS, or a function of one tensor.
    "image_size": 640,  # A number, "WIDTHxHEIGHT", or (height, width).
    "num_classes": 90,
    "label_map": None,  # None and "coco": COCO's names; also "voc", "waymo", or {class number: name}.
    "heads": ["object_detection"],
    "min_level": 3,
    "max_level": 7,
    "num_scales": 3,
    "aspect_ratios": [1.0, 2.0, 0.5],  # Width over height; a pair (width, height) is legal as well.
    "anchor_scale": 4.0,
    "data_format": "channels_last",
    "mean_rgb": [0.485 * 255, 0.456 * 255, 0.406 * 255],
    "stddev_rgb": [0.229 * 255, 0.224 * 255, 0.225 * 255],
    "scale_range": False,  # Then from 0..255 to -1..1: with a mean of 0 and a deviation of 1, for AdvProp.
    "backbone_name": "efficientnet-b1",
    "backbone_config": None,
    "fpn_name": None,
    "fpn_weight_method": None,
    "fpn_config": None,
    "fpn_cell_repeats": 3,
    "fpn_num_filters": 88,
    "box_class_repeats": 3,
    "separable_conv": True,
    "apply_bn_for_resampling": True,
    "conv_after_downsample": False,
    "conv_bn_act_pattern": False,
    "survival_prob": None,
    "is_training_bn": True,
    "nms_configs": {
        "method": "gaussian",  # "gaussian" or "hard".
        "iou_thresh": None,  # None: the method's own default, likewise for sigma.
        "score_thresh": 0.0,
        "sigma": None,
        "pyfunc": False,
        "max_nms_inputs": 0,  # 0: every anchor.
        "max_output_size": 100,
    },
}

# Legal, kept, never read.
_TRAINING_DEFAULTS = {
    "target_size": None, "input_rand_hflip": True, "jitter_min": 0.1, "jitter_max": 2.0, "autoaugment_policy": None,
    "grid_mask": False, "sample_image": None, "map_freq": 5, "seg_num_classes": 3, "skip_crowd_during_training": True,
    "max_instances_per_image": 100, "regenerate_source_id": False, "momentum": 0.9, "optimizer": "sgd",
    "learning_rate": 0.08, "lr_warmup_init": 0.008, "lr_warmup_epoch": 1.0, "first_lr_drop_epoch": 200.0,
    "second_lr_drop_epoch": 250.0, "poly_lr_power": 0.9, "clip_gradients_norm": 10.0, "num_epochs": 300,
    "label_smoothing": 0.0, "alpha": 0.25, "gamma": 1.5, "delta": 0.1, "box_loss_weight": 50.0, "iou_loss_type": None,
    "iou_loss_weight": 1.0, "weight_decay": 4e-5, "strategy": None, "mixed_precision": False, "loss_scale": None,
    "model_optimizations": {}, "drop_remainder": True, "tflite_max_detections": 100, "img_summary_steps": None,
    "lr_decay_method": "cosine", "moving_average_decay": 0.9998, "ckpt_var_scope": None, "skip_mismatch": True,
    "var_freeze_expr": None, "use_keras_model": True, "dataset_type": None, "positives_momentum": None,
    "grad_checkpoint": False, "verbose": 1, "save_freq": "epoch",
}  # fmt: skip

# Defaults of older automl releases: no longer there, but old hparams files hold them.
LEGACY_KEYS = (
    "train_scale_min", "train_scale_max", "use_augmix", "augmix_params", "use_bfloat16", "conv_bn_relu_pattern",
    "use_native_resize_op", "pooling_type", "var_exclude_expr", "resnet_depth", "each_epoch_in_separate_process",
)  # fmt: skip

# Flags of automl's trainers that they add to the configuration before they save it.
TRAINER_FLAGS = (
    "model_name", "model_dir", "batch_size", "steps_per_epoch", "steps_per_execution", "iterations_per_loop",
    "num_examples_per_epoch", "num_shards", "tf_random_seed", "debug", "profile", "val_json_file", "testdev_dir",
    "eval_samples", "backbone_ckpt", "ckpt", "mode",
)  # fmt: skip
MODEL_KEYS = tuple(_MODEL_DEFAULTS)


def _model(name, image_size, filters, cells, repeats, **more):
    """Return a model's name and where it differs from the defaults; unless given, the backbone has the same number."""
    values = {
        "name": name,
        "backbone_name": name.replace("det-d", "net-b").replace("det-lite", "net-lite"),
        "image_size": image_size,
        "fpn_num_filters": filters,
        "fpn_cell_repeats": cells,
        "box_class_repeats": repeats,
    }
    return name, {**values, **more}


# The unweighted sum keeps the training of the largest models stable.
_SUM = {"fpn_weight_method": "sum"}
_LITE = {"mean_rgb": 127.0, "stddev_rgb": 128.0, "act_type": "relu6", **_SUM}

# EfficientDet (arXiv:1911.09070), table 1; anchor scales and lite models from automl.
efficientdet_model_param_dict = dict(
    [
        _model("efficientdet-d0", 512, 64, 3, 3),
        _model("efficientdet-d1", 640, 88, 4, 3),
        _model("efficientdet-d2", 768, 112, 5, 3),
        _model("efficientdet-d3", 896, 160, 6, 4),
        _model("efficientdet-d4", 1024, 224, 7, 4),
        _model("efficientdet-d5", 1280, 288, 7, 4),
        _model("efficientdet-d6", 1280, 384, 8, 5, **_SUM),
        _model("efficientdet-d7", 1536, 384, 8, 5, anchor_scale=5.0, **_SUM, backbone_name="efficientnet-b6"),
        _model("efficientdet-d7x", 1536, 384, 8, 5, max_level=8, **_SUM, backbone_name="efficientnet-b7"),
    ]
)
efficientdet_lite_param_dict = dict(
    [
        _model("efficientdet-lite0", 320, 64, 3, 3, anchor_scale=3.0, **_LITE),
        _model("efficientdet-lite1", 384, 88, 4, 3, anchor_scale=3.0, **_LITE),
        _model("efficientdet-lite2", 448, 112, 5, 3, anchor_scale=3.0, **_LITE),
        _model("efficientdet-lite3", 512, 160, 6, 4, **_LITE),
        _model("efficientdet-lite3x", 640, 200, 6, 4, anchor_scale=3.0, **_LITE, backbone_name="efficientnet-lite3"),
        _model("efficientdet-lite4", 640, 224, 7, 4, **_LITE),
    ]
)
MODEL_NAMES = (*efficientdet_model_param_dict, *efficientdet_lite_param_dict)


def default_detection_configs() -> Config:
    """Return the defaults from which every model's configuration is made."""
    return Config({**_MODEL_DEFAULTS, **_TRAINING_DEFAULTS})


def get_efficientdet_config(model_name: str = "efficientdet-d1") -> Config:
    """Return the published configuration of a model.

    Raises:
      ConfigError: no published model has that name.
    """
    values = efficientdet_model_param_dict.get(model_name) or efficientdet_lite_param_dict.get(model_name)
    if values is None:
        close = difflib.get_close_matches(str(model_name), MODEL_NAMES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"model {model_name!r} is unknown; it may be one of {', '.join(MODEL_NAMES)}.{hint}")
    config = default_detection_configs()
    config.override(values)
    return config


get_detection_config = get_efficientdet_config  # automl's other name for it.


def get_inference_config(
    model_name: str, hparams: str = "", image_size: Optional[ImageSize] = None, settings: Optional[Dict] = None
) -> Config:
    """Return the configuration that the benchmark runs.

    Args:
      model_name: a published model.
      hparams: changes, as `Config.override` takes them; they win over the settings for inference.
      image_size: any notation of `utils.parse_image_size`; None keeps the model's own, or that of `hparams`.
      settings: what other options imply; wins over the settings for inference, and `hparams` over it.

    Raises:
      ConfigError: the name, the changes or the size are wrong.
    """
    config = get_efficientdet_config(model_name)
    config.is_training_bn = False
    score_thresh = SCORE_THRESHOLDS["deployment"]
    config.override(
        {"nms_configs": {"method": "hard", "score_thresh": score_thresh, "max_output_size": MAX_DETECTIONS}}
    )
    config.override(settings or {})
    config.override(hparams)
    config.image_size = parse_image_size(config.image_size if image_size is None else image_size)
    return config
