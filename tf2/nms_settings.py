# SPDX-License-Identifier: Apache-2.0
"""What `nms_configs` means, beside the post-processing that reads it; `ipu_utils.nms.nms_settings` says it."""

from ipu_utils.nms.nms_settings import (
    IOU_THRESH,
    MAX_DETECTIONS,
    SCORE_THRESHOLDS,
    SIGMA,
    SOFT_SCORE_THRESH,
    NmsSettings,
    nms_settings,
)

__all__ = [
    "IOU_THRESH",
    "MAX_DETECTIONS",
    "SCORE_THRESHOLDS",
    "SIGMA",
    "SOFT_SCORE_THRESH",
    "NmsSettings",
    "nms_settings",
]
