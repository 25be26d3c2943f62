# SPDX-License-Identifier: Apache-2.0
"""Run a compiled model: NumPy, Pillow, OpenVINO and libdetect.so, no TensorFlow.

from ipu_utils.executable.runtime import EmbeddedModel

model = EmbeddedModel.load("efficientdet-d0.effdet")
boxes, scores, classes = model.detect(image)                 # image: uint8 [H, W, 3], RGB, any size
names = [model.header.label_map.get(number, str(number)) for number in classes]
"""

import threading
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from ipu_utils.base import hardware
from ipu_utils.base.detections import Detections, ImageDetections
from ipu_utils.base.errors import UserError
from ipu_utils.base.openvino_api import OPENVINO_TYPES, engine_name, import_openvino, properties
from ipu_utils.base.printable import one_line
from ipu_utils.data.resize import fit_image
from ipu_utils.executable import fingerprint
from ipu_utils.executable.file import Executable, ExecutableError, Header, read_executable, target_difference
from ipu_utils.executable.ports import Port, mismatch, output_names
from ipu_utils.measure.objects import mean_candidates
from ipu_utils.nms.anchors import Anchors
from ipu_utils.nms.libdetect import Detector
from ipu_utils.nms.nms_settings import nms_settings

ALIGNMENT = 64  # bytes: a vector, and a line of the cache
# Class outputs that one thread of post-processing reads. Starting a second one costs as long as reading this much.
BYTES_A_THREAD = 32 << 20
TYPES = {"u8": "uint8", **{name: ours for ours, name in OPENVINO_TYPES.items()}}  # from OpenVINO's names


def aligned_zeros(shape: Sequence[int], type_name: str) -> np.ndarray:
    """An array that starts at a multiple of ALIGNMENT; bfloat16, which NumPy lacks, is held as uint16."""
    dtype = np.dtype("uint16" if type_name == "bfloat16" else type_name)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


class _Compiled(NamedTuple):
    """A network in OpenVINO and the mapping of the file that its weights lie in: it must not go before the network."""

    network: Any
    file: np.ndarray


class Session:
    """One request at a time: input, outputs of the network, and detections from them. Not for several threads."""

    def __init__(self, compiled: "_Compiled", header: Header, detector: Detector):
        openvino = import_openvino()
        self._compiled, self._header = compiled, header
        compiled = compiled.network
        self._request, self._detector, self._output_type = compiled.create_infer_request(), detector, header.output_type
        self._images = aligned_zeros((header.batch_size, *header.image_size, 3), header.input_type)
        self._scales = np.ones(header.batch_size, np.float32)
        self._request.set_input_tensor(openvino.Tensor(self._images, shared_memory=True))
        classes, boxes = output_names(header)
        outputs = []
        for name in classes + boxes:
            port = compiled.output(name)
            output = aligned_zeros(tuple(port.shape), header.output_type)
            # The network writes where libdetect reads.
            self._request.set_tensor(port, openvino.Tensor(output, port.shape, port.element_type))
            outputs.append(output)
        self.class_outputs, self.box_outputs = outputs[: len(classes)], outputs[len(classes) :]

    def load(self, images: np.ndarray, scales: np.ndarray) -> None:
        """Copy a batch into the input: images [B, h, w, 3] of the network's size, scales [B] to the original."""
        np.copyto(self._images, images, casting="unsafe")
        self._scales[:] = scales

    def run(self) -> None:
        """Compute the network's outputs from the images loaded last."""
        self._request.infer()

    def detections(self) -> Detections:
        """Detect in the outputs computed last; boxes in pixels of the original images."""
        return self._detector.run(self.class_outputs, self.box_outputs, self._scales, dtype=self._output_type)

    def candidates(self) -> float:
        """Mean number of candidates an image in the outputs computed last."""
        header = self._header
        threshold = header.nms_configs.get("score_thresh")
        return mean_candidates(self.class_outputs, header.num_classes, threshold, header.nms_mode == "multi-class")


