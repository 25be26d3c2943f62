# SPDX-License-Identifier: Apache-2.0
"""Names of classes by their one-based ids. Imports no TensorFlow."""

import os
import re
from typing import Any, Dict, Optional

from ipu_utils.base.errors import ConfigError
from ipu_utils.base.printable import shown
from ipu_utils.base.safe_yaml import load_yaml

# COCO numbers 90 classes and annotates 80 of them: the other ids are outputs of the network without a name.
coco = {
    1: "person",
    2: "bicycle",
    3: "car",
    4: "motorcycle",
    5: "airplane",
    6: "bus",
    7: "train",
    8: "truck",
    9: "boat",
    10: "traffic light",
    11: "fire hydrant",
    13: "stop sign",
    14: "parking meter",
    15: "bench",
    16: "bird",
    17: "cat",
    18: "dog",
    19: "horse",
    20: "sheep",
    21: "cow",
    22: "elephant",
    23: "bear",
    24: "zebra",
    25: "giraffe",
    27: "backpack",
    28: "umbrella",
    31: "handbag",
    32: "tie",
    33: "suitcase",
    34: "frisbee",
    35: "skis",
    36: "snowboard",
    37: "sports ball",
    38: "kite",
    39: "baseball bat",
    40: "baseball glove",
    41: "skateboard",
    42: "surfboard",
    43: "tennis racket",
    44: "bottle",
    46: "wine glass",
    47: "cup",
    48: "fork",
    49: "knife",
    50: "spoon",
    51: "bowl",
    52: "banana",
    53: "apple",
    54: "sandwich",
    55: "orange",
    56: "broccoli",
    57: "carrot",
    58: "hot dog",
    59: "pizza",
    60: "donut",
    61: "cake",
    62: "chair",
    63: "couch",
    64: "potted plant",
    65: "bed",
    67: "dining table",
    70: "toilet",
    72: "tv",
    73: "laptop",
    74: "mouse",
    75: "remote",
    76: "keyboard",
    77: "cell phone",
    78: "microwave",
    79: "oven",
    80: "toaster",
    81: "sink",
    82: "refrigerator",
    84: "book",
    85: "clock",
    86: "vase",
    87: "scissors",
    88: "teddy bear",
    89: "hair drier",
    90: "toothbrush",
}

_VOC_NAMES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
)
voc = dict(enumerate(_VOC_NAMES.split(), start=1))

waymo = {1: "vehicle", 2: "pedestrian", 3: "cyclist"}

_NAMED = {"coco": coco, "voc": voc, "waymo": waymo}


def get_label_map(mapping: Any) -> Optional[Dict[int, str]]:
    """Return class names by id.

    Args:
      mapping: None, a dictionary or a `Config` of names by id, "coco", "voc", "waymo", or the path of a YAML file with
        one `id: name` a line.

    Returns:
      A dictionary of names by integer id. None for None: the caller knows what suits it.

    Raises:
      ConfigError: the name is not known, the file cannot be read, or it does not hold names by id.
    """
    if mapping is None:
        return None
    if hasattr(mapping, "as_dict"):
        mapping = mapping.as_dict()
    if isinstance(mapping, str):
        if not mapping.endswith((".yaml", ".yml")):
            if mapping not in _NAMED:
                raise ConfigError(
                    f"label map {mapping!r} is not known: expected {', '.join(_NAMED)}, or a file ending in .yaml."
                )
            return dict(_NAMED[mapping])
        try:
            mapping = load_yaml(os.path.expanduser(mapping))
        except ConfigError as error:
            raise ConfigError(f"label map {error}") from error
    if not isinstance(mapping, dict):
        raise ConfigError(f"label map {_short(mapping)}: expected names by class id, such as {{1: person}}.")
    found: Dict[int, str] = {}
    for key, name in mapping.items():
        class_id = _class_id(key)
        if class_id is None or class_id in found:
            what = "twice" if class_id in found else "as a class id: expected a whole number such as 1"
            raise ConfigError(f"label map: it has {_short(key)} {what}.")
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise ConfigError(
                f"label map: class {class_id} is called {_short(name)}: expected a text; put words that YAML takes for "
                "something else into quotation marks."
            )
        found[class_id] = str(name)
    return found


def _class_id(key: Any) -> Optional[int]:
    """The number that a key stands for; None where it stands for none."""
    if isinstance(key, str):
        return int(key) if re.fullmatch(r"\s*-?[0-9]{1,18}\s*", key) else None
    return key if isinstance(key, int) and not isinstance(key, bool) else None


def _short(value: Any) -> str:
    text = repr(value)
    return shown(text if len(text) <= 100 else f"{text[:100]}...")


def class_name(label_map: Optional[Dict[int, str]], class_id: int) -> str:
    """Return the name of a class, or "class <id>" for one without."""
    return (label_map or {}).get(class_id) or f"class {class_id}"
