# SPDX-License-Identifier: Apache-2.0
"""Runs that take each photograph once: how long they are, and their results, written as they come. No TensorFlow.

Warm-up is a part of the pass where it can be: the first call of several is not counted, and what it finds is written.
"""

import contextlib
import dataclasses
import math
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.backends.contract import Loop, Session
from ipu_utils.backends.streams import streams_of
from ipu_utils.config.run_config import RunConfig, outlasting
from ipu_utils.config.run_hparams import hparams_of_run
from ipu_utils.data.sources import open_source
from ipu_utils.executable.file import ExecutableError, parse, read_header
from ipu_utils.launch.requests import COUNTED_BATCHES, Inputs
from ipu_utils.measure.objects import Objects, mean_objects
from ipu_utils.measure.requests import Client
from ipu_utils.outputs.writers import Outputs

LATE_SECONDS = 0.5  # for what an interrupted run has found and not written yet


def plan(batches: int, at_once: int) -> Tuple[int, int]:
    """Share batches out among calls that keep `at_once` batches under way, each at most once more than there are.

    A few are calls of one batch each: then no image comes twice. Of many, what is missing in the last call is little.

    Returns:
      Number of calls, and of batches in each.
    """
    if batches <= 2 * at_once:
        return batches, 1
    size = min(range(at_once, at_once // 2, -1), key=lambda size: -batches % size)
    return -(-batches // size), size


def planned(config: RunConfig) -> RunConfig:
    """Give a run that takes each photograph once its length; every other run stays as it is.

    Args:
      config: of this instance, with its share of the images, and with an engine that is resolved.

    Raises:
      UserError: there are no images.
    """
    if not config.benchmark.one_pass:
        return config
    images, batch_size = len(open_source(config.data, (1, 1), 1).own), _batch_size(config)
    batches, notes = -(-images // batch_size), list(config.notes)
    if config.embedded is not None:
        benchmark = dataclasses.replace(config.benchmark, num_repeats=batches)
        benchmark, rows = outlasting(dataclasses.replace(config, benchmark=benchmark), notes), batches * batch_size
    else:
        (calls, size), warmup = plan(batches, _at_once(config)), config.benchmark.warmup
        if calls > 1 and warmup >= calls:
            warmup = calls - 1
            notes.append(
                f"each image is run once, in {calls} calls: of --warmup {config.benchmark.warmup} come {warmup}."
            )
        # A single call is preceded by the warm-up.
        benchmark = dataclasses.replace(config.benchmark, num_repeats=calls, benchmark_repeats=size, warmup=warmup)
        rows = calls * size * batch_size
    if rows > images:
        notes.append(
            f"{images} images in batches of {batch_size} leave {rows - images} of {rows} places free: images that came "
            "before fill them."
        )
    return dataclasses.replace(config, benchmark=benchmark, notes=tuple(notes))


def _batch_size(config: RunConfig) -> int:
    """Images in a batch: of an executable that is given, its own."""
    given = None if config.embedded is None else config.embedded.exec_file
    if given is not None:
        with contextlib.suppress(OSError, ValueError, ExecutableError):  # whoever opens it says what is wrong with it
            if config.device.device == "ipu":
                return parse(Path(f"{given}.json").read_bytes())[0].batch_size
            return read_header(given).batch_size
    return config.data.micro_batch_size


def _at_once(config: RunConfig) -> int:
    """Batches in a call: as many as a host has under way; an IPU compiles one program for folders of all sizes."""
    device = config.device
    if device.device == "ipu":
        return 1
    height, width = hparams_of_run(config).image_size
    pixels = config.data.micro_batch_size * height * width
    return streams_of(device.engine, device.num_threads, device.num_streams, pixels).in_flight


class CallResults:
    """What calls find: written as they come, where images are run once.

    Attributes:
      lengths: number of detections of each image, of all calls where images are run once, else of the last call.
    """

    def __init__(self, config: RunConfig, writer: Optional[Outputs], loop: Loop):
        """Take what to write to, already entered, or None."""
        self._one_pass, self._writer, self._loop = config.benchmark.one_pass, writer, loop
        self.lengths: List[int] = []

    def take(self, outputs: List[Any]) -> None:
        """Take the outputs of a call, between the timed spans."""
        if self._one_pass:
            self._read(outputs)

    def end(self, outputs: List[Any]) -> None:
        """Take those of the last call, behind all others."""
        if not self._one_pass:
            self._read(outputs)

    def _read(self, outputs: List[Any]) -> None:
        for ids, detections in map(self._loop.results, outputs):
            self.lengths += detections.lengths.tolist()
            if self._one_pass and self._writer is not None:
                self._writer.write(ids, detections)


class RequestResults:
    """What requests find, written between them, or behind them all where others are under way meanwhile or wait."""

    def __init__(self, writer: Outputs, inputs: Inputs, alone: bool):
        """Take what to write to.

        Args:
          writer: already entered. inputs: of the requests. alone: one request comes after the other.
        """
        self._writer, self._inputs, self._alone = writer, inputs, alone
        self._waiting: Dict[int, Sequence[np.ndarray]] = {}
        self._lock = threading.Lock()
        self._lengths: List[int] = []
        self._candidates: List[Optional[float]] = []

    def client(self, client: Client, session: Session) -> Client:
        """A client that hands on what its session found."""
        return client._replace(after=lambda number: self._take(number, session))

    def _take(self, number: int, session: Session) -> None:
        found = [np.array(part) for part in session.detections()[:4]]  # of its own: the session goes on
        with self._lock:
            self._lengths += found[3].tolist()
            counted = len(self._candidates) < COUNTED_BATCHES
            if not self._alone:
                self._waiting[number] = found
        if counted:
            self._candidates.append(session.candidates())
        if self._alone:
            self._write(number, found)

    def _write(self, number: int, found: Sequence[np.ndarray]) -> None:
        self._writer.write(self._inputs.ids[number % len(self._inputs)], found)

    def __enter__(self) -> "RequestResults":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        end = math.inf if kind is None else time.monotonic() + LATE_SECONDS
        # The error that ended the run is the one to tell.
        with contextlib.suppress(*([] if kind is None else [Exception])):
            for number in sorted(self._waiting):
                if time.monotonic() < end:
                    self._write(number, self._waiting[number])

    def objects(self) -> Objects:
        """Means over what the requests found; of candidates, over the first requests."""
        candidates = None if None in self._candidates else float(np.mean(self._candidates))
        return mean_objects(candidates, self._lengths)
