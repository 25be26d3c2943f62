# SPDX-License-Identifier: Apache-2.0
"""A run in OpenVINO on a CPU: an executable from --executable-cache-dir, or compiled for the run.

TensorFlow is imported only to compile.
"""

import functools
import tempfile
from pathlib import Path
from typing import Tuple

import utils
from hparams_config import Config
from ipu_utils.backends.foreseen import Foreseen
from ipu_utils.backends.openvino_device import OpenVinoDevice
from ipu_utils.backends.openvino_pipeline import OpenVinoPipeline
from ipu_utils.backends.openvino_requests import foresee_building, kept, place_of, wanted
from ipu_utils.config.run_config import RunConfig
from ipu_utils.data.numpy_batches import open_feed
from ipu_utils.executable import cache
from ipu_utils.executable.build_process import build, compile_into
from ipu_utils.executable.model_info import ModelInfo, info_of_file


class Backend:
    """See `ipu_utils.backends.open.open_throughput`."""

    def __init__(self, config: RunConfig, hparams: Config):
        self._config = config
        height, width = size = utils.parse_image_size(hparams.image_size)
        pixels = config.data.micro_batch_size * height * width
        self.device = OpenVinoDevice(pixels, config.device.num_threads, config.device.num_streams)
        self.dataset = self.batches = open_feed(config.data, size, config.benchmark.benchmark_repeats, hparams.mean_rgb)
        self._temporary = None  # the folder of an executable that is not kept, which goes with this object

    def foresee(self) -> Foreseen:
        """Do as `prepare`, and build nothing but what tells whether a checkpoint can be loaded."""
        header = wanted(self._config)
        self.device.check_precision(header.precision)
        path = place_of(self._config, header)
        opened = None if path is None else kept(self._config, header, path)
        if opened is None:
            return foresee_building(self._config, header)
        return Foreseen(opened.header.weights, f"{opened.path} ({opened.origin})")

    def prepare(self) -> Tuple[ModelInfo, OpenVinoPipeline]:
        """Find the executable, or build the network that loading it compiles; for errors see `build`."""
        header = wanted(self._config)
        self.device.check_precision(header.precision)
        path, onchip_nms = place_of(self._config, header), self._config.nms.onchip_nms
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="efficientdet-")
            path = Path(self._temporary.name) / cache.file_name(header)
        opened = kept(self._config, header, path)
        if opened is not None:
            pipeline = OpenVinoPipeline(path, opened.header, onchip_nms, executable=opened.executable)
            return info_of_file(opened.header), pipeline
        header, freeze = build(self._config, header)
        make = functools.partial(compile_into, path, header, freeze, self._config.device.num_threads)
        return info_of_file(header), OpenVinoPipeline(path, header, onchip_nms, make)
