# SPDX-License-Identifier: Apache-2.0
"""What --output-predictions writes about a video: detections.json, and one annotated video. PyAV on demand.

The video is written when the run is complete, from the list of detections: whatever the order in which frames were
computed, by whichever instance. A run that ends early leaves the list, and no video.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Iterator

import numpy as np

from ipu_utils.base.console import progress_bar
from ipu_utils.base.errors import UserError
from ipu_utils.base.files import NewFile
from ipu_utils.base.image_folder import DETECTIONS_FILE
from ipu_utils.base.printable import report_line
from ipu_utils.data.video import VideoFrames, import_av, reason_of
from ipu_utils.outputs.annotated import PredictionWriter, draw, on_photograph

CODECS = ("libx264", "mpeg4")  # the first that this FFmpeg was built with


class VideoWriter(PredictionWriter):
    """See `PredictionWriter`; in the place of pictures comes a video, whose name is that of each."""

    def __init__(self, output_dir: Path, source: VideoFrames, name: str, label_map: Any = None, quiet: bool = False):
        """See `PredictionWriter`. quiet: no progress bar while the video is written."""
        super().__init__(output_dir, source, [], label_map)
        self._name, self._quiet = name, quiet

    def entry(self, image_id: int, *found: np.ndarray) -> Dict[str, Any]:
        """Return the entry of a frame in detections.json, from which it is drawn later."""
        size = self._source.size(image_id)
        return self._described(image_id, self._name, size, *on_photograph(size, *found))

    def report(self) -> str:
        what = f"{self.written} annotated frames in {self._folder / self._name}, {DETECTIONS_FILE} beside it"
        return report_line("video", what)

    def finish(self) -> None:
        """Write the list, and the video, which appears complete or not at all."""
        super().finish()
        av, path = import_av(), self._folder / self._name
        new = NewFile(path, "--output-dir", folders=False, sync=False)
        try:
            sink = SimpleNamespace(write=new.write, seek=new.file.seek, tell=new.file.tell)  # what PyAV asks for
            with av.open(sink, "w", format="mp4") as container:
                codec = next(name for name in CODECS if name in av.codecs_available)
                stream = container.add_stream(codec, rate=self._source.rate)
                height, width = (side + side % 2 for side in self._source.size(0))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for image in self._drawn(height, width):
                    for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                        container.mux(packet)
                for packet in stream.encode():
                    container.mux(packet)
            new.commit()
        except (av.error.FFmpegError, OSError) as error:
            raise UserError(
                f"--output-dir: {path} cannot be written ({reason_of(error)}): free space, or choose another."
            ) from error
        finally:
            new.discard()

    def _drawn(self, height: int, width: int) -> Iterator[np.ndarray]:
        """Annotated frames in order, uint8 [height, width, 3]: sides of an odd number of pixels get one more."""
        with progress_bar(self.written, "frames", self._quiet) as bar:
            for image_id, line in self._lines():
                found = json.loads(line)["detections"]
                image = np.array(self._source.original(image_id))
                boxes = np.array([one["box"] for one in found], float).reshape(-1, 4)
                scores, classes = (np.array([one[key] for one in found]) for key in ("score", "class_id"))
                draw(image, boxes, scores.astype(float), classes.astype(int), self._labels)
                image = image[:height, :width]
                missing = (height - image.shape[0], width - image.shape[1])
                yield np.pad(image, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="edge")
                bar.update()
