# SPDX-License-Identifier: Apache-2.0
"""The throughput of an IPU: one program runs all batches of a call. Needs Graphcore's TensorFlow."""

from pathlib import Path
from typing import Any, Callable, ContextManager, List

import numpy as np

import ipu_nms
from ipu_utils.backends import ipu
from ipu_utils.backends.contract import TO_BE_COMPILED, Hardware, Preview
from ipu_utils.backends.ipu_step import Step, images_as
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import RunConfig
from ipu_utils.data.tf_batches import ImageBatches, open_dataset
from ipu_utils.executable import cache, fingerprint
from ipu_utils.executable.model_info import ModelInfo, info_of_run
from ipu_utils.measure.stages import Stages
from ipu_utils.model.network import Prepared, prepare, preview_weights


class Loop:
    """See `ipu_utils.backends.contract.Loop`."""

    def __init__(self, device: ipu.IpuDevice, step: Step, batches: ImageBatches, call: Callable[[], List[Any]]):
        self._call, self._batches = call, batches
        self.results, self._device = step.results, device
        self.stages = Stages()  # stays empty: the host sees nothing of a batch inside of the program
        self.hardware = Hardware("ipu", device.name, device.description, None, step.post_processing)

    def call(self) -> List[Any]:
        """Run the program, and fetch what it computed."""
        with self._batches.user_errors():
            return self._call()

    def candidates(self) -> None:
        """An IPU runs nothing but compiled programs, and compiling another one takes minutes."""

    def detect(self, images: np.ndarray, scales: np.ndarray) -> None:
        """As for `candidates`."""

    def span(self, label: str) -> ContextManager:
        """A mark for PopVision."""
        return self._device.span(label)


class Backend:
    """See `ipu_utils.backends.contract.ThroughputBackend`."""

    def __init__(self, config: RunConfig, folder: Path):
        """Open the IPU; `folder` is not needed, as Poplar keeps its programs itself."""
        tf.debugging.set_log_device_placement(config.output.debug)
        self._config, self._hparams = config, cache.hparams_of(config)
        self._device = ipu.create(config)

    def open_batches(self) -> ImageBatches:
        config, hparams = self._config, self._hparams
        repeats = config.benchmark.benchmark_repeats
        self._batches = open_dataset(config.data, tuple(hparams.image_size), repeats, hparams.mean_rgb)
        return self._batches

    def preview(self) -> Preview:
        return Preview(preview_weights(self._config, self._hparams, self._device), TO_BE_COMPILED)

    def prepare(self) -> ModelInfo:
        self._model: Prepared = prepare(self._config, self._hparams, self._device)
        on_chip, nms = self._config.nms.onchip_nms, self._config.nms
        operator = ipu_nms.operator_files(nms.nms_mode.value) if on_chip else ()
        origin = {
            "engine": self._device.description,
            "sources_sha256": fingerprint.of_sources(cache.PROGRAM),
            "nms_operator_sha256": fingerprint.of_files(operator) if operator else None,
            "versions": {**fingerprint.versions(), **self._device.versions()},
        }
        return info_of_run(self._config, self._hparams, self._model, origin)

    def compile(self) -> None:
        """Poplar compiles in `loop`, and keeps the program itself."""

    def loop(self) -> Loop:
        config = self._config
        step = Step(self._model.network, self._hparams, config.nms, self._model.precision)
        dataset = images_as(config.model.io_precision.value, self._batches.dataset)
        with self._device.scope():
            call = self._device.compile(step, dataset, config.benchmark.benchmark_repeats)
        return Loop(self._device, step, self._batches, call)
