# SPDX-License-Identifier: Apache-2.0
"""Executables for LiteRT on a CPU. TensorFlow is imported only to build, in a process of its own where it can be."""

from ipu_utils.backends.converted import Converted
from ipu_utils.base.errors import NotSupportedError
from ipu_utils.base.litert_api import engine_name
from ipu_utils.config.run_config import Precision, RunConfig
from ipu_utils.executable import cache, fingerprint
from ipu_utils.executable.engines import ENGINES
from ipu_utils.executable.file import Header


class Compiler(Converted):
    """See `ipu_utils.backends.host.Compiler`."""

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self._engine = engine_name()  # Say now what is missing.

    def wanted(self) -> Header:
        chosen = self._config.model.model_precision
        precision = ENGINES["litert"].own_precision(self._config.device.device) if chosen is None else chosen.value
        if precision not in ("float32", "int8"):
            raise NotSupportedError(
                f"--engine litert computes in float and int8, not in {chosen.word}: use --model-precision float, or "
                "--engine openvino."
            )
        if precision == "int8" and self._config.model.io_precision is Precision.HALF:
            raise NotSupportedError(
                "--engine litert takes no images in half with int8: use --io-precision uint8 or float."
            )
        features = fingerprint.cpu_features()
        return cache.plan(self._config, precision, precision, self._engine, features, builder=cache.LITE)
