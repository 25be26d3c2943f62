# SPDX-License-Identifier: Apache-2.0
"""Executables for OpenVINO on a CPU. TensorFlow is imported only to build, in a process of its own where it can be."""

import functools
from typing import Tuple

from ipu_utils.backends.host import Make
from ipu_utils.base import hardware
from ipu_utils.base.openvino_api import check_precision, engine_name, import_openvino
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable import cache, fingerprint
from ipu_utils.executable.build_process import build, compile_into, preview_weights
from ipu_utils.executable.file import Header


def wanted(config: RunConfig) -> Header:
    """Describe the executable that a run asks for."""
    chosen = config.model.model_precision
    precision = hardware.default_precision() if chosen is None else chosen.value
    # The network writes bfloat16 and libdetect reads it; float32 would be a conversion of every output.
    output_type = precision if precision == "bfloat16" else "float32"
    return cache.plan(config, precision, output_type, engine_name(import_openvino()), fingerprint.cpu_features())


class Compiler:
    """See `ipu_utils.backends.host.Compiler`."""

    def __init__(self, config: RunConfig):
        import_openvino()  # Say now what is missing.
        self._config = config

    def wanted(self) -> Header:
        header = wanted(self._config)
        check_precision(header.precision)
        return header

    def build(self, header: Header) -> Tuple[Header, Make]:
        header, freeze = build(self._config, header)
        threads = self._config.device.num_threads
        return header, functools.partial(compile_into, header=header, freeze=freeze, num_threads=threads)

    def preview(self, header: Header) -> str:
        return preview_weights(self._config, header)

    def detector(self, header: Header) -> Tuple[None, str]:
        return None, "libdetect"
