# SPDX-License-Identifier: Apache-2.0
"""The engines that run executables on a host: what each of them provides, and the table of them. No TensorFlow.

An engine is a module here, which runs its files, and one of the same name in `ipu_utils.backends`, which makes them.
"""

import importlib
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Protocol

import numpy as np

from ipu_utils.base import hardware
from ipu_utils.base.quantisation import HeadQuantisation
from ipu_utils.executable.file import Executable, ExecutableError, Header


class Request(Protocol):
    """One batch under way in an engine: its input, and the outputs of the heads, all in host memory."""

    images: np.ndarray  # to be written: [B, h, w, 3] in the header's input type
    class_outputs: List[np.ndarray]  # of the last run, finest level first; bfloat16 as uint16, its bits
    box_outputs: List[np.ndarray]

    def run(self) -> None:
        """Compute the outputs of `images`; returns when they are there."""


class Network(Protocol):
    """An executable that an engine has loaded."""

    num_threads: int  # on which it runs
    num_streams: int  # requests that it computes side by side
    device_name: str  # device and threads, for reports
    quantisation: Optional[HeadQuantisation]  # of the outputs where they are int8, else None

    def request(self) -> Request:
        """A request with memory of its own; several may run at the same time."""


class Engine(Protocol):
    """What the module of an engine provides."""

    def engine_name(self) -> str:
        """Name and version, as executables and reports tell it; UserError where the engine is not installed."""

    def load(
        self, executable: Executable, num_threads: Optional[int], num_streams: Optional[int], kind: str
    ) -> Network:
        """Load an executable that this engine has compiled.

        Args:
          num_threads: of all streams together; None: what suits the engine.
          num_streams: requests that are computed side by side; None: one, for the lowest latency.
          kind: "cpu" or "gpu".

        Raises:
          ExecutableError: the network is not the one that the header describes, or cannot be loaded.
        """


class Entry(NamedTuple):
    """A row of the table."""

    title: str  # `engine_name` without the version
    module: Callable[[], Any]  # imports the engine, which may not be installed
    own_precision: Callable[[str], str]  # "cpu" or "gpu" -> type name it computes in where none is asked for


ENGINES: Dict[str, Entry] = {  # by the word of --engine
    "openvino": Entry(
        "OpenVINO", lambda: importlib.import_module("ipu_utils.executable.openvino"), hardware.default_precision
    ),
    "litert": Entry("LiteRT", lambda: importlib.import_module("ipu_utils.executable.litert"), lambda kind: "float32"),
    "onnxruntime": Entry(
        "ONNX Runtime", lambda: importlib.import_module("ipu_utils.executable.onnxruntime"), lambda kind: "float32"
    ),
    "tensorflow": Entry(
        "TensorFlow", lambda: importlib.import_module("ipu_utils.executable.tensorflow"), hardware.default_precision
    ),
}


def title_of(engine: str) -> str:
    """The name in what `Engine.engine_name` returns."""
    return engine.rpartition(" ")[0]


def word_of(header: Header, path: Path) -> str:
    """The word of --engine for what compiled an executable.

    Raises:
      ExecutableError: this release does not know it.
    """
    title = title_of(header.engine)
    for word, entry in ENGINES.items():
        if entry.title == title:
            return word
    known = ", ".join(entry.title for entry in ENGINES.values())
    raise ExecutableError(f"{path} was compiled by {header.engine}: expected one of {known}.")
