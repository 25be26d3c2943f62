# SPDX-License-Identifier: Apache-2.0
"""Why a checkpoint does not fit a network, guessed from the names and shapes in both. No TensorFlow."""

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import hparams_config

AVERAGE = "/ExponentialMovingAverage"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"

Shapes = Mapping[str, Tuple[int, ...]]


class Misfit(NamedTuple):
    """What of a network's variables is not in a checkpoint, by the checkpoint's keys."""

    keys: Sequence[str]  # all that the network needs
    missing: Sequence[str]
    wrong: Sequence[Tuple[str, Tuple[int, ...]]]  # with the shape that is needed


def guess(config: Any, shapes: Shapes, misfit: Misfit) -> str:
    """Return one sentence on the likeliest cause and what to do.

    Args:
      config: of the network that was to be loaded.
      shapes: of everything in the checkpoint, by key.
    """
    missing = misfit.missing
    names = {key.split("/")[0] for key in shapes}
    backbones = sorted(name for name in names if name.startswith("efficientnet-"))
    looks_like = _published_like(shapes)
    if looks_like and config.name not in looks_like:
        return f"It looks like {' or '.join(looks_like)}: check --model-name."
    if backbones and config.backbone_name not in backbones:
        return f"It was saved with the backbone {backbones[0]}, not {config.backbone_name}: check the model name."
    if len(missing) == len(misfit.keys):
        example = sorted(key for key in shapes if not key.startswith("_"))[:2]
        return (
            f"None of its names is known (it holds {', '.join(example) or 'nothing'}): it is of another kind of model."
        )
    if missing and all(key.endswith(AVERAGE) for key in missing):
        return "Its averaged copies are not complete; the raw variables may be: --no-ema takes those."
    if missing and all("/WSM" in key for key in missing):
        return "It has no fusion weights: try --hparams fpn_weight_method=sum."
    return _other_classes(config, shapes, misfit) or (
        "It was saved from a network of another size or configuration, or is damaged: check the model name and "
        "--hparams."
    )


def _other_classes(config: Any, shapes: Shapes, misfit: Misfit) -> Optional[str]:
    """The sentence for a checkpoint that differs in the last layer of the class head alone."""
    predict = [key for key, _ in misfit.wrong if _is_class_predictor(key)]
    if misfit.missing or not predict or len(predict) != len(misfit.wrong):
        return None
    channels = next(shapes[key][-1] for key in predict if not _plain(key).endswith("depthwise_kernel"))
    anchors = len(config.aspect_ratios) * config.num_scales
    hint = "set num_classes (and the anchors) with --hparams."
    if channels % anchors == 0:
        hint = f"--hparams num_classes={channels // anchors} fits it."
    return (
        f"Its class head has {channels} outputs where {config.num_classes} classes and {anchors} anchors need "
        f"{config.num_classes * anchors}: {hint}"
    )


def _is_class_predictor(key: str) -> bool:
    return "class-predict" in key or "class_net/classes" in key


def _plain(key: str) -> str:
    """A key without what the form of the checkpoint adds to it."""
    for end in (VALUE, AVERAGE):
        key = key[: -len(end)] if key.endswith(end) else key
    return key


def _published_like(shapes: Shapes) -> List[str]:
    """Names of the published models that have the dimensions which a checkpoint shows; empty when it does not."""
    found = _dimensions(shapes)
    if found is None:
        return []
    names = []
    for name in hparams_config.MODEL_NAMES:
        config = hparams_config.get_efficientdet_config(name)
        wanted = {
            "filters": config.fpn_num_filters,
            "cells": config.fpn_cell_repeats,
            "repeats": config.box_class_repeats,
            "levels": config.max_level - config.min_level + 1,
            "backbone": config.backbone_name,
        }
        if all(wanted[key] == value for key, value in found.items()):
            names.append(name)
    return names


def _dimensions(shapes: Shapes) -> Optional[Dict[str, Any]]:
    """Filters, BiFPN cells, head convolutions and pyramid levels, and the backbone where a name tells it.

    Object-based checkpoints name what they hold by attributes (class_net/conv_ops/0), the others by layers
    (class_net/class-0).
    """
    keys = {_plain(key): shape for key, shape in shapes.items()}
    kernels = {key: shape for key, shape in keys.items() if key.endswith("pointwise_kernel") and len(shape) == 4}
    filters = [shape[2] for key, shape in kernels.items() if _is_class_predictor(key)]
    cells = _numbers(keys, r"fpn_cells/(?:cell_|cells/)(\d+)/")
    repeats = _numbers(keys, r"class_net/(?:class-|conv_ops/)(\d+)/")
    levels = _numbers(keys, r"class_net/(?:class-0-bn-|bns/0/)(\d+)/")
    if not (filters and cells and repeats and levels):
        return None
    found = {"filters": filters[0], "cells": cells[-1] + 1, "repeats": repeats[-1] + 1, "levels": len(levels)}
    backbones = {key.split("/")[0] for key in keys if key.startswith("efficientnet-")}
    return {**found, "backbone": backbones.pop()} if len(backbones) == 1 else found


def _numbers(keys: Mapping[str, Any], pattern: str) -> List[int]:
    """The different numbers that the pattern's group matches in the keys."""
    found = (re.search(pattern, key) for key in keys)
    return sorted({int(match.group(1)) for match in found if match})
