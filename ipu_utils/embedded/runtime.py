# SPDX-License-Identifier: Apache-2.0
"""The published name of `ipu_utils.executable.runtime`, kept for programs that import it."""

from ipu_utils.base.detections import Detections, ImageDetections
from ipu_utils.executable.runtime import EmbeddedModel

__all__ = ["Detections", "EmbeddedModel", "ImageDetections"]
