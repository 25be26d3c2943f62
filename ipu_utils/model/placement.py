# SPDX-License-Identifier: Apache-2.0
"""What building a network needs to know of the device that it is for. No TensorFlow."""

from typing import Any, ContextManager, Protocol


class Placement(Protocol):
    """What building a network needs to know of the device: every device of `ipu_utils.backends` provides it."""

    kind: str  # "ipu", "gpu" or "cpu"

    def default_precision(self) -> str:
        """Type name ("float32", "float16", "bfloat16") that suits the device."""

    def check_precision(self, precision: str) -> None:
        """Raise UserError when the device cannot compute in that precision."""

    def dtype_policy(self, precision: str) -> str:
        """Name of the Keras policy under which the network computes in `precision` here."""

    def swish(self, features: Any) -> Any:
        """The same function everywhere, fused where it can be."""

    def scope(self) -> ContextManager:
        """Build variables inside it."""
