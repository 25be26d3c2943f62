# SPDX-License-Identifier: Apache-2.0
"""What one engine or another computes for one image after the other, from the same checkpoint: to compare them."""

from pathlib import Path
from typing import Callable, List, NamedTuple, Tuple

import numpy as np

from ipu_utils.backends.open import choose_engine, open_backend
from ipu_utils.base.detections import Detections
from ipu_utils.config.run_config import RunConfig
from ipu_utils.data.resize import FittedImage


class Computed(NamedTuple):
    """Of one image."""

    outputs: List[np.ndarray]  # of the heads, float32 [1, h, w, ...]: class levels, then box levels
    detections: Detections  # a batch of one


Run = Callable[[FittedImage], Computed]


def opened(config: RunConfig, folder: Path) -> Tuple[Run, str]:
    """Compile the network of a run of the embedded script and load it.

    Args:
      config: with batches of one image. folder: for the executable.

    Returns:
      (what computes an image, what its weights are).

    Raises:
      UserError: the engine is missing, or does not compute in the run's precision here.
    """
    backend = open_backend(choose_engine(config), folder)
    weights = backend.prepare().weights
    (session,) = backend.start().sessions(1)

    def run(image: FittedImage) -> Computed:
        session.load(image.image[None], np.array([image.scale_to_original], np.float32))
        session.run()
        classes, boxes = session.float_outputs()
        return Computed(classes + boxes, session.detections())

    return run, weights
