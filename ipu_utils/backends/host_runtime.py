# SPDX-License-Identifier: Apache-2.0
"""An executable that is loaded on a host, with detections right behind the network. No TensorFlow."""

from typing import List, Optional, Sequence

import numpy as np

from ipu_utils.backends.contract import Compiled, Hardware
from ipu_utils.backends.streams import Streams, streams_of
from ipu_utils.base.detections import Detections
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable.runtime import EmbeddedModel, PostProcessing, Session


class HostRuntime:
    """See `ipu_utils.backends.contract.Runtime`."""

    def __init__(self, compiled: Compiled, config: RunConfig, detector: Optional[PostProcessing], name: str):
        """Load it: for single requests in the embedded script, for as many streams as suit the engine in the other.

        Args:
          detector: what computes detections; None: libdetect. name: of it, for the report.
        """
        header, device = compiled.header, config.device
        threads, streams, engine = device.num_threads, device.num_streams, header.engine
        planned: Optional[Streams] = None
        if config.embedded is None:
            height, width = header.image_size
            planned = streams_of(device.engine, threads, streams, header.batch_size * height * width)
            threads, streams = planned.threads, planned.streams
        self._model = EmbeddedModel(compiled.executable, threads, streams, device.device, detector)
        if planned is None:
            planned = Streams(self._model.num_threads, self._model.num_streams, config.embedded.requests_in_flight)
        else:
            planned = planned._replace(streams=self._model.num_streams)
            engine = f"{engine}, {planned}"
        behind = config.nms.onchip_nms or config.embedded is not None
        where = "behind the network" if behind else "on the host after the call"
        self.hardware = Hardware(device.device, self._model.device_name, engine, planned, f"{name}, {where}")

    def sessions(self, count: int) -> List[Session]:
        """One for every request in flight."""
        return [self._model.session() for _ in range(count)]

    def postprocess(
        self, class_outputs: Sequence[np.ndarray], box_outputs: Sequence[np.ndarray], scales: np.ndarray
    ) -> Detections:
        """Detect in outputs that a session computed."""
        return self._model.postprocess(class_outputs, box_outputs, scales)

    def close(self) -> None:
        """Nothing is left to do: memory is freed with the object."""
