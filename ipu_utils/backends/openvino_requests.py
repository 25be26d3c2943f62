# SPDX-License-Identifier: Apache-2.0
"""A CPU's executable for a run: the kept file when it fits, else a newly compiled one, loaded for requests."""

import logging
import sys
import time
from pathlib import Path
from typing import List, Optional, Tuple

from ipu_utils.backends.foreseen import TO_BE_COMPILED, Foreseen
from ipu_utils.backends.requests_contract import Opened
from ipu_utils.base import hardware
from ipu_utils.base.errors import UserError
from ipu_utils.base.files import check_writable
from ipu_utils.base.openvino_api import check_precision, engine_name, import_openvino
from ipu_utils.config.run_config import RunConfig
from ipu_utils.executable import cache, fingerprint
from ipu_utils.executable.build_process import build, build_here, compile_into, load_in_process
from ipu_utils.executable.file import (
    ExecutableError,
    Header,
    differences,
    read_executable,
    read_header,
)
from ipu_utils.executable.runtime import EmbeddedModel, Session
from ipu_utils.outputs.claims import Claim, check_run

log = logging.getLogger(__name__)


class OpenVinoRuntime:
    """An executable that is loaded. See `ipu_utils.backends.requests_contract`."""

    post_processing = "libdetect, right behind the network"

    def __init__(self, opened: Opened, num_threads: Optional[int], num_streams: Optional[int]):
        start = time.perf_counter()
        self._model = EmbeddedModel(opened.executable, num_threads, num_streams)
        self.load_seconds = time.perf_counter() - start
        self.header, self.num_threads, self.num_streams = opened.header, self._model.num_threads, num_streams or 1
        self.device = f"cpu ({hardware.cpu_name()}, {self._model.num_threads} threads), {opened.header.engine}"

    def sessions(self, count: int) -> List[Session]:
        """One for every request in flight."""
        return [self._model.session() for _ in range(count)]

    def close(self) -> None:
        """Nothing is left to do: memory is freed with the object."""


def wanted(config: RunConfig) -> Header:
    """Describe the executable that a run asks for."""
    chosen = config.model.model_precision
    precision = hardware.default_precision() if chosen is None else chosen.value
    # The network writes bfloat16 and libdetect reads it; float32 would be a conversion of every output.
    output_type = precision if precision == "bfloat16" else "float32"
    return cache.plan(config, precision, output_type, engine_name(import_openvino()), fingerprint.cpu_features())


def place_of(config: RunConfig, header: Header) -> Optional[Path]:
    """Where the executable of a run is kept for the next one; None where it goes with the run."""
    named, cached = folders_of(config)
    if named is not None:
        return named / cache.file_name(header)
    if cached is None:
        return None
    path = cache.cached_file(cached, header)
    if "tensorflow" not in header.versions:
        # Its version is a part of the name, and nothing can be built here: any file is right that fits otherwise.
        others = sorted(cached.glob(cache.file_name(header).replace(".effdet", "-*.effdet")))
        path = next((other for other in others if _fits(other, header, config)), path)
    return path


def folders_of(config: RunConfig) -> Tuple[Optional[Path], Optional[Path]]:
    """Where executables are kept: in the first folder under a name for people, else in the second."""
    return None if config.embedded is None else config.embedded.exec_output_dir, config.device.executable_cache_dir


def _fits(path: Path, header: Header, config: RunConfig) -> bool:
    """Is a file the executable that a run asks for, as far as its header says?"""
    try:
        return not cache.reasons_to_compile(read_header(path), header, config)
    except ExecutableError:
        return False


def kept_size(config: RunConfig) -> Optional[int]:
    """Bytes of the executable that is there already and is going to be used; None where one has to be built.

    Asks its header alone: a network that turns out to be damaged is compiled again.

    Raises:
      UserError: a folder is named where one may lie, and OpenVINO is missing.
    """
    if folders_of(config) == (None, None):
        return None
    header = wanted(config)
    path = place_of(config, header)
    return path.stat().st_size if _fits(path, header, config) else None


