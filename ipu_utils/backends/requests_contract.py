# SPDX-License-Identifier: Apache-2.0
"""What the latency script needs from a backend."""

from pathlib import Path
from typing import List, NamedTuple, Optional, Protocol

import numpy as np

from ipu_utils.backends.foreseen import Foreseen
from ipu_utils.base.detections import Detections
from ipu_utils.executable.file import Executable, Header


class Opened(NamedTuple):
    """An executable in a file."""

    path: Path
    header: Header
    compile_seconds: float  # 0 when the file was there
    origin: str  # "given", "kept from an earlier run" or "compiled"
    executable: Optional[Executable] = None  # the file as it was read, on a host: what is started is what was checked


class Session(Protocol):
    """One request at a time: load, run, detections."""

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

    header: Header
    device: str  # hardware and engine, printed with every result
    post_processing: str  # what computes detections, and where
    load_seconds: float
    num_threads: Optional[int]  # of an IPU there are none to set
    num_streams: Optional[int]

    def sessions(self, count: int) -> List[Session]:
        """One for every request in flight; they may be used by different threads."""

    def close(self) -> None:
        """Free what can be freed."""


class Backend(Protocol):
    """Compiles and starts executables for one kind of device: `OpenVinoBackend` and `IpuBackend`."""

    def executable(self, folder: Path) -> Opened:
        """Return the executable that was given, or the kept one of `folder` when it fits, or compile it into `folder`.

        Raises:
          UserError: a given file does not fit this machine or the options, or what compiling needs is missing.
        """

    def foresee(self, folder: Path) -> Foreseen:
        """Do as `executable`, up to where something would be compiled; a checkpoint is loaded, a file is started.

        Raises:
          UserError: as `executable` and `start`.
        """

    def start(self, opened: Opened) -> Runtime:
        """Load the executable."""
