# SPDX-License-Identifier: Apache-2.0
"""The pipeline in OpenVINO: an executable, and libdetect behind it. No TensorFlow.

Without on-device NMS the outputs are (ids, scales, *class_outputs, *box_outputs), where bfloat16 is held as uint16.
"""

from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.backends.pipeline import Results
from ipu_utils.base.detections import Detections
from ipu_utils.executable.file import Executable, Header, read_executable
from ipu_utils.executable.runtime import EmbeddedModel, Session
from ipu_utils.measure.stages import DEVICE, INPUT, OUTPUT, POST_PROCESSING, Stages


def _nothing() -> None:
    """The file is there."""


class OpenVinoPipeline:
    """See `ipu_utils.backends.pipeline.Pipeline`; it is its own step for `ipu_utils.backends.openvino_device`."""

    def __init__(
        self,
        path: Path,
        header: Header,
        onchip_nms: bool,
        make: Callable[[], None] = _nothing,
        executable: Optional[Executable] = None,
    ):
        """Describe the executable in a file.

        Args:
          path: the file. header: what is, or is going to be, in it.
          onchip_nms: detections are computed in the timed call.
          make: writes the file, before it is loaded.
          executable: the file, where it was read and found to fit already.
        """
        self._executable = executable
        self._path, self._make, self._onchip_nms = path, make, onchip_nms
        self._model: Optional[EmbeddedModel] = None
        self._levels = header.anchors["max_level"] - header.anchors["min_level"] + 1
        self.pixels = header.batch_size * header.image_size[0] * header.image_size[1]
        self.nms_implementation = f"libdetect, {'behind the network' if onchip_nms else 'on the host after the call'}"

    @property
    def step(self) -> "OpenVinoPipeline":
        return self

    def load(self, num_threads: Optional[int], num_streams: int, workers: int, stages: Stages) -> List[Callable]:
        """See `ipu_utils.backends.openvino_device.Step`."""
        self._make()
        self._make = _nothing  # and with it the network that was compiled goes
        executable = read_executable(self._path) if self._executable is None else self._executable
        self._model = EmbeddedModel(executable, num_threads, num_streams)
        return [self._runner(self._model.session(), stages) for _ in range(workers)]

    def _runner(self, session: Session, stages: Stages) -> Callable:
        def run(images: np.ndarray, scales: np.ndarray, ids: np.ndarray) -> Tuple[np.ndarray, ...]:
            with stages.span(INPUT):
                session.load(images, scales)
            with stages.span(DEVICE):
                session.run()
            if self._onchip_nms:
                with stages.span(POST_PROCESSING):
                    return (ids, *session.detections())
            with stages.span(OUTPUT):  # The next batch is written where these lie.
                return (ids, scales, *(output.copy() for output in session.class_outputs + session.box_outputs))

        return run

    def postprocess(self, outputs: Sequence[np.ndarray]) -> Results:
        """See `ipu_utils.backends.pipeline.Pipeline`."""
        ids, found = outputs[0], outputs[1:]
        if not self._onchip_nms:
            heads = found[1:]
            found = self._model.postprocess(heads[: self._levels], heads[self._levels :], found[0])
        return Results(ids, Detections(*found))

    def count_candidates(self, images: Any) -> float:
        """See `ipu_utils.backends.pipeline.Pipeline`."""
        session = self._model.session()
        session.load(images, 1.0)
        session.run()
        return session.candidates()
