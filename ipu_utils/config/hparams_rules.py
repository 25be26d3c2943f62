# SPDX-License-Identifier: Apache-2.0
"""What the values of a model configuration must be, checked before anything is built. No TensorFlow.

`hparams_config` knows names and types; here is what a network, its input and its output can be made of.
"""

import math
import numbers
from typing import Any, Callable, Dict, Tuple

from hparams_config import Config
from ipu_utils.base.errors import ConfigError
from ipu_utils.config.closeness import did_you_mean
from ipu_utils.config.options import MAX_IMAGE_SIDE, MIN_IMAGE_SIDE
from ipu_utils.nms.anchors import ANCHOR_KEYS, Anchors
from ipu_utils.nms.nms_settings import nms_settings
from tf2 import label_util
from utils import ACTIVATIONS

WHOLE_NUMBERS: Dict[str, Tuple[int, int]] = {
    "num_classes": (1, 100_000),
    "fpn_cell_repeats": (1, 64),
    "fpn_num_filters": (1, 4096),
    "box_class_repeats": (0, 64),
}


def check_hparams(config: Config) -> None:
    """Raise ConfigError for the first value that no network, input or output can be made of."""
    for name, (least, most) in WHOLE_NUMBERS.items():
        value = config[name]
        if type(value) is not int or not least <= value <= most:
            raise _refused(name, value, f"a whole number from {least} to {most}")
    if not callable(config.act_type) and config.act_type not in tuple(ACTIVATIONS):
        raise _refused("act_type", config.act_type, f"one of {', '.join(ACTIVATIONS)}", ACTIVATIONS)
    height, width = config.image_size
    if not all(MIN_IMAGE_SIDE <= side <= MAX_IMAGE_SIDE for side in (height, width)):
        raise _refused("image_size", f"{width}x{height}", f"sides of {MIN_IMAGE_SIDE} to {MAX_IMAGE_SIDE} pixels")
    _check_channels("mean_rgb", config.mean_rgb, math.isfinite, "a number")
    _check_channels("stddev_rgb", config.stddev_rgb, lambda value: 0 < value < math.inf, "a number above 0")
    threshold = nms_settings(config.nms_configs).score_thresh
    if 1 < threshold < math.inf:
        raise _refused("nms_configs.score_thresh", threshold, "at most 1, as scores are")
    # Of a small image: what is wrong with anchors is so at any size, and these take no time.
    Anchors(**{name: config[name] for name in ANCHOR_KEYS}, image_size=MIN_IMAGE_SIDE)
    label_util.get_label_map(config.label_map)


def _refused(name: str, value: Any, expected: str, known: Any = ()) -> ConfigError:
    return ConfigError(f"--hparams {name} must be {expected}; got {value!r}.{did_you_mean(value, known)}")


def _check_channels(name: str, value: Any, fits: Callable[[float], bool], expected: str) -> None:
    """One number for all channels, or one for each of the three."""
    channels = value if isinstance(value, (list, tuple)) else [value]
    are_numbers = all(isinstance(one, numbers.Real) and not isinstance(one, bool) for one in channels)
    if len(channels) not in (1, 3) or not are_numbers or not all(map(fits, channels)):
        raise _refused(name, value, f"{expected}, or one for each of red, green and blue")
