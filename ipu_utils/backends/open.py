# SPDX-License-Identifier: Apache-2.0
"""Which backend executes the network of a run, by --device and --engine; and opening it."""

import dataclasses
import importlib
from typing import Any, Optional

from ipu_utils.backends import requests_contract
from ipu_utils.base.errors import UserError
from ipu_utils.base.openvino_api import import_openvino
from ipu_utils.config.run_config import RunConfig
from ipu_utils.nms import libraries


def _missing() -> Optional[str]:
    """What OpenVINO lacks to run the network here, with the way to get it; None when nothing does."""
    try:
        import_openvino()
    except UserError as error:
        return str(error).rstrip(".")
    library = libraries.libdetect_path()
    return None if library.is_file() else str(libraries.missing(library)).rstrip(".")


def choose_engine(config: RunConfig) -> RunConfig:
    """Resolve `--engine auto`: OpenVINO on a CPU where it can be used, TensorFlow elsewhere; a note says why not.

    Raises:
      UserError: OpenVINO was asked for and cannot be used.
    """
    device, asked = config.device.device, config.device.engine
    notes = config.notes
    if device == "gpu" and asked == "openvino":
        raise UserError("--engine openvino computes on a CPU: add --device cpu, or leave --engine out on a GPU.")
    engine = "tensorflow"
    if device == "cpu" and asked != "tensorflow":
        missing = _missing()
        if missing is None:
            engine = "openvino"
        elif asked == "openvino":
            raise UserError(missing + ".")
        else:
            notes += (f"the network runs in TensorFlow, which is slower on a CPU. {missing}.",)
    if engine == "openvino" and config.output.debug:
        notes += ("--debug has no effect: OpenVINO places nothing.",)
    return dataclasses.replace(config, device=dataclasses.replace(config.device, engine=engine), notes=notes)


def open_throughput(config: RunConfig, hparams: Any) -> Any:
    """Open device and data for a run whose engine is resolved; modules are imported on demand.

    Returns:
      An object with `device` (`backends.contract.Device`), `batches` (source, count, batch_size, user_errors()),
      `dataset` (what the device reads), and `prepare() -> (model, pipeline)`: weights, random, precision of the one;
      see `backends.pipeline.Pipeline` for the other.
    """
    module = importlib.import_module(f"ipu_utils.backends.{config.device.engine}")
    return module.Backend(config, hparams)


def open_latency(config: RunConfig) -> requests_contract.Backend:
    """Open the backend of a run's device, imported on demand: a host's start must not wait for TensorFlow."""
    if config.device.device == "ipu":
        return importlib.import_module("ipu_utils.backends.ipu_requests").IpuBackend(config)
    return importlib.import_module("ipu_utils.backends.openvino_requests").OpenVinoBackend(config)
