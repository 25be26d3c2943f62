# SPDX-License-Identifier: Apache-2.0
"""What both scripts need of whatever computes a network. No TensorFlow.

A backend is opened for a run, prepares the network and compiles it. Its sessions load, run and detect, one batch at a
time: a latency run asks them for requests, a throughput run keeps several of them busy (`in_flight.Loop`). An IPU's
throughput runs all batches of a call as one program (`ipu_throughput`).
"""

from pathlib import Path
from typing import Any, ContextManager, List, NamedTuple, Optional, Protocol

import numpy as np

from ipu_utils.backends.streams import Streams
from ipu_utils.base.detections import Detections
from ipu_utils.executable.file import Executable, Header
from ipu_utils.executable.model_info import ModelInfo
from ipu_utils.measure.stages import Stages

TO_BE_COMPILED = "to be compiled"


class Preview(NamedTuple):
    """What a --dry-run says of the network, found out by whatever would compile it."""

    weights: str  # for the report
    executable: str  # where the network comes from: a file, or TO_BE_COMPILED
    header: Optional[Header] = None  # of a file that is given, whose options count


class Compiled(NamedTuple):
    """An executable in a file."""

    path: Path
    header: Header
    origin: str  # "given", "kept from an earlier run" or "compiled"
    executable: Optional[Executable] = None  # the file as it was read, on a host: what is started is what was checked
    seconds: Optional[float] = None  # that building the network and compiling it have taken; None where nothing was


class Hardware(NamedTuple):
    """What executes the network, for the report and the record."""

    kind: str  # "ipu", "gpu" or "cpu"
    name: str  # device and threads
    engine: str  # with its version
    streams: Optional[Streams]  # threads, streams, batches in flight; of an IPU there are none to set
    post_processing: str  # what computes detections, and where


class Results(NamedTuple):
    """One batch, detected."""

    ids: np.ndarray  # int32 [N]: which image of the source each row is, -1 for padding
    detections: Detections


class Session(Protocol):
    """One batch at a time: load, run, detect. For one thread."""

    def load(self, images: np.ndarray, scales: np.ndarray) -> None:
        """Take a batch of images [B, h, w, 3] of the network's size, and their scales [B] to the original."""

    def run(self) -> None:
        """Compute on what was loaded last; returns when the outputs are in host memory."""

    def detections(self) -> Detections:
        """Detections in the outputs computed last."""

    def candidates(self) -> Optional[float]:
        """Mean number of candidates an image in the outputs computed last; None where they do not reach the host."""


class Runtime(Protocol):
    """An executable that is loaded and waits for requests."""

    hardware: Hardware

    def sessions(self, count: int) -> List[Session]:
        """One for every request in flight; they may be used by different threads."""

    def close(self) -> None:
        """Free what can be freed."""


class Loop(Protocol):
    """What a throughput run calls and times."""

    hardware: Hardware
    stages: Stages  # what is seen of a batch's way; stays empty where one program runs many batches

    def call(self) -> List[Any]:
        """Run the batches of a call; returns one item a batch when all outputs are in host memory."""

    def results(self, outputs: Any) -> Results:
        """Detections of one item of a call, computed here if the device did not."""

    def candidates(self) -> Optional[float]:
        """Mean number an image of candidates above the score threshold, from an untimed pass over one batch.

        A candidate is an anchor, or in multi-class mode a pair of anchor and class. None where nothing can tell.
        """

    def detect(self, images: np.ndarray, scales: np.ndarray) -> Optional[Detections]:
        """Detections in a batch of images [B, h, w, 3] with scales [B], untimed; None where only programs run."""

    def span(self, label: str) -> ContextManager:
        """A mark for the device's profiler."""


class Batches(Protocol):
    """What a throughput run reads: `data.numpy_batches.Feed`, for an IPU `data.tf_batches.ImageBatches`."""

    source: Any  # an `ImageSource`
    count: int  # distinct images; falls when one of them turns out to be damaged and is skipped
    batch_size: int


class Backend(Protocol):
    """What a run opens. `prepare` comes before `compile`, and that before `start`."""

    def preview(self) -> Preview:
        """Do as `prepare`, and build nothing but what tells whether a checkpoint can be loaded.

        Raises:
          UserError: as `prepare` and `start`.
        """

    def prepare(self) -> ModelInfo:
        """Find the executable that was given or kept, or build the network with its weights.

        Raises:
          UserError: a given file does not fit this machine or the options, weights are missing where they matter, or
            what compiling needs is not installed.
        """

    def compile(self) -> Optional[Compiled]:
        """Compile what was built into a file, or return what was found; None where the program stays in memory."""


class LatencyBackend(Backend, Protocol):
    """Of the embedded script, and of all hosts; what it compiles is in a file always."""

    def start(self) -> Runtime:
        """Load the executable."""


class ThroughputBackend(Backend, Protocol):
    """Of the throughput script."""

    def open_batches(self) -> Batches:
        """Open what --dataset-type and --image-path name; comes before `prepare`, which takes longer."""

    def loop(self) -> Loop:
        """Compile what was built, and load it."""
