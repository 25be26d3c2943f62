# SPDX-License-Identifier: Apache-2.0
"""Run a compiled model: NumPy, Pillow, the engine that compiled it, and libdetect.so.

from ipu_utils.executable.runtime import EmbeddedModel

model = EmbeddedModel.load("efficientdet-d0.effdet")
boxes, scores, classes = model.detect(image)                 # image: uint8 [H, W, 3], RGB, any size
names = [model.header.label_map.get(number, str(number)) for number in classes]
"""

import threading
from pathlib import Path
from typing import Any, List, Optional, Protocol, Sequence, Tuple, Union

import numpy as np

from ipu_utils.base import hardware
from ipu_utils.base.detections import Detections, ImageDetections
from ipu_utils.base.errors import UserError
from ipu_utils.base.quantisation import HeadQuantisation, as_float32
from ipu_utils.data.resize import fit_image
from ipu_utils.executable import fingerprint
from ipu_utils.executable.engines import ENGINES, Network, word_of
from ipu_utils.executable.file import Executable, ExecutableError, Header, read_executable, target_difference
from ipu_utils.measure.objects import mean_candidates
from ipu_utils.nms.anchors import Anchors
from ipu_utils.nms.libdetect import Detector
from ipu_utils.nms.nms_settings import nms_settings

# Class outputs that one thread of post-processing reads. Starting a second one costs as long as reading this much.
BYTES_A_THREAD = 32 << 20


Levels = Sequence[np.ndarray]  # outputs of the heads, finest level first


class PostProcessing(Protocol):
    """What computes detections: `ipu_utils.nms.libdetect.Detector`, and what stands in for it."""

    def run(self, class_outputs: Levels, box_outputs: Levels, scales: np.ndarray, *, dtype: str) -> Detections:
        """See `ipu_utils.nms.libdetect.Detector.run`."""


class Session:
    """One request at a time: input, outputs of the network, and detections from them. Not for several threads."""

    def __init__(self, network: Network, header: Header, detector: PostProcessing):
        self._request, self._header, self._detector = network.request(), header, detector
        self._quantisation = network.quantisation
        self._scales = np.ones(header.batch_size, np.float32)

    @property
    def class_outputs(self) -> List[np.ndarray]:
        """Of the last run, finest level first: [B, h, w, anchors * classes], in the header's output type.

        bfloat16 comes as uint16, its bits; what int8 stands for is told by `float_outputs`.
        """
        return self._request.class_outputs

    @property
    def box_outputs(self) -> List[np.ndarray]:
        """Of the last run, finest level first: [B, h, w, anchors * 4]."""
        return self._request.box_outputs

    def load(self, images: np.ndarray, scales: np.ndarray) -> None:
        """Copy a batch into the input: images [B, h, w, 3] of the network's size, scales [B] to the original."""
        np.copyto(self._request.images, images, casting="unsafe")
        self._scales[:] = scales

    def run(self) -> None:
        """Compute the network's outputs from the images loaded last."""
        self._request.run()

    def detections(self) -> Detections:
        """Detect in the outputs computed last; boxes in pixels of the original images."""
        return self._detector.run(self.class_outputs, self.box_outputs, self._scales, dtype=self._header.output_type)

    def float_outputs(self) -> Tuple[List[np.ndarray], List[np.ndarray]]:
        """Copies in float32 of class outputs and box outputs: what numbers of other types stand for."""
        units = self._quantisation or HeadQuantisation([None] * len(self.class_outputs), [None] * len(self.box_outputs))
        outputs = (self.class_outputs, self.box_outputs)
        return tuple([as_float32(*pair) for pair in zip(*both)] for both in zip(outputs, units))

    def candidates(self) -> float:
        """Mean number of candidates an image in the outputs computed last."""
        header = self._header
        threshold = header.nms_configs.get("score_thresh")
        logits, _ = self.float_outputs()
        return mean_candidates(logits, header.num_classes, threshold, header.nms_mode == "multi-class")


