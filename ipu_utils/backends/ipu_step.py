# SPDX-License-Identifier: Apache-2.0
"""What an IPU computes for a batch, as a function of tensors, and the reading of its outputs."""

from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

import numpy as np

import ipu_nms
from hparams_config import Config
from ipu_automl_io import postprocess_predictions
from ipu_utils.backends.contract import Results
from ipu_utils.base.detections import Detections
from ipu_utils.base.keras2 import tf
from ipu_utils.model.network import heads_of

if TYPE_CHECKING:
    from ipu_utils.config.run_config import NmsConfig


class Step:
    """The step of a run and the reading of its outputs, which depend on where post-processing happens."""

    def __init__(self, network: Optional[tf.keras.Model], hparams: Config, nms: "NmsConfig", precision: str):
        """Describe the step.

        Args:
          network: None where outputs are read alone.
          nms: the mode, and whether the IPU does it. precision: type name.
        """
        self._network, self._hparams, self._precision = network, hparams, precision
        self._mode, self._on_ipu = nms.nms_mode.value, nms.onchip_nms
        self._levels = hparams.max_level - hparams.min_level + 1
        self._on_host = tf.function(self._with_tensorflow)
        self.post_processing = "on the host after the call, with TensorFlow's operators"
        if self._on_ipu:
            self.post_processing = ipu_nms.implementation("ipu")

    def __call__(self, images: tf.Tensor, scales: tf.Tensor, ids: tf.Tensor) -> Tuple[tf.Tensor, ...]:
        """What the IPU computes for one batch.

        Args:
          images: [N, H, W, 3], pixels 0..255.
          scales: float32 [N], from network input back to original pixels.
          ids: int32 [N], passed through so that every row of the outputs says which image it is.

        Returns:
          (ids, boxes, scores, classes, indices) with NMS on the IPU, without it (ids, scales, *class_outputs,
          *box_outputs).
        """
        heads = heads_of(self._network, self._hparams, self._precision, images)
        if self._on_ipu:
            return (ids, *ipu_nms.ipu_postprocessing(self._hparams, heads, scales, mode=self._mode, device="ipu"))
        return (ids, scales, *heads[0], *heads[1])

    def results(self, outputs: Sequence[np.ndarray]) -> Results:
        """Turn the outputs of one step into detections, computing them here if the IPU did not."""
        ids, found = outputs[0], outputs[1:]
        if self._on_ipu:
            found = ipu_nms.postprocess_onchip_nms_outputs(self._hparams, found)
        else:
            heads = list(found[1 : 1 + self._levels]), list(found[1 + self._levels :])
            found = self._on_host(heads, found[0])
        types = np.float32, np.float32, np.int32, np.int32
        return Results(np.asarray(ids), Detections(*(np.asarray(part, type_) for part, type_ in zip(found, types))))

    def _with_tensorflow(self, heads: Any, scales: tf.Tensor) -> Sequence[tf.Tensor]:
        return postprocess_predictions(self._hparams, *heads, scales, mode=self._mode)


def images_as(type_name: str, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Let images travel as `type_name`: pixels 0..255 are whole numbers in every type."""
    if type_name == "uint8":
        return dataset
    return dataset.map(lambda images, scales, ids: (tf.cast(images, type_name), scales, ids))