class OpenVinoBackend:
    """A CPU through OpenVINO. See `ipu_utils.backends.requests_contract`."""

    def __init__(self, config: RunConfig):
        self._config = config
        if config.device.engine == "tensorflow":
            raise UserError(
                "--engine tensorflow: on a host an executable is OpenVINO's. Leave --engine out, or measure TensorFlow "
                "with ipu_inference.py --engine tensorflow."
            )
        import_openvino()  # Say now what is missing.

    def executable(self, folder: Path) -> Opened:
        given = self._config.embedded.exec_file
        if given is not None:
            executable = read_executable(given)
            cache.check_typed(executable, self._config)
            return Opened(executable.path, executable.header, 0.0, "given", executable)
        return kept_or_compiled(self._config, *self._header_and_path(folder))

    def _header_and_path(self, folder: Path) -> Tuple[Header, Path]:
        """What is wanted, and the file that keeps it."""
        header = wanted(self._config)
        return header, place_of(self._config, header) or folder / cache.file_name(header)

    def foresee(self, folder: Path) -> Foreseen:
        given = self._config.embedded.exec_file
        opened = self.executable(folder) if given is not None else None
        if opened is None:
            header, path = self._header_and_path(folder)
            opened = kept(self._config, header, path)
            if opened is None:
                return foresee_building(self._config, header)
        self.start(opened).close()
        header = None if given is None else opened.header
        return Foreseen(opened.header.weights, f"{opened.path} ({opened.origin})", header)

    def start(self, opened: Opened) -> OpenVinoRuntime:
        return OpenVinoRuntime(opened, self._config.device.num_threads, self._config.device.num_streams)


def foresee_building(config: RunConfig, header: Header) -> Foreseen:
    """Find out whether the network can be built and has weights; a checkpoint is loaded, and dropped.

    Raises:
      UserError: see `build`.
    """
    check_precision(header.precision)
    apart = "tensorflow" not in sys.modules and sys.executable
    header = load_in_process(config, header) if apart else build_here(config, header)[0]
    return Foreseen(header.weights, TO_BE_COMPILED)


def kept_or_compiled(config: RunConfig, header: Header, path: Path) -> Opened:
    """Return the executable in a file when it is the one that `header` asks for, else compile it into that file.

    Raises:
      UserError: it cannot be compiled or written.
    """
    opened = kept(config, header, path)
    if opened is None:
        start = time.perf_counter()
        header = _compile(config, header, path)
        seconds, executable = time.perf_counter() - start, read_executable(path)
        reasons = differences(executable.header, header)
        if reasons:
            raise ExecutableError(
                f"{path} was written by another run in the meantime ({'; '.join(reasons)}): give each a folder of its "
                "own."
            )
        opened = Opened(path, header, seconds, "compiled", executable)
    return opened


def kept(config: RunConfig, header: Header, path: Path) -> Optional[Opened]:
    """Return the executable in a file when it is the one that `header` asks for; a warning says why it is not.

    Raises:
      UserError: the run reads or writes the file for something else, which compiling would destroy.
    """
    named = None if config.embedded is None else config.embedded.exec_output_dir
    option = "--executable-cache-dir" if named is None else "--exec-output-dir"
    check_run(config, [Claim(path, option)])
    if not path.exists():
        check_writable(path, option)
        return None
    try:
        found = read_executable(path)
        reasons = cache.reasons_to_compile(found.header, header, config)
    except ExecutableError as error:
        reasons = [str(error).rstrip(".")]
    if not reasons:
        return Opened(path, cache.told_anew(found.header, config), 0.0, "kept from an earlier run", found)
    check_writable(path, option)
    log.warning("%s is compiled again: %s.", path, "; ".join(reasons))
    return None


def _compile(config: RunConfig, header: Header, path: Path) -> Header:
    header, freeze = build(config, header)
    compile_into(path, header, freeze, config.device.num_threads)
    return header
