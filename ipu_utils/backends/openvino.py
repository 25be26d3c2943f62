# SPDX-License-Identifier: Apache-2.0
"""Executables for OpenVINO on a CPU. TensorFlow is imported only to build, in a process of its own where it can be."""

import functools
from typing import Tuple

from ipu_utils.backends.host import Make
from ipu_utils.base import machine
from ipu_utils.base.openvino_api import check_precision, engine_name, import_openvino
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable import cache, fingerprint
from ipu_utils.executable.build_process import build, compile_into, preview_weights
from ipu_utils.executable.calibration import calibration_of
from ipu_utils.executable.engines import ENGINES
from ipu_utils.executable.file import Header
from ipu_utils.executable.quantise_openvino import import_nncf


def wanted(config: RunConfig) -> Header:
    """Describe the executable that a run asks for."""
    chosen = config.model.model_precision
    precision = ENGINES["openvino"].own_precision("cpu") if chosen is None else chosen.value
    # The network writes bfloat16 and libdetect reads it; float32 would be a conversion of every output.
    output_type = precision if precision == "bfloat16" else "float32"
    engine, features = engine_name(import_openvino()), fingerprint.cpu_features()
    options = {"nncf": machine.package_version("nncf")} if precision == "int8" else None
    return cache.plan(config, precision, output_type, engine, features, options)


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
        config, batches = self._config, None
        if header.precision == "int8":
            import_nncf()  # Say now that it is missing.
            images = calibration_of(config, cache.hparams_of(config), header.random_weights)
            batches = images.batches(header.batch_size)
        header, freeze = build(config, header)
        threads = config.device.num_threads
        make = functools.partial(compile_into, header=header, freeze=freeze, num_threads=threads, calibration=batches)
        return header, make

    def preview(self, header: Header) -> str:
        if header.precision == "int8":
            import_nncf()
        return preview_weights(self._config, header)

    def detector(self, header: Header) -> Tuple[None, str]:
        return None, "libdetect"