class EmbeddedModel:
    """A compiled model in memory. `detect` answers one thread after the other; for more, take a `session` for each.

    Attributes:
      header: everything that the file says about the model: see `ipu_utils.executable.file.Header`.
      path: the file.
      num_threads: threads that the network runs on.
    """

    def __init__(self, executable: Executable, num_threads: Optional[int] = None, num_streams: Optional[int] = None):
        openvino = import_openvino()
        header = executable.header
        self.header, self.path = header, executable.path
        _check_machine(executable, openvino)
        self._compiled = _import(openvino, executable, num_threads, num_streams)
        _check_ports(executable, self._compiled.network)
        self.num_threads = self._compiled.network.get_property("INFERENCE_NUM_THREADS")
        # With several streams each post-processes in its own thread.
        self._detector = make_detector(header, self.num_threads if num_streams is None else 1)
        self._session, self._lock = self.session(), threading.Lock()

    @classmethod
    def load(
        cls, path: Union[str, Path], num_threads: Optional[int] = None, num_streams: Optional[int] = None
    ) -> "EmbeddedModel":
        """Load an executable.

        Args:
          path: a file that `ipu_embedded_inference.py --exec-output-dir` wrote.
          num_threads: threads of the network; None: what OpenVINO finds best, one a core of one socket.
          num_streams: requests that are computed side by side; None: one, for the lowest latency.

        Raises:
          ExecutableError: the file is damaged, or was compiled by another version of OpenVINO or for another CPU.
          UserError: OpenVINO or libdetect.so is missing.
        """
        return cls(read_executable(path), num_threads, num_streams)

    def session(self) -> Session:
        """A request of its own, with its own memory; all of them share the weights."""
        return Session(self._compiled, self.header, self._detector)

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


def make_detector(header: Header, num_threads: Optional[int] = None) -> Detector:
    """Return the post-processing that a header describes."""
    anchors = Anchors(**header.anchors, image_size=header.image_size)
    levels = anchors.feat_sizes[anchors.min_level : anchors.max_level + 1]
    nms = nms_settings(header.nms_configs)
    item = 2 if header.output_type in ("bfloat16", "float16") else 4
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


def _check_machine(executable: Executable, openvino: Any) -> None:
    found = machine_differences(executable.header, engine_name(openvino))
    if found:
        raise ExecutableError(
            f"{executable.path} cannot run here: {'; '.join(found)}. Compile it on this machine: "
            "--exec-output-dir FOLDER with the model's options."
        )


def _check_ports(executable: Executable, network: Any) -> None:
    problem = mismatch(executable.header, _ports(network.inputs), _ports(network.outputs))
    if problem is not None:
        raise ExecutableError(
            f"{executable.path} is not what it says it is: {problem}. Compile it again, and take executables only from "
            "people you trust."
        )


def _ports(found: Sequence[Any]) -> List[Port]:
    """Describe the inputs or outputs of a compiled network."""
    shapes = [port.partial_shape for port in found]
    return [
        Port(
            tuple(port.names),
            tuple(shape.to_shape()) if shape.is_static else None,
            TYPES.get(port.element_type.get_type_name(), port.element_type.get_type_name()),
        )
        for port, shape in zip(found, shapes)
    ]


def _import(openvino: Any, executable: Executable, num_threads: Optional[int], num_streams: Optional[int]) -> _Compiled:
    header = executable.header
    settings = properties(header.precision, num_threads, num_streams)
    file, core = executable.network(), openvino.Core()
    try:
        try:
            network = core.import_model(openvino.Tensor(file, shared_memory=True), "CPU", settings)
        except TypeError:  # Releases before 2026 take bytes, and copy them.
            network = core.import_model(file.tobytes(), "CPU", settings)
        return _Compiled(network, file)
    except RuntimeError as error:
        raise ExecutableError(
            f"{executable.path} cannot be loaded by OpenVINO: {one_line(error)}. Compile it again."
        ) from error
