# SPDX-License-Identifier: Apache-2.0
"""What `nms_configs` of the hyperparameters means. Imports no TensorFlow: every implementation of NMS reads it."""

from typing import Any, Dict, NamedTuple

from ipu_utils.base.errors import ConfigError

MAX_WHOLE = 10_000_000  # more than any image has anchors
# What is taken where `nms_configs` says nothing, by every implementation.
IOU_THRESH = 0.5
SIGMA = 0.5
SOFT_SCORE_THRESH = 0.001
MAX_DETECTIONS = 100
# What --score-preset asks for: average precision needs the low scores too, who acts on detections the likely ones.
SCORE_THRESHOLDS = {"accuracy": 0.001, "deployment": 0.4}


class NmsSettings(NamedTuple):
    """What `nms_configs` of the hyperparameters means, defaults filled in."""

    method: str  # "hard" or "gaussian"
    iou_thresh: float  # 0 to 1; plays no part when soft
    score_thresh: float  # minus infinity: every anchor is a candidate
    sigma: float  # 0: hard
    max_output_size: int  # K, detections an image
    max_nms_inputs: int  # best (anchor, class) pairs that take part; 0: every anchor with its best class

    @property
    def soft(self) -> bool:
        """Do overlaps lower scores instead of removing boxes?"""
        return self.sigma > 0


def nms_settings(nms_configs: Dict[str, Any]) -> NmsSettings:
    """Fill in the defaults of `nms_configs`, where None or a missing key means "the default" and 0.0 means 0.0.

    Args:
      nms_configs: a dictionary or `Config` with method, iou_thresh, score_thresh, sigma, max_output_size,
        max_nms_inputs.

    Raises:
      ConfigError: the method is unknown, or a number is out of range.

    Differs from automl, which takes a deliberate 0.0 for a missing value.
    """

    def value(key, default):
        given = nms_configs.get(key)
        return default if given is None else given

    def number(key, default):
        given = value(key, default)
        try:
            return float(given)
        except (TypeError, ValueError):
            raise ConfigError(f"nms_configs.{key} is {given!r}: expected a number.") from None

    def whole(key, default):
        given = number(key, default)
        if not given.is_integer() or abs(given) > MAX_WHOLE:
            raise ConfigError(f"nms_configs.{key} is {given!r}: expected a whole number up to {MAX_WHOLE}.")
        return int(given)

    method = value("method", "") or "hard"
    if method not in ("hard", "gaussian"):
        raise ConfigError(f"nms_configs.method is {method!r}: expected hard or gaussian.")
    soft = method == "gaussian"
    settings = NmsSettings(
        method=method,
        iou_thresh=1.0 if soft else number("iou_thresh", IOU_THRESH),
        score_thresh=number("score_thresh", SOFT_SCORE_THRESH if soft else float("-inf")),
        sigma=number("sigma", SIGMA) if soft else 0.0,
        max_output_size=whole("max_output_size", MAX_DETECTIONS),
        max_nms_inputs=whole("max_nms_inputs", 0),
    )
    if not 0 <= settings.iou_thresh <= 1:
        raise ConfigError(f"nms_configs.iou_thresh is {settings.iou_thresh}: expected 0 to 1.")
    if settings.score_thresh != settings.score_thresh:
        raise ConfigError("nms_configs.score_thresh is nan: expected a number.")
    if soft and not 0 < settings.sigma < float("inf"):
        raise ConfigError(f"nms_configs.sigma is {settings.sigma}: expected more than 0; for hard NMS set method=hard.")
    if settings.max_output_size < 1 or settings.max_nms_inputs < 0:
        raise ConfigError(
            f"nms_configs has max_output_size {settings.max_output_size} and max_nms_inputs {settings.max_nms_inputs}: "
            "expected at least 1 and at least 0."
        )
    return settings
