# SPDX-License-Identifier: Apache-2.0
"""Executables for TensorFlow on a CPU or GPU: frozen graphs. Imports TensorFlow."""

import logging
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np

from hparams_config import Config
from ipu_automl_io import postprocess_predictions
from ipu_utils.backends.host import Make
from ipu_utils.backends.streams import streams_of
from ipu_utils.base import hardware
from ipu_utils.base.detections import Detections
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable import cache, fingerprint
from ipu_utils.executable.file import Header, write_executable
from ipu_utils.executable.freeze_graph import build_network, freeze_graph
from ipu_utils.executable.runtime import Levels, PostProcessing, make_detector
from ipu_utils.executable.tensorflow import engine_name
from ipu_utils.model.host import Host
from ipu_utils.model.network import precision_of, preview_weights
from ipu_utils.nms.libraries import CustomOpsNotFoundException

logger = logging.getLogger(__name__)


class Compiler:
    """See `ipu_utils.backends.host.Compiler`."""

    def __init__(self, config: RunConfig):
        tf.debugging.set_log_device_placement(config.output.debug)
        self._config, self._hparams = config, cache.hparams_of(config)
        device, streams = config.device, config.device.num_streams or 1
        threads = device.num_threads or hardware.usable_cores()
        if config.embedded is None:
            threads, streams, _ = streams_of("tensorflow", threads, device.num_streams)
        # Before anything runs: TensorFlow reads the numbers of threads once.
        self._host = Host(device.device, threads, streams, given=device.num_threads is not None)

    def wanted(self) -> Header:
        precision = precision_of(self._config, self._host)
        features = fingerprint.cpu_features()
        return cache.plan(self._config, precision, precision, engine_name(), features, builder=cache.GRAPH)

    def build(self, header: Header) -> Tuple[Header, Make]:
        header, model = build_network(self._config, self._hparams, self._host, header)

        def make(path: Path) -> None:
            write_executable(path, header, freeze_graph(model, self._hparams, header))

        return header, make

    def preview(self, header: Header) -> str:
        return preview_weights(self._config, self._hparams, self._host)

    def detector(self, header: Header) -> Tuple[Optional[PostProcessing], str]:
        try:
            make_detector(header)
        except CustomOpsNotFoundException as error:
            logger.warning("TensorFlow's own operators do NMS, which are slower: %s", error)
            return Operators(header), "TensorFlow's operators"
        return None, "libdetect"


class Operators:
    """Post-processing by TensorFlow's own operators, where libdetect is not built."""

    def __init__(self, header: Header):
        names = ("image_size", "num_classes", "nms_configs")
        config = Config({**header.anchors, **{name: getattr(header, name) for name in names}})
        self._detect = tf.function(lambda *heads: postprocess_predictions(config, *heads, mode=header.nms_mode))

    def run(self, class_outputs: Levels, box_outputs: Levels, scales: np.ndarray, *, dtype: str) -> Detections:
        """See `ipu_utils.nms.libdetect.Detector.run`; there are no indices."""

        def tensors(outputs: Levels) -> List[tf.Tensor]:
            return [tf.constant(output.view(tf.as_dtype(dtype).as_numpy_dtype)) for output in outputs]

        found = self._detect(tensors(class_outputs), tensors(box_outputs), tf.constant(scales))
        boxes, scores, classes, lengths = (np.asarray(part) for part in found)
        types = np.float32, np.float32, np.int32, np.int32
        return Detections(*(part.astype(type_) for part, type_ in zip((boxes, scores, classes, lengths), types)))
