# SPDX-License-Identifier: Apache-2.0
"""What requests carry and which part of serving one is timed. No TensorFlow."""

import functools
import itertools
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.backends.contract import Session
from ipu_utils.base.detections import Detections
from ipu_utils.config.run_config import RunConfig
from ipu_utils.config.run_hparams import hparams_of_run
from ipu_utils.data.resize import FittedImage
from ipu_utils.data.sources import PADDING_ID, ImageSource, open_source
from ipu_utils.executable.file import Header
from ipu_utils.measure.objects import Objects, mean_objects
from ipu_utils.measure.requests import Client
from ipu_utils.measure.stages import DEVICE, INPUT, POST_PROCESSING, Stages
from ipu_utils.outputs import writers
from ipu_utils.outputs.annotated import check_folder

POOL_BYTES = 64 << 20  # of fitted images kept ready: more than a CPU's caches hold, so that inputs come from memory
COUNTED_BATCHES = 16  # in which candidates and detections are counted


class Inputs:
    """Batches of distinct images, fitted into the network's input before measuring; requests take them in turn.

    Attributes:
      source: where the images come from. left_out: how many of its images there are no requests or no memory for.
      images: uint8 [P, B, h, w, 3]. scales: float32 [P, B]. ids: int [P, B], numbers of the images in the source.
    """

    def __init__(self, source: ImageSource, batch_size: int, requests: int):
        height, width = source.image_size
        own = source.own
        wanted = min(requests, -(-len(own) // batch_size))
        batches = max(1, min(wanted, POOL_BYTES // (batch_size * height * width * 3)))
        self.batch_size = batch_size
        self.source, self.left_out = source, max(0, len(own) - batches * batch_size)
        found = ((number, source.try_fitted(number)) for number in own)
        taken = list(itertools.islice((pair for pair in found if pair[1] is not None), batches * batch_size))
        # A single image fills a whole batch, so that every row does the same work.
        rows = [taken[row % len(taken)] for row in range(batches * batch_size)]
        self.ids = np.array([number for number, _ in rows]).reshape(batches, batch_size)
        images, scales = _stacked([fitted for _, fitted in rows])
        self.images = images.reshape(*self.ids.shape, height, width, 3)
        self.scales = scales.reshape(self.ids.shape)

    def __len__(self) -> int:
        return len(self.ids)

    def prepare(self, number: int) -> None:
        """Have a batch in memory before its request is timed: all are."""

    def batch(self, number: int) -> Tuple[np.ndarray, np.ndarray]:
        """A batch that lies in memory: images [B, h, w, 3] and scales [B]."""
        return self.images[number], self.scales[number]

    def decode(self, number: int) -> Tuple[np.ndarray, np.ndarray]:
        """Make a batch anew from files: images [B, h, w, 3] and scales [B]."""
        return _stacked([self.source.fitted(int(image_id)) for image_id in self.ids[number]])


class StreamedInputs(Inputs):
    """Batches of every image of a source, for one request each, that are fitted when it is due: of any number."""

    def __init__(self, source: ImageSource, batch_size: int):
        self.batch_size, self.source, self.left_out = batch_size, source, 0
        batches = -(-len(source.own) // batch_size)
        self.ids = np.resize(np.array(source.own), (batches, batch_size))  # which begins anew where they end
        self._made: Dict[int, Tuple[np.ndarray, np.ndarray]] = {}

    def prepare(self, number: int) -> None:
        self._made[number] = self.decode(number)

    def batch(self, number: int) -> Tuple[np.ndarray, np.ndarray]:
        return self._made.pop(number) if number in self._made else self.decode(number)

    def decode(self, number: int) -> Tuple[np.ndarray, np.ndarray]:
        rows = []
        for row, image_id in enumerate(self.ids[number].tolist()):
            fitted = self.source.try_fitted(image_id) if image_id != PADDING_ID else None
            if fitted is None:
                self.ids[number, row], fitted = PADDING_ID, self.source.fitted(PADDING_ID)
            rows.append(fitted)
        return _stacked(rows)


def _stacked(fitted: Sequence[FittedImage]) -> Tuple[np.ndarray, np.ndarray]:
    """Images [B, h, w, 3] and scales [B] of a batch."""
    return np.stack([image for image, _ in fitted]), np.array([scale for _, scale in fitted], np.float32)


def open_inputs(config: RunConfig, header: Header, requests: int) -> Inputs:
    """Open what --dataset-type and --image-path name, for the size and batch of the executable and so many requests."""
    height, width = header.image_size
    noise = max(1, min(requests * header.batch_size, POOL_BYTES // (height * width * 3)))
    source = open_source(config.data, header.image_size, noise, header.mean_rgb)
    if config.benchmark.one_pass and requests * header.batch_size * height * width * 3 > POOL_BYTES and requests > 1:
        return StreamedInputs(source, header.batch_size)
    return Inputs(source, header.batch_size, requests)


def check_ends(config: RunConfig) -> None:
    """Find out before time is spent on compiling whether images can be read and predictions be written.

    Raises:
      UserError: they cannot.
    """
    source = open_source(config.data, (1, 1), 1)
    if config.output.output_predictions:
        check_folder(config.output.output_dir)
    hparams = None
    if config.embedded.exec_file is None:  # else the file tells, which is opened before anything is measured
        hparams = hparams_of_run(config)
    writers.check(config.output, source, hparams)


class Span(NamedTuple):
    """The part of serving a request that is timed."""

    text: str  # for the report
    client: Callable[[Session, Inputs], Client]


def span_of(config: RunConfig, stages: Stages) -> Span:
    """Return what --measure asks for, up to the detections unless --onchip-nms false leaves them out.

    Its clients add the stages of each request to `stages`.
    """
    measure = config.embedded.measure
    detects = config.nms.onchip_nms or config.benchmark.benchmark_host_postprocessing
    end = "to detections in memory" if detects else "to the network's outputs in memory, without post-processing"
    if measure == "network":
        detects, text = False, "network: from an input that is in place to the network's outputs in memory"
    elif measure == "device":
        text = f"device: from an image of the network's size in memory {end}"
    else:
        what = "a frame of the video" if config.data.dataset_type == "video" else "an image file"
        start = f"{what}, decoded and resized for each request,"
        if config.data.dataset_type == "generated":
            start = "noise made for each request (nothing to decode or resize)"
        text = f"end-to-end: from {start} {end}"
    return Span(text, functools.partial(_client, stages, measure, detects))


def _client(stages: Stages, measure: str, detects: bool, session: Session, inputs: Inputs) -> Client:
    """A client that loads a batch, runs, and detects. Outside the span is what `measure` leaves out."""
    batch = inputs.decode if measure == "end-to-end" else inputs.batch

    def load(number: int) -> None:
        session.load(*batch(number % len(inputs)))

    def compute() -> None:
        with stages.span(DEVICE):
            session.run()
        if detects:
            with stages.span(POST_PROCESSING):
                session.detections()

    def call(number: int) -> None:
        with stages.span(INPUT):
            load(number)
        compute()

    def prepare(number: int) -> None:
        if measure == "device":
            inputs.prepare(number % len(inputs))

    return Client(load, lambda number: compute()) if measure == "network" else Client(prepare, call)


def count_objects(session: Session, inputs: Inputs) -> Objects:
    """Count candidates and detections in some of the inputs, untimed."""
    candidates: List[Optional[float]] = []
    lengths: List[int] = []
    for number in range(min(len(inputs), COUNTED_BATCHES)):
        lengths.extend(np.asarray(detect(session, inputs.images[number], inputs.scales[number]).lengths).tolist())
        candidates.append(session.candidates())
    return mean_objects(None if None in candidates else float(np.mean(candidates)), lengths)


def write_predictions(writer: writers.Outputs, session: Session, inputs: Inputs) -> None:
    """Detect in every image of this instance and write what was found; the writer has been entered."""
    for ids, images, scales in batches_of(inputs.source, inputs.batch_size, inputs.source.own):
        found = detect(session, images, scales)
        writer.write(ids, (found.boxes, found.scores, found.classes, found.lengths))


def detect(session: Session, images: np.ndarray, scales: np.ndarray) -> Detections:
    """Detect in a batch of images [B, h, w, 3] with scales [B]; the session's next run writes where they lie."""
    session.load(images, scales)
    session.run()
    return session.detections()


def batches_of(
    source: ImageSource, batch_size: int, own: Sequence[int]
) -> Iterator[Tuple[Sequence[int], np.ndarray, np.ndarray]]:
    """Images of a source, by their numbers, once each: (ids [B], images [B, h, w, 3], scales [B]).

    In the places of images that cannot be read, and in those behind the last one, is padding.
    """
    for first in range(0, len(own), batch_size):
        rows = own[first : first + batch_size]
        found = [(number, fitted) for number in rows for fitted in [source.try_fitted(number)] if fitted is not None]
        found += [(PADDING_ID, source.fitted(PADDING_ID))] * (batch_size - len(found))
        ids, fitted = zip(*found)
        yield (ids, *_stacked(fitted))
