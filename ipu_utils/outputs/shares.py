# SPDX-License-Identifier: Apache-2.0
"""What several instances write about their images, joined by the first one. No TensorFlow.

Each instance draws its own pictures, and appends a line for every image to a file of its own, in a folder that all of
them see. At the end the first one hands all lines, in the order of the images, to the writers that a single process
has. When the run ends early, the first instance that is still there does the same with the lines that there are.
"""

import contextlib
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ipu_utils.base.errors import UserError
from ipu_utils.base.files import cannot_write, is_locked, lock, write_all
from ipu_utils.base.paths import leads_to_stream, target_of
from ipu_utils.config.run_options import OutputConfig
from ipu_utils.outputs.annotated import ImageWriter


class _Incomplete(Exception):  # noqa: N818 - no error: it tells writers that the run has not come to its end
    pass


class Shares(ImageWriter):
    """Hands detections of all instances to the writers of one. Use it as a context manager, as `writers.Outputs`.

    Every instance has to enter and to leave it.
    """

    def __init__(self, outputs: Any, folder: Tuple[Path, str], own: Sequence[int], instances: Any):
        """Say who writes what.

        Args:
          outputs: `Outputs` for the images of all instances.
          folder: for the lines, and the option that chooses it.
          own: ids of this instance's images.
          instances: of this run, more than one: index, count and gather_objects.
        """
        super().__init__()
        self._outputs, self._folder, self._own, self._instances = outputs, folder, own, instances
        self._paths: List[str] = []  # of the lines of each instance
        self._counts: List[int] = []  # of the images of each

    def entry(self, image_id: int, *found: np.ndarray) -> List[Any]:
        return [writer.entry(image_id, *found) for writer in self._outputs.writers]

    def put(self, image_id: int, entry: List[Any]) -> None:
        try:
            write_all(self._file.write, json.dumps([image_id, entry]).encode() + b"\n")
        except OSError as error:
            raise cannot_write(self._file.name, error, self._folder[1]) from error
        self._seen.add(image_id)

    def __enter__(self) -> "Shares":
        """Begin the file of this instance, and learn where the others' are; UserError where one cannot be used."""
        (folder, option), index, count = self._folder, self._instances.index, self._instances.count
        folder, beginning = os.path.abspath(str(folder)), f"instance-{index}-of-{count}-"
        try:  # Whoever needs it last removes it.
            self._file = tempfile.NamedTemporaryFile(
                dir=folder, prefix=beginning, suffix=".part", buffering=0, delete=False
            )
        except OSError as error:
            raise cannot_write(folder, error, option) from error
        lock(self._file.fileno())  # as long as it is open, which tells whether this process is still there
        try:
            told = self._instances.gather_objects((self._file.name, len(self._own), socket.gethostname()))
            self._paths, self._counts, hosts = (list(part) for part in zip(*told))
            for path, host in zip(self._paths, hosts):
                if not os.path.exists(path):
                    raise UserError(
                        f"{path} on {host} is not there on {hosts[index]}: instances on several hosts write into a "
                        f"folder that all of them have. Choose another {option}."
                    )
        except BaseException:
            self._file.close()
            os.unlink(self._file.name)
            raise
        return self

    def __exit__(self, kind, error, traceback) -> None:
        with contextlib.closing(self._file):
            if kind is not None:
                self._leave()
                return
            try:
                os.fsync(self._file.fileno())  # for processes on other hosts
                self._instances.gather_objects(None)  # from here on there is a line of every image
                if self._instances.index == 0:
                    self._join(complete=True)
                self._instances.gather_objects(None)  # mpirun may end all when one ends
            except BaseException:
                self._leave()
                raise

    def accuracy(self) -> Optional[Dict[str, Optional[float]]]:
        """See `writers.Outputs.accuracy`; the first instance has the images of all."""
        return self._outputs.accuracy()

    def report(self) -> str:
        """What was written where, and what came of comparing it: the first instance tells."""
        return "" if self._instances.index else self._outputs.report()

    def _leave(self) -> None:
        """Join what there is, unless an instance before this one is going to, or has done so."""
        before, own = self._paths[: self._instances.index], self._file.name
        with contextlib.suppress(UserError, OSError):  # The error that ended the run is the one to tell.
            if os.path.exists(own) and not any(map(is_locked, before)):
                self._join(complete=False)

    def _join(self, complete: bool) -> None:
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(open(path, "rb")) for path in self._paths]
            places: Dict[int, Tuple[Any, int, int]] = {}  # image id -> (file, offset, length) of its line
            found = []
            for file in files:
                lines = _lines_of(file)
                found.append(len(lines))
                for image_id, offset, length in lines:
                    places.setdefault(image_id, (file, offset, length))
            with contextlib.suppress(_Incomplete), self._outputs:
                for image_id in sorted(places):
                    file, offset, length = places[image_id]
                    file.seek(offset)
                    for writer, entry in zip(self._outputs.writers, json.loads(file.read(length))[1]):
                        writer.put(image_id, entry)
                if not complete:
                    raise _Incomplete
        for path in self._paths:
            os.unlink(path)
        if not complete:
            print(self._told(found), file=sys.stderr)

    def _told(self, found: Sequence[int]) -> str:
        missing = [
            f"{count - there} of {count} of instance {index}"
            for index, (there, count) in enumerate(zip(found, self._counts))
            if there < count
        ]
        return (
            f"note: the run ended early; what its instances had found is joined, {sum(found)} of {sum(self._counts)} "
            f"images. Missing: {', '.join(missing) or 'none'}."
        )


def _lines_of(file: Any) -> List[Tuple[int, int, int]]:
    """(image id, offset, length) of each line; one that was not written to its end is none."""
    found, offset = [], 0
    for line in file:
        if line.endswith(b"\n"):
            found.append((int(line[1 : line.index(b",")]), offset, len(line)))
        offset += len(line)
    return found


def folder_of_shares(output: OutputConfig) -> Tuple[Path, str]:
    """A folder for the lines of all instances, that of the outputs where they have one; and the option to choose it."""
    if output.output_predictions:
        return output.output_dir, "--output-dir"
    for path, option in ((output.coco_results, "--coco-results"), (output.contact_sheet, "--contact-sheet")):
        if path is not None and not leads_to_stream(path):
            return target_of(path).parent, option
    return Path(tempfile.gettempdir()), "--coco-results"
