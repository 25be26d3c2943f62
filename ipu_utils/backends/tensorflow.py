# SPDX-License-Identifier: Apache-2.0
"""A run in TensorFlow: on a host, and on an IPU through Graphcore's."""

from typing import Any, Dict, Tuple

import ipu_nms
import utils
from hparams_config import Config
from ipu_utils.backends.devices import get_device
from ipu_utils.backends.foreseen import Foreseen, foresee_network
from ipu_utils.backends.tensorflow_cache import kept_file, prepare_kept
from ipu_utils.backends.tensorflow_pipeline import TensorFlowPipeline, images_as
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import RunConfig
from ipu_utils.data.tf_batches import open_dataset
from ipu_utils.executable import cache, fingerprint
from ipu_utils.executable.model_info import ModelInfo, info_of_run
from ipu_utils.model.network import prepare


class Backend:
    """See `ipu_utils.backends.open.open_throughput`."""

    def __init__(self, config: RunConfig, hparams: Config):
        tf.debugging.set_log_device_placement(config.output.debug)
        self._config, self._hparams = config, hparams
        self.device = get_device(config.device.device, config)
        size = utils.parse_image_size(hparams.image_size)
        self.batches = open_dataset(config.data, size, config.benchmark.benchmark_repeats, hparams.mean_rgb)

    @property
    def dataset(self) -> tf.data.Dataset:
        """What the device reads."""
        return images_as(self._config.model.io_precision.value, self.batches.dataset)

    def foresee(self) -> Foreseen:
        """Do as `prepare`, and build nothing but what tells whether a checkpoint can be loaded."""
        if self._config.device.executable_cache_dir is not None and self.device.kind != "ipu":
            opened = kept_file(self._config, self.device)[2]
            if opened is not None:
                return Foreseen(opened.header.weights, f"{opened.path} ({opened.origin})")
        return foresee_network(self._config, self._hparams, self.device)

    def prepare(self) -> Tuple[ModelInfo, TensorFlowPipeline]:
        """Build the network with its weights, or take it from a file; for errors see `model.network.prepare`."""
        if self._config.device.executable_cache_dir is not None and self.device.kind != "ipu":
            return prepare_kept(self._config, self._hparams, self.device)
        model = prepare(self._config, self._hparams, self.device)
        info = info_of_run(self._config, self._hparams, model._replace(origin=self._origin()))
        return info, TensorFlowPipeline(model.network, self._hparams, self._config.nms, model.precision, self.device)

    def _origin(self) -> Dict[str, Any]:
        """Of a network that is in no file; see `ipu_utils.executable.file.origin`."""
        on_ipu, nms = self.device.kind == "ipu", self._config.nms
        operator = ipu_nms.operator_files(nms.nms_mode.value) if on_ipu and nms.onchip_nms else ()
        versions = {**fingerprint.versions(), **(self.device.versions() if on_ipu else {})}
        return {
            "engine": self.device.description,
            "sources_sha256": fingerprint.of_sources(cache.PROGRAM if on_ipu else cache.GRAPH),
            "nms_operator_sha256": fingerprint.of_files(operator) if operator else None,
            "versions": versions,
        }
