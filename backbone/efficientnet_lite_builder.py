# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite 0 to 4: EfficientNet for small devices, without squeeze and excitation and with fixed ends.

Source: google/automl backbone/efficientnet_lite_builder.py.
"""

from typing import Sequence

from backbone.efficientnet_builder import STAGES, GlobalParams, decode_blocks

# Factors of width and depth over Lite0.
SCALES = {
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
    "efficientnet-lite3": (1.2, 1.4),
    "efficientnet-lite4": (1.4, 1.8),
}


def get_model_params(model_name: str, stages: Sequence[str] = STAGES) -> GlobalParams:
    """Return the scaled parameters of a backbone of `SCALES`."""
    width, depth = SCALES[model_name]
    return GlobalParams(decode_blocks(stages), width, depth, use_se=False, fix_head_stem=True)
