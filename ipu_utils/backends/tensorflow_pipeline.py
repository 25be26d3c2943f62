# SPDX-License-Identifier: Apache-2.0
"""The pipeline in TensorFlow: the step as a function of tensors, for TensorFlow on a host and for an IPU."""

import functools
import logging
from typing import TYPE_CHECKING, Callable, Sequence, Tuple

import numpy as np

import ipu_nms
from hparams_config import Config
from ipu_automl_io import postprocess_predictions
from ipu_utils.backends.pipeline import Results
from ipu_utils.base.detections import Detections
from ipu_utils.base.keras2 import tf
from ipu_utils.measure.objects import mean_candidates
from ipu_utils.model.network import heads_of

if TYPE_CHECKING:
    from ipu_utils.backends.contract import Device
    from ipu_utils.config.run_config import NmsConfig

logger = logging.getLogger(__name__)


class TensorFlowPipeline:
    """The step of a run and the reading of its outputs, which depend on where post-processing happens."""

    def __init__(self, network: tf.keras.Model, hparams: Config, nms: "NmsConfig", precision: str, device: "Device"):
        self._network, self._precision = network, precision
        self._hparams = hparams
        self._mode = nms.nms_mode.value
        self._levels = hparams.max_level - hparams.min_level + 1
        self.nms_implementation = "on the host after the call, with TensorFlow's operators"
        self._detect = self._choose_nms(device.kind) if nms.onchip_nms else None
        self._on_host = tf.function(self._with_tensorflow)

    def _choose_nms(self, kind: str) -> Callable[..., Sequence[tf.Tensor]]:
        """Pick what computes detections inside the step, and say so in `nms_implementation`."""
        self.nms_implementation = ipu_nms.implementation(kind)
        if kind == "ipu":
            return functools.partial(ipu_nms.ipu_postprocessing, self._hparams, mode=self._mode, device="ipu")
        if ipu_nms.available(kind):
            # Keeps boxes in float32 whatever the network's type: bfloat16 has steps of 4 pixels from 512 on.
            return lambda heads, scales: ipu_nms.detect(self._hparams, *heads, scales, mode=self._mode)
        logger.warning("TensorFlow's own operators do NMS, which are slower: %s", ipu_nms.why_not())
        self.nms_implementation = "TensorFlow's operators, in the graph"
        return self._with_tensorflow

    def heads(self, images: tf.Tensor) -> Tuple[Sequence[tf.Tensor], Sequence[tf.Tensor]]:
        """See `ipu_utils.model.network.heads_of`."""
        return heads_of(self._network, self._hparams, self._precision, images)

    def step(self, images: tf.Tensor, scales: tf.Tensor, ids: tf.Tensor) -> Tuple[tf.Tensor, ...]:
        """What the device computes for one batch.

        Args:
          images: [N, H, W, 3], pixels 0..255.
          scales: float32 [N], from network input back to original pixels.
          ids: int32 [N], passed through so that every row of the outputs says which image it is.

        Returns:
          (ids, boxes, scores, classes, indices or lengths) with on-device NMS, without it
          (ids, scales, *class_outputs, *box_outputs).
        """
        heads = self.heads(images)
        if self._detect is not None:
            return (ids, *self._detect(heads, scales))
        return (ids, scales, *heads[0], *heads[1])

    def postprocess(self, outputs: Sequence[np.ndarray]) -> Results:
        """Turn the outputs of one step into detections, computing them here if the device did not."""
        ids, found = outputs[0], outputs[1:]
        if self._detect is None:
            heads = list(found[1 : 1 + self._levels]), list(found[1 + self._levels :])
            found = self._on_host(heads, found[0])
        elif np.ndim(found[3]) == 2:  # indices of anchors, -1 in unused rows
            found = ipu_nms.postprocess_onchip_nms_outputs(self._hparams, found)
        boxes, scores, classes, lengths = found
        detections = Detections(
            np.asarray(boxes, np.float32),
            np.asarray(scores, np.float32),
            np.asarray(classes, np.int32),
            np.asarray(lengths, np.int32),
        )
        return Results(np.asarray(ids), detections)

    def _with_tensorflow(self, heads, scales):
        return postprocess_predictions(self._hparams, *heads, scales, mode=self._mode)

    def count_candidates(self, images: tf.Tensor) -> float:
        """Mean number an image of candidates above the score threshold, from an untimed pass through the network.

        A candidate is an anchor, or in multi-class mode a pair of anchor and class.
        """
        outputs = [np.asarray(tf.cast(level, tf.float32)) for level in self.heads(images)[0]]
        threshold, every_class = self._hparams.nms_configs.score_thresh, self._mode == "multi-class"
        return mean_candidates(outputs, self._hparams.num_classes, threshold, every_class)


def images_as(type_name: str, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Let images travel as `type_name`: pixels 0..255 are whole numbers in every type."""
    if type_name == "uint8":
        return dataset
    return dataset.map(lambda images, scales, ids: (tf.cast(images, type_name), scales, ids))
