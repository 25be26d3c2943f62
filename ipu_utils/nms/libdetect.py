# SPDX-License-Identifier: Apache-2.0
"""Detections from head outputs without TensorFlow: NMS/host/build/libdetect.so through ctypes.

Imports NumPy alone. Arrays are handed over by their addresses; one that is not aligned for its type is copied, no other
is. The results are bit for bit those of
`ipu_nms.detect`, whose semantics are told in ipu_nms.py.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.base.detections import Detections
from ipu_utils.base.errors import UserError
from ipu_utils.base.quantisation import HeadQuantisation, Quantisation
from ipu_utils.nms import libraries
from ipu_utils.nms.nms_settings import IOU_THRESH, MAX_DETECTIONS, SCORE_THRESHOLDS

_INTERFACE = 3  # DETECT_INTERFACE of NMS/host/libdetect.h
_MODES = {"best-class": 0, "class-agnostic": 1, "multi-class": 2}
_DTYPES = {"float32": 0, "float16": 1, "bfloat16": 2, "int8": 3}
_MOST = 2**31 - 1  # ctypes cuts larger numbers off without a word
_Bytes = ctypes.c_char * 0  # as many as one likes


class _Config(ctypes.Structure):
    """`detect_config` of libdetect.h."""

    _fields_ = (
        ("anchors", ctypes.c_void_p),
        ("level_anchors", ctypes.c_void_p),
        ("num_levels", ctypes.c_int32),
        ("num_classes", ctypes.c_int32),
        ("mode", ctypes.c_int32),
        ("max_detections", ctypes.c_int32),
        ("iou_threshold", ctypes.c_float),
        ("score_threshold", ctypes.c_float),
        ("sigma", ctypes.c_float),
        ("image_height", ctypes.c_float),
        ("image_width", ctypes.c_float),
        ("threads", ctypes.c_int32),
        ("class_quantisation", ctypes.c_void_p),
        ("box_quantisation", ctypes.c_void_p),
    )


class _Quantisation(ctypes.Structure):
    """`detect_quantisation` of libdetect.h."""

    _fields_ = (("scale", ctypes.c_float), ("zero_point", ctypes.c_int32))


class Detector:
    """A configured detection, to be run on any number of batches, also by several threads at once."""

    def __init__(
        self,
        anchors: np.ndarray,
        level_anchors: Sequence[int],
        num_classes: int,
        image_size: Tuple[int, int],
        iou_threshold: float = IOU_THRESH,
        score_threshold: float = SCORE_THRESHOLDS["deployment"],
        sigma: float = 0.0,
        max_detections: int = MAX_DETECTIONS,
        mode: str = "best-class",
        threads: int = 1,
        quantisation: Optional[HeadQuantisation] = None,
    ):
        """Check and keep the configuration.

        Args:
          anchors: float32 [N, 4], corners in pixels, finest level first (`ipu_utils.nms.anchors.Anchors.boxes`).
          level_anchors: how many of them each level has, rows * columns * anchors a cell.
          image_size: (height, width) of the network's input.
          iou_threshold, score_threshold, sigma, max_detections (K): as of `ipu_nms.nms_op`; see also
            `ipu_utils.nms.nms_settings`.
          mode: "best-class", "class-agnostic" or "multi-class".
          threads: most threads a call uses: images of a batch, or parts of an image, are shared among them.
          quantisation: what int8 outputs stand for, where the network has those.

        Raises:
          CustomOpsNotFoundException: the library is not built.
          UserError: the configuration makes no sense.
        """
        if mode not in _MODES:
            raise UserError(f"NMS mode {mode!r}: expected one of {', '.join(_MODES)}.")
        for name, value in (("num_classes", num_classes), ("max_detections", max_detections), ("threads", threads)):
            if not 1 <= value <= _MOST:
                raise UserError(f"{name} is {value}: expected 1 to {_MOST}.")
        anchors = np.ascontiguousarray(anchors, np.float32)
        levels = np.ascontiguousarray(level_anchors, np.int64)
        if anchors.shape != (levels.sum(), 4):
            raise UserError(f"the levels have {levels.sum()} anchors, but anchors are {list(anchors.shape)}.")
        self._library = _library(libraries.libdetect_path())
        self._levels, self._num_classes, self._rows = levels.tolist(), num_classes, max_detections
        self._quantised = quantisation is not None
        units = (None, None) if quantisation is None else [_units(part, len(levels)) for part in quantisation]
        config = _Config(
            anchors=anchors.ctypes.data,
            level_anchors=levels.ctypes.data,
            num_levels=len(levels),
            num_classes=num_classes,
            mode=_MODES[mode],
            max_detections=max_detections,
            iou_threshold=iou_threshold,
            score_threshold=score_threshold,
            sigma=sigma,
            image_height=image_size[0],
            image_width=image_size[1],
            threads=threads,
            class_quantisation=None if units[0] is None else ctypes.addressof(units[0]),
            box_quantisation=None if units[1] is None else ctypes.addressof(units[1]),
        )
        message = ctypes.create_string_buffer(200)
        self._handle = self._library.detect_create(ctypes.byref(config), message, len(message))
        if not self._handle:
            raise UserError(f"detections cannot be configured: {message.value.decode()}.")

    def __del__(self):
        # Also after a failed __init__, which leaves no handle.
        if getattr(self, "_handle", None):
            self._library.detect_destroy(self._handle)
            self._handle = None

    def run(
        self,
        class_outputs: Sequence[Any],
        box_outputs: Sequence[Any],
        scales: Optional[np.ndarray] = None,
        class_ids: Optional[Sequence[Any]] = None,
        dtype: Optional[str] = None,
    ) -> Detections:
        """Detect in one batch.

        Args:
          class_outputs: logits of every level, finest first: [B, H, W, anchors * C] or any shape in that order, whose
            first axis is the batch. With `class_ids`: the greatest logit of each anchor, [B, H, W, anchors].
          box_outputs: regressions, [B, H, W, anchors * 4].
          scales: [B], factors for the boxes, from the network's input to the original image.
          class_ids: where the network computes the maxima itself, int32 [B, H, W, anchors] with the class of each,
            from 0 to C - 1.
          dtype: "float32", "float16", "bfloat16", or "int8" with a quantisation. None: the arrays' own. NumPy has no
            bfloat16: give it as uint16 arrays and name it here.

        Raises:
          UserError: an array has another size or type than the configuration asks for.
          MemoryError: there is no memory for the candidates.
        """
        dtype = np.asarray(class_outputs[0]).dtype.name if dtype is None else dtype
        if dtype not in _DTYPES:
            raise UserError(f"the head outputs are {dtype}: expected float32, float16, bfloat16 or int8.")
        if dtype == "int8" and not self._quantised:
            raise UserError("the head outputs are int8: give the Detector their quantisation.")
        storage = np.dtype("uint16" if dtype == "bfloat16" else dtype)
        batch = len(class_outputs[0])
        values = 1 if class_ids is not None else self._num_classes
        logits = self._checked("class_outputs", class_outputs, batch, values, storage)
        boxes = self._checked("box_outputs", box_outputs, batch, 4, storage)
        ids = None if class_ids is None else self._checked("class_ids", class_ids, batch, 1, np.dtype("int32"))
        if scales is not None:
            scales = _aligned(np.ascontiguousarray(scales, np.float32))
            if scales.shape != (batch,):
                raise UserError(f"scales must be [{batch}], one factor an image, got {list(scales.shape)}.")
        found = Detections(
            np.empty((batch, self._rows, 4), np.float32),
            np.empty((batch, self._rows), np.float32),
            np.empty((batch, self._rows), np.int32),
            np.empty(batch, np.int32),
            np.empty((batch, self._rows), np.int32),
        )
        status = self._library.detect_run(
            self._handle,
            _addresses(logits),
            None if ids is None else _addresses(ids),
            _addresses(boxes),
            _DTYPES[dtype],
            batch,
            None if scales is None else _address(scales),
            *map(_address, (found.boxes, found.scores, found.classes, found.indices, found.lengths)),
        )
        if status == 2:
            raise MemoryError("no memory for the candidates: raise the score threshold")
        if status == 3:
            raise UserError(f"class_ids has a class that is not 0 to {self._num_classes - 1}.")
        if status:
            raise UserError("class_ids do not go with mode multi-class: give the logits of all classes.")
        return found

    def _checked(self, name: str, arrays: Sequence[Any], batch: int, values: int, dtype: np.dtype) -> List[np.ndarray]:
        """Return the arrays, sure to lie in memory as the library will read them."""
        arrays = [_aligned(np.ascontiguousarray(array)) for array in arrays]
        if len(arrays) != len(self._levels):
            raise UserError(f"{name} has {len(arrays)} levels, expected {len(self._levels)}.")
        for array, anchors in zip(arrays, self._levels):
            if array.dtype != dtype or array.size != batch * anchors * values or len(array) != batch:
                raise UserError(
                    f"an array of {name} is {array.dtype} {list(array.shape)}, expected {dtype}, {batch} images and "
                    f"{anchors * values} values an image ({anchors} anchors of {values})."
                )
        return arrays


def _units(quantisations: Sequence[Quantisation], levels: int) -> Any:
    if len(quantisations) != levels:
        raise UserError(f"there are {len(quantisations)} quantisations for {levels} levels.")
    return (_Quantisation * levels)(*quantisations)


def _aligned(array: np.ndarray) -> np.ndarray:
    return array if array.flags.aligned else array.copy()


def _address(array: np.ndarray) -> int:
    # NumPy's own ways to tell an address build dictionaries first, and this runs 15 times a call.
    if array.flags.writeable:
        return ctypes.addressof(_Bytes.from_buffer(array))
    return array.ctypes.data


def _addresses(arrays: Sequence[np.ndarray]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*map(_address, arrays))


@functools.lru_cache(maxsize=None)
def _library(path: Path) -> ctypes.CDLL:
    if not path.is_file():
        raise libraries.missing(path)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise libraries.unloadable(path, error) from error
    library.detect_interface.restype = ctypes.c_int32
    if library.detect_interface() != _INTERFACE:
        raise libraries.outdated(path)
    pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    library.detect_create.restype = pointer
    library.detect_create.argtypes = [ctypes.POINTER(_Config), ctypes.c_char_p, i64]
    library.detect_destroy.restype = None
    library.detect_destroy.argtypes = [pointer]
    library.detect_run.restype = i32
    library.detect_run.argtypes = [pointer] * 4 + [i32, i64] + [pointer] * 6
    return library
