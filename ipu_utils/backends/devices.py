# SPDX-License-Identifier: Apache-2.0
"""Opening the devices that TensorFlow runs on."""

import importlib
from typing import Any, Optional

from ipu_utils.backends.contract import Device


def get_device(kind: str, config: Optional[Any] = None) -> Device:
    """Open a device. The module is imported on demand: no SDK is needed for the devices one does not use.

    Args:
      kind: "ipu", "gpu" or "cpu", as `hardware.choose_device` resolves it; a CPU and a GPU run TensorFlow.
      config: the run's `RunConfig`; hosts read its `device`, the IPU its own part too.
    """
    if kind == "ipu":
        return importlib.import_module("ipu_utils.backends.ipu").create(config)
    host = importlib.import_module("ipu_utils.backends.tensorflow_device")
    if config is None:
        return host.HostDevice(kind)
    return host.HostDevice(kind, config.device.num_threads, config.device.num_streams)
