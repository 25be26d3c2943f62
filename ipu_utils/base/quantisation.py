# SPDX-License-Identifier: Apache-2.0
"""What the outputs of a network stand for in types that are not NumPy's floats: quantised integers, and bfloat16."""

from typing import List, NamedTuple, Optional

import numpy as np


class Quantisation(NamedTuple):
    """Integers that stand for scale * (stored - zero_point)."""

    scale: float
    zero_point: int


class HeadQuantisation(NamedTuple):
    """That of every output of the heads, finest level first."""

    class_outputs: List[Quantisation]
    box_outputs: List[Quantisation]


def as_float32(output: np.ndarray, quantisation: Optional[Quantisation] = None) -> np.ndarray:
    """A copy in float32 of what an output stands for.

    Args:
      output: floats, or bfloat16 as uint16, its bits: the upper half of a float32.
      quantisation: where it holds integers.
    """
    if quantisation is not None:
        # The product of the type that NMS computes in, so that both see the same number.
        return (output.astype(np.int32) - quantisation.zero_point).astype(np.float32) * np.float32(quantisation.scale)
    if output.dtype == np.uint16:
        return (output.astype(np.uint32) << 16).view(np.float32)
    return output.astype(np.float32)
