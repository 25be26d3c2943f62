# SPDX-License-Identifier: Apache-2.0
"""Anchor boxes beside the network that they belong to; `ipu_utils.nms.anchors` makes them."""

from ipu_utils.nms.anchors import Anchors

__all__ = ["Anchors"]
