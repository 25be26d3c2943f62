# SPDX-License-Identifier: Apache-2.0
"""What the values in an executable's header must be, so that nothing is allocated or loaded for the sake of nonsense.

A header with a right checksum can still be somebody else's, a later release's, or made by hand.
"""

import math
from typing import Any

from ipu_utils.base.errors import ConfigError
from ipu_utils.base.printable import shown
from ipu_utils.config.model_options import NmsMode
from ipu_utils.config.options import MAX_IMAGE_SIDE
from ipu_utils.nms.anchors import ANCHOR_KEYS, Anchors
from ipu_utils.nms.nms_settings import nms_settings

MAX_BATCH, MAX_CLASSES, MAX_TEXT = 65536, 100_000, 1000
MAX_WEIGHTS_TEXT = 50_000  # it holds a path, of which each byte may be an escape sequence
FLOAT_TYPES = ("float32", "float16", "bfloat16")
ANYTHING = (1, 1)  # image size to check anchors with: what is wrong with them is so at any size


def check_header(header: Any) -> None:
    """Raise ValueError for the first value of a `Header` that no executable has; types were checked before."""
    sides = header.image_size
    if len(sides) != 2 or not all(type(side) is int and 0 < side <= MAX_IMAGE_SIDE for side in sides):
        raise ValueError(f"image_size should be two numbers from 1 to {MAX_IMAGE_SIDE}, got {sides}")
    mean = header.mean_rgb
    if len(mean) != 3 or not all(type(value) in (int, float) and math.isfinite(value) for value in mean):
        raise ValueError(f"mean_rgb should be three numbers, got {mean}")
    if not 1 <= header.batch_size <= MAX_BATCH or not 1 <= header.num_classes <= MAX_CLASSES:
        raise ValueError(f"batch_size should be 1 to {MAX_BATCH} and num_classes 1 to {MAX_CLASSES}")
    for name, value, known in (
        ("input_type", header.input_type, ("uint8", *FLOAT_TYPES)),
        ("output_type", header.output_type, (*FLOAT_TYPES, "int8")),
        ("precision", header.precision, (*FLOAT_TYPES, "int8")),
        ("nms_mode", header.nms_mode, tuple(mode.value for mode in NmsMode)),
    ):
        if value not in known:
            raise ValueError(f"{name} should be one of {', '.join(known)}, got {value!r}")
    if set(header.anchors) != set(ANCHOR_KEYS):
        raise ValueError(f"anchors should have {', '.join(ANCHOR_KEYS)}, got {', '.join(map(str, header.anchors))}")
    for text in (header.model_name, header.engine, *header.target, *header.versions, *header.versions.values()):
        if not isinstance(text, str) or len(text) > MAX_TEXT or not text.isprintable():
            raise ValueError("a name in it cannot be printed")
    for what, text in (("weights", header.weights), ("calibration", header.calibration)):
        if len(text) > MAX_WEIGHTS_TEXT or shown(text) != text:
            raise ValueError(f"what it says of its {what} cannot be printed")
    try:
        Anchors(**header.anchors, image_size=ANYTHING)
        nms_settings(header.nms_configs)
    except ConfigError as error:
        raise ValueError(str(error).rstrip(".")) from error