class EmbeddedModel:
    """A compiled model in memory. `detect` answers one thread after the other; for more, take a `session` for each.

    Attributes:
      header: everything that the file says about the model: see `ipu_utils.executable.file.Header`.
      path: the file.
      num_threads: threads that the network runs on.
      device_name: device and threads, for reports.
    """

    def __init__(
        self,
        executable: Executable,
        num_threads: Optional[int] = None,
        num_streams: Optional[int] = None,
        kind: str = "cpu",
        detector: Optional[PostProcessing] = None,
    ):
        """Load what was read from a file; for the other arguments see `load`.

        Args:
          kind: "cpu" or "gpu".
          detector: computes detections; None: libdetect.
        """
        header = executable.header
        self.header, self.path = header, executable.path
        engine = ENGINES[word_of(header, executable.path)].module()
        _check_machine(executable, engine.engine_name())
        self._network: Network = engine.load(executable, num_threads, num_streams, kind)
        self.num_threads, self.device_name = self._network.num_threads, self._network.device_name
        self.num_streams = self._network.num_streams
        # With several streams each post-processes in its own thread.
        threads = self.num_threads if num_streams is None else 1
        self._detector = make_detector(header, threads, self._network.quantisation) if detector is None else detector
        self._session: Optional[Session] = None  # of `detect`, where that is called
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls, path: Union[str, Path], num_threads: Optional[int] = None, num_streams: Optional[int] = None
    ) -> "EmbeddedModel":
        """Load an executable.

        Args:
          path: a file that `ipu_embedded_inference.py --exec-output-dir` wrote.
          num_threads: threads of the network; None: what suits the engine (OpenVINO: one a core of one socket).
          num_streams: requests that are computed side by side; None: one, for the lowest latency.

        Raises:
          ExecutableError: the file is damaged, or was compiled by another version of its engine or for another CPU.
          UserError: the engine or libdetect.so is missing.
        """
        return cls(read_executable(path), num_threads, num_streams)

    def session(self) -> Session:
        """A request of its own, with its own memory; all of them share the weights."""
        return Session(self._network, self.header, self._detector)

    worker = session  # its name in earlier releases

    def postprocess(
        self, class_outputs: Sequence[np.ndarray], box_outputs: Sequence[np.ndarray], scales: np.ndarray
    ) -> Detections:
        """Detect in outputs that a session computed, of the types and shapes of its own."""
        return self._detector.run(class_outputs, box_outputs, scales, dtype=self.header.output_type)

    def detect(self, image: np.ndarray) -> ImageDetections:
        """Find objects in one image.

        Args:
          image: uint8 [H, W, 3], RGB, of any size: it is fitted into the network's input.

        Raises:
          UserError: the executable was compiled for batches of more than one image: use `session`.
          ValueError: the image is not a NumPy array, uint8 [H, W, 3] with pixels in it.
        """
        check_image(image)
        if self.header.batch_size != 1:
            raise UserError(
                f"{self.path} was compiled for batches of {self.header.batch_size} images: use session(), or compile "
                "it with --micro-batch-size 1."
            )
        fitted = fit_image(image, self.header.image_size, self.header.mean_rgb)
        with self._lock:
            self._session = self._session or self.session()
            self._session.load(fitted.image, fitted.scale_to_original)
            self._session.run()
            return self._session.detections().of_image(0)


def check_image(image: Any) -> None:
    """Raise ValueError unless an image is a NumPy array, uint8 [H, W, 3] with pixels in it."""
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"image must be a NumPy array, uint8 [H, W, 3], got {type(image).__name__}: "
            "ipu_utils.data.decode.read_image makes one of a file, np.asarray(image.convert('RGB')) of a Pillow image."
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"image must be uint8 [H, W, 3] with pixels in it, got {image.dtype} {list(image.shape)}: convert it to "
            "RGB."
        )


def make_detector(
    header: Header, num_threads: Optional[int] = None, quantisation: Optional[HeadQuantisation] = None
) -> Detector:
    """Return the post-processing that a header describes; `quantisation` is the network's."""
    anchors = Anchors(**header.anchors, image_size=header.image_size)
    levels = anchors.feat_sizes[anchors.min_level : anchors.max_level + 1]
    nms = nms_settings(header.nms_configs)
    item = {"int8": 1, "float32": 4}.get(header.output_type, 2)
    work = header.batch_size * len(anchors.boxes) * header.num_classes * item // BYTES_A_THREAD
    return Detector(
        anchors.boxes,
        [level["height"] * level["width"] * anchors.get_anchors_per_location() for level in levels],
        header.num_classes,
        header.image_size,
        nms.iou_thresh,
        nms.score_thresh,
        nms.sigma,
        nms.max_output_size,
        header.nms_mode,
        max(1, min(work, num_threads or hardware.usable_cores())),
        quantisation,
    )


def machine_differences(header: Header, engine: str) -> List[str]:
    """Say why this machine cannot run an executable; empty when it can."""
    found = []
    if header.engine != engine:
        found.append(f"it was compiled by {header.engine}, this is {engine}")
    target = fingerprint.cpu_features()
    if header.target != target:
        found.append(target_difference(header.target, target))
    return found


def _check_machine(executable: Executable, engine: str) -> None:
    found = machine_differences(executable.header, engine)
    if found:
        raise ExecutableError(
            f"{executable.path} cannot run here: {'; '.join(found)}. Compile it on this machine: "
            "--exec-output-dir FOLDER with the model's options."
        )
