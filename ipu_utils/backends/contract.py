# SPDX-License-Identifier: Apache-2.0
"""The benchmark's one contract with hardware, and the door to the devices that fulfil it."""

import importlib
from typing import Any, Callable, ContextManager, List, Optional, Protocol

from ipu_utils.measure.stages import Stages


class Device(Protocol):
    """What the benchmark needs from hardware: the modules `host`, `openvino_host` and `ipu` provide it."""

    kind: str  # "ipu", "gpu" or "cpu"
    name: str  # printed with every result
    engine: str  # what executes the network, with its version; printed too
    stages: Stages  # what the device sees of a batch's way; stays empty where one program runs many batches

    def default_precision(self) -> str:
        """Type name ("float32", "float16", "bfloat16") that suits the device."""

    def check_precision(self, precision: str) -> None:
        """Raise UserError when the device cannot compute in that precision."""

    def dtype_policy(self, precision: str) -> str:
        """Name of the Keras policy under which the network computes in `precision` here."""

    def swish(self, features: Any) -> Any:
        """The same function everywhere, fused where it can be."""

    def scope(self) -> ContextManager:
        """Build variables and run inside it."""

    def span(self, label: str) -> ContextManager:
        """A mark for the profiler; does nothing where there is none."""

    def compile(self, step: Callable, dataset: Any, batches: int) -> Callable[[], List]:
        """Return a call that runs `step` on `batches` batches and returns when all outputs are in host memory.

        `dataset` yields tuples of tensors with static shapes: the arguments of `step`, which returns a tuple of
        tensors. The call returns one tuple of NumPy arrays a batch. (For OpenVINO both are of another kind, as the
        network is compiled already: see `openvino_host`.)
        """


def get_device(kind: str, config: Optional[Any] = None) -> Device:
    """Open a device. The module is imported on demand: no SDK is needed for the devices one does not use.

    Args:
      kind: "ipu", "gpu" or "cpu", as `detect.choose_device` resolves it. A CPU and a GPU run TensorFlow; for OpenVINO
        see `ipu_utils.backends.open`.
      config: the run's `RunConfig`; hosts read its `device`, the IPU its own part too.
    """
    if kind == "ipu":
        return importlib.import_module("ipu_utils.backends.ipu").create(config)
    host = importlib.import_module("ipu_utils.backends.tensorflow_device")
    if config is None:
        return host.HostDevice(kind)
    return host.HostDevice(kind, config.device.num_threads, config.device.num_streams)
