# SPDX-License-Identifier: Apache-2.0
"""Everything that a run writes about its images, behind one writer. No TensorFlow."""

import contextlib
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np

from ipu_utils.config.run_options import OutputConfig
from ipu_utils.data.sources import ImageSource
from ipu_utils.data.video import VideoFrames
from ipu_utils.outputs import coco_eval
from ipu_utils.outputs.annotated import ImageWriter, PredictionWriter
from ipu_utils.outputs.claims import check_images
from ipu_utils.outputs.coco import Annotations, CocoWriter, compared, image_ids
from ipu_utils.outputs.coco_classes import Classes, classes_of
from ipu_utils.outputs.contact_sheet import ContactSheet
from ipu_utils.outputs.picture_names import names_of
from ipu_utils.outputs.shares import Shares, folder_of_shares
from ipu_utils.outputs.video import VideoWriter


class Outputs:
    """Hands detections to several writers and collects their lines for the report. Use it as a context manager."""

    def __init__(self, writers: Sequence[ImageWriter]):
        self.writers, self._stack = list(writers), contextlib.ExitStack()

    @property
    def written(self) -> int:
        """Number of images that every writer has."""
        return min(writer.written for writer in self.writers)

    def write(self, ids: Sequence[int], detections: Sequence[np.ndarray]) -> None:
        """See `ImageWriter.write`."""
        for writer in self.writers:
            writer.write(ids, detections)

    def __enter__(self) -> "Outputs":
        for writer in self.writers:
            self._stack.enter_context(writer)
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self._stack.__exit__(kind, error, traceback)
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._tell_pictures()

    def _tell_pictures(self) -> None:
        """Say what an interrupted run has left; accuracy would take too long then."""
        for writer in self.writers:
            if isinstance(writer, (PredictionWriter, VideoWriter)) and writer.written:
                print(writer.report())

    def accuracy(self) -> Optional[Dict[str, Optional[float]]]:
        """COCO's numbers by name, None where there is no such object, and "images"; None without annotations."""
        writers = [writer for writer in self.writers if isinstance(writer, CocoWriter) and writer.compares]
        if not writers:
            return None
        found = writers[0].accuracy()
        values = {name: None if value < 0 else value for name, value in found.as_dict().items()}
        return {**values, "images": found.images}

    def report(self) -> str:
        """What was written where, and what came of comparing it; for after the run."""
        return "\n".join(text for text in (writer.report() for writer in self.writers) if text)


def check(output: OutputConfig, source: ImageSource, hparams: Any = None) -> List[str]:
    """Find out before time is spent on compiling whether the outputs can be made; writes none.

    Args:
      output: what to write. source: the images.
      hparams: num_classes and label_map of the model; None: they are not known yet.

    Returns:
      Lines for the report: what there is to say of the annotations.

    Raises:
      UserError: they cannot: see `check_images`, `Annotations`, `image_ids`, `compared` and `coco_eval.require`.
    """
    check_images(output, source)
    if output.contact_sheet is not None:
        ContactSheet(output.contact_sheet, source)
    annotations = _annotations(output)
    if annotations is not None:
        return compared(source, annotations, Classes() if hparams is None else classes_of(hparams))[-1]
    if output.coco_results is not None:
        image_ids(source)
    return []


def _annotations(output: OutputConfig) -> Optional[Annotations]:
    if output.coco_annotations is None:
        return None
    coco_eval.require()
    return Annotations(output.coco_annotations)


def open_outputs(
    output: OutputConfig,
    model_name: str,
    hparams: Any,
    batches: Any,
    size_asked: bool = False,
    instances: Any = None,
) -> Optional[Union[Outputs, Shares]]:
    """Return the writers of all outputs that were asked for, ready to write; None when there are none.

    Args:
      output: what to write. model_name, hparams, batches, size_asked: see `names_of`.
      instances: of this run, see `Shares`; None: this process alone.

    Raises:
      UserError: something cannot be written or is an image, or annotations cannot be used.
    """
    names = names_of(output, model_name, hparams, batches, size_asked) if output.output_predictions else []
    check_images(output, batches.source, names)
    writers: List[ImageWriter] = []
    if output.output_predictions and isinstance(batches.source, VideoFrames):
        writers.append(VideoWriter(output.output_dir, batches.source, names[0], hparams.label_map, output.quiet))
    elif output.output_predictions:
        writers.append(PredictionWriter(output.output_dir, batches.source, names, hparams.label_map))
    if output.coco_results is not None or output.coco_annotations is not None:
        annotations, classes = _annotations(output), classes_of(hparams)
        writers.append(CocoWriter(batches.source, output.coco_results, annotations, classes))
    if output.contact_sheet is not None:
        writers.append(ContactSheet(output.contact_sheet, batches.source, hparams.label_map))
    if not writers:
        return None
    outputs = Outputs(writers)
    if instances is None or instances.count == 1:
        return outputs
    return Shares(outputs, folder_of_shares(output), batches.source.own, instances)
