# SPDX-License-Identifier: Apache-2.0
"""Which backend executes the network of a run, by --device and --engine; and opening it."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any, Optional

from ipu_utils.backends import ipu_options
from ipu_utils.backends.host import HostBackend
from ipu_utils.base import onnx_api
from ipu_utils.base.errors import NotSupportedError, UserError
from ipu_utils.config.run_config import Precision, RunConfig
from ipu_utils.executable.engines import ENGINES, word_of
from ipu_utils.executable.file import ExecutableError, read_header
from ipu_utils.nms import libraries

# By the word of --engine: imported on demand, as a start from a file must not wait for TensorFlow.
COMPILERS = {
    "openvino": lambda: importlib.import_module("ipu_utils.backends.openvino"),
    "litert": lambda: importlib.import_module("ipu_utils.backends.litert"),
    "onnxruntime": lambda: importlib.import_module("ipu_utils.backends.onnxruntime"),
    "tensorflow": lambda: importlib.import_module("ipu_utils.backends.tensorflow"),
}
ON_GPU = ("onnxruntime", "tensorflow")  # the others compute on a CPU


def choose_engine(config: RunConfig) -> RunConfig:
    """Resolve `--engine auto`: on a CPU OpenVINO, for int8 LiteRT; TensorFlow elsewhere, and a note says why not.

    Raises:
      UserError: an engine was asked for and cannot be used, or a given executable is another engine's.
    """
    device, asked = config.device.device, config.device.engine
    notes = config.notes
    if device == "gpu" and asked not in ("auto", *ON_GPU):
        raise NotSupportedError(
            f"--engine {asked} computes on a CPU: add --device cpu, or leave --engine out on a GPU."
        )
    given = None if config.embedded is None else config.embedded.exec_file
    engine = "tensorflow"
    on_gpu = device == "gpu" and asked == "onnxruntime"
    if on_gpu:
        onnx_api.providers(device)  # Say now what is missing.
    if given is not None and (device == "cpu" or on_gpu):
        engine = _engine_of(given, asked)
    elif on_gpu or (device == "cpu" and asked != "tensorflow"):
        is_int8 = config.model.model_precision is Precision.INT8
        first = "litert" if is_int8 else "openvino"  # the faster one: docs/INT8.md
        engine = first if asked == "auto" else asked
        why_not = missing(engine)
        if why_not is not None:
            if asked != "auto" or is_int8:
                raise UserError(why_not + ".")
            engine = "tensorflow"
            notes += (f"the network runs in TensorFlow, which is slower on a CPU. {why_not}.",)
    if engine != "tensorflow" and config.output.debug:
        notes += ("--debug has no effect: it is TensorFlow that tells where operations run.",)
    return dataclasses.replace(config, device=dataclasses.replace(config.device, engine=engine), notes=notes)


def missing(engine: str) -> Optional[str]:
    """What an engine lacks to run the network on a CPU here, with the way to get it; None when nothing does."""
    try:
        ENGINES[engine].module().engine_name()
    except UserError as error:
        return str(error).rstrip(".")
    return None if engine == "tensorflow" else libraries.libdetect_missing()  # it has operators of its own


def own_precision(config: RunConfig) -> Optional[str]:
    """The type name that a run computes in where no precision is asked for; None where its executable cannot tell.

    The engine need not be resolved: those that `auto` may take agree on it.
    """
    device, given = config.device, None if config.embedded is None else config.embedded.exec_file
    if given is not None:
        try:
            return None if device.device == "ipu" else read_header(given).precision
        except ExecutableError:
            return None
    if device.device == "ipu":
        return ipu_options.OWN_PRECISION
    return ENGINES["tensorflow" if device.engine == "auto" else device.engine].own_precision(device.device)


def _engine_of(path: Path, asked: str) -> str:
    try:
        header = read_header(path)
    except ExecutableError:
        return "openvino"  # which says so itself, when all else of the run was checked
    engine = word_of(header, path)
    if asked not in ("auto", engine):
        raise UserError(
            f"--engine {asked}: {path} was compiled by {header.engine}. Leave --engine out, or compile "
            "another with --exec-output-dir FOLDER."
        )
    return engine


def open_backend(config: RunConfig, folder: Path) -> Any:
    """Open the backend of a run whose engine is resolved.

    Args:
      folder: for what goes with the run.

    Returns:
      A `ThroughputBackend` or `LatencyBackend` of `ipu_utils.backends.contract`, by the script.
    """
    if config.device.device == "ipu":
        if config.embedded is None:
            return importlib.import_module("ipu_utils.backends.ipu_throughput").Backend(config, folder)
        return importlib.import_module("ipu_utils.backends.ipu_latency").Backend(config, folder)
    return HostBackend(config, folder, COMPILERS[config.device.engine]().Compiler(config))
