# SPDX-License-Identifier: Apache-2.0
"""Executables for ONNX Runtime. TensorFlow is imported only to build, in a process of its own where it can be."""

import dataclasses
from typing import Tuple

from ipu_utils.backends.converted import Converted
from ipu_utils.backends.host import Make
from ipu_utils.base.errors import NotSupportedError
from ipu_utils.base.onnx_api import check_converter, converter_versions, engine_name
from ipu_utils.config.run_config import RunConfig
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
        precision = ENGINES["onnxruntime"].own_precision(self._config.device.device) if chosen is None else chosen.value
        if precision != "float32":
            raise NotSupportedError(
                f"--engine onnxruntime computes in float, not in {chosen.word}: use --model-precision float, or "
                "another engine."
            )
        features = fingerprint.cpu_features()
        header = cache.plan(self._config, precision, precision, self._engine, features, builder=cache.ONNX)
        return dataclasses.replace(header, versions={**header.versions, **converter_versions()})

    def build(self, header: Header) -> Tuple[Header, Make]:
        check_converter()  # before the network is built, which takes its time
        return super().build(header)

    def preview(self, header: Header) -> str:
        check_converter()
        return super().preview(header)
