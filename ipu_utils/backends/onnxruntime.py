# SPDX-License-Identifier: Apache-2.0
"""Executables for ONNX Runtime. TensorFlow is imported only to build, in a process of its own where it can be."""

import dataclasses
from pathlib import Path
from typing import Tuple

from ipu_utils.backends.host import Make
from ipu_utils.base.errors import NotSupportedError
from ipu_utils.base.onnx_api import check_converter, converter_versions, engine_name
from ipu_utils.base.signals import temporary_folder
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable import cache, fingerprint
from ipu_utils.executable.build_process import build, preview_weights
from ipu_utils.executable.file import Header, write_executable


class Compiler:
    """See `ipu_utils.backends.host.Compiler`."""

    def __init__(self, config: RunConfig):
        self._config, self._engine = config, engine_name()  # Say now what is missing.

    def wanted(self) -> Header:
        chosen = self._config.model.model_precision
        precision = "float32" if chosen is None else chosen.value
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
        header, freeze = build(self._config, header)

        def make(path: Path) -> None:
            with temporary_folder("efficientdet-") as folder:
                write_executable(path, header, freeze(folder).path.read_bytes())

        return header, make

    def preview(self, header: Header) -> str:
        check_converter()
        return preview_weights(self._config, header)

    def detector(self, header: Header) -> Tuple[None, str]:
        return None, "libdetect"
