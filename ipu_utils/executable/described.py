# SPDX-License-Identifier: Apache-2.0
"""A network that comes from a file, as the report describes it. No TensorFlow."""

from typing import Tuple

from ipu_utils.executable.file import Header, origin, weights_identity


class Model:
    """What the report says about the network; see `ipu_utils.model.network.Prepared`, which was built."""

    def __init__(self, header: Header):
        self.precision, self.weights, self.random = header.precision, header.weights, header.random_weights
        self.origin, self._header = origin(header), header

    def identity(self) -> Tuple[str, str]:
        """SHA-256 of the weights, and of what it is."""
        return weights_identity(self._header)
