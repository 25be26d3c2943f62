# SPDX-License-Identifier: Apache-2.0
"""From a batch of images to detections: what the host does with the outputs of a device. No TensorFlow.

A pipeline has a `step` for `Device.compile`, reads its outputs (`postprocess`) and counts candidates.
`ipu_utils.backends.tensorflow_pipeline` and `ipu_utils.backends.openvino_pipeline` have one each.
"""

from typing import TYPE_CHECKING, Any, Callable, List, NamedTuple, Protocol, Sequence

import numpy as np

from ipu_utils.backends.contract import Device
from ipu_utils.base.detections import Detections
from ipu_utils.base.errors import UserError
from ipu_utils.measure.objects import Objects, mean_objects
from ipu_utils.measure.stages import POST_PROCESSING, Stages

if TYPE_CHECKING:  # Executables are known by what is imported here: what writes pictures has no part in them.
    from ipu_utils.outputs.writers import Outputs


class Results(NamedTuple):
    """One batch of the step's outputs, named."""

    ids: np.ndarray  # int32 [N]: which image of the source each row is, -1 for padding
    detections: Detections


class Pipeline(Protocol):
    """What a run needs to know of its outputs."""

    step: Any  # for `Device.compile`
    nms_implementation: str  # what computes detections, for the report

    def postprocess(self, outputs: Sequence[np.ndarray]) -> Results:
        """Turn the outputs of one step into detections, computing them here if the device did not."""

    def count_candidates(self, images: Any) -> float:
        """Mean number an image of candidates above the score threshold, from an untimed pass through the network.

        A candidate is an anchor, or in multi-class mode a pair of anchor and class.
        """


def timed_call(
    pipeline: Pipeline, call: Callable[[], List], with_host_postprocessing: bool, stages: Stages
) -> Callable[[], List]:
    """Put post-processing on the host inside the timed call when the user asks for it."""
    if not with_host_postprocessing:
        return call

    def call_and_postprocess() -> List:
        outputs = call()
        for batch in outputs:
            with stages.span(POST_PROCESSING):
                pipeline.postprocess(batch)
        return outputs

    return call_and_postprocess


def count_objects(pipeline: Pipeline, outputs: List, dataset: Any, device: Device) -> Objects:
    """Count candidates and detections, untimed, in the first batch of the data and in the outputs of one call."""
    lengths = [length for batch in outputs for length in pipeline.postprocess(batch).detections.lengths]
    # An IPU runs nothing but compiled programs, and compiling another one takes minutes.
    candidates = None if device.kind == "ipu" else pipeline.count_candidates(next(iter(dataset))[0])
    return mean_objects(candidates, lengths)


def write_predictions(writer: "Outputs", pipeline: Pipeline, call: Callable[[], List], data: Any) -> None:
    """Run on until each of `data.count` images has been written once, or nothing new has come for one round of them.

    The writer has been entered. Where images are run once, all are written before.
    """
    rows_without_news = 0
    while writer.written < data.count and rows_without_news <= data.count:
        batches, written = call(), writer.written
        if not batches:
            raise UserError("--output-predictions needs outputs, and --synthetic true makes none: use one of them.")
        for outputs in batches:
            writer.write(*pipeline.postprocess(outputs))
        # One instance of several never sees the images of the others.
        rows = sum(len(outputs[0]) for outputs in batches)
        rows_without_news = 0 if writer.written > written else rows_without_news + rows
