# SPDX-License-Identifier: Apache-2.0
"""A CPU or GPU: the executable of a run is given, kept by an earlier one, or compiled, and loaded. No TensorFlow."""

import logging
import time
from pathlib import Path
from typing import Callable, Optional, Protocol, Tuple

from ipu_utils.backends.contract import TO_BE_COMPILED, Compiled, Preview
from ipu_utils.backends.host_runtime import HostRuntime
from ipu_utils.backends.in_flight import Loop
from ipu_utils.base.files import check_writable
from ipu_utils.config.run_config import RunConfig
from ipu_utils.data.numpy_batches import Feed, open_feed
from ipu_utils.executable import cache
from ipu_utils.executable.file import ExecutableError, Header, differences, read_executable, read_header
from ipu_utils.executable.model_info import ModelInfo, info_of_file
from ipu_utils.executable.runtime import PostProcessing
from ipu_utils.outputs.claims import Claim, check_run

log = logging.getLogger(__name__)
Make = Callable[[Path], None]  # writes an executable


class Compiler(Protocol):
    """Makes the executables of an engine: `ipu_utils.backends.openvino.Compiler` and those beside it."""

    def wanted(self) -> Header:
        """Describe the executable that the run asks for.

        Raises:
          NotSupportedError: the device cannot compute in the precision that was asked for.
        """

    def build(self, header: Header) -> Tuple[Header, Make]:
        """Build the network in TensorFlow: (the header with what is known of its weights, what compiles it)."""

    def preview(self, header: Header) -> str:
        """Find out whether the network can be built and has weights, of which it returns what `build` says."""

    def detector(self, header: Header) -> Tuple[Optional[PostProcessing], str]:
        """What computes detections, None for libdetect, and its name for the report."""


class HostBackend:
    """See `ipu_utils.backends.contract`: a backend of both scripts."""

    def __init__(self, config: RunConfig, folder: Path, compiler: Compiler):
        """Open it for a run whose engine is resolved; `folder` holds an executable that goes with the run."""
        self._config, self._folder, self._compiler = config, folder, compiler
        self._feed: Optional[Feed] = None
        self._compiled: Optional[Compiled] = None
        self._planned: Optional[Tuple[Path, Header, Make]] = None
        self._build_seconds = 0.0

    def open_batches(self) -> Feed:
        """See `ipu_utils.backends.contract.ThroughputBackend`."""
        config, hparams = self._config, cache.hparams_of(self._config)
        repeats = config.benchmark.benchmark_repeats
        self._feed = open_feed(config.data, tuple(hparams.image_size), repeats, hparams.mean_rgb)
        return self._feed

    def _find(self) -> Tuple[Header, Path]:
        """Look for the executable: (what is wanted, where it is or is to be); for errors see `kept`."""
        given = None if self._config.embedded is None else self._config.embedded.exec_file
        if given is not None:
            executable = read_executable(given)
            cache.check_typed(executable, self._config)
            self._compiled = Compiled(executable.path, executable.header, "given", executable)
            return executable.header, executable.path
        header = self._compiler.wanted()
        path = place_of(self._config, header) or self._folder / cache.file_name(header)
        self._compiled = kept(self._config, header, path)
        return header, path

    def preview(self) -> Preview:
        """See `ipu_utils.backends.contract.Backend`; a file that is there is loaded."""
        header, _ = self._find()
        if self._compiled is None:
            return Preview(self._compiler.preview(header), TO_BE_COMPILED)
        self.start().close()
        path, header, origin = self._compiled[:3]
        return Preview(header.weights, f"{path} ({origin})", header if origin == "given" else None)

    def prepare(self) -> ModelInfo:
        """See `ipu_utils.backends.contract.Backend`."""
        header, path = self._find()
        if self._compiled is not None:
            return info_of_file(self._compiled.header)
        start = time.perf_counter()
        header, make = self._compiler.build(header)
        self._build_seconds = time.perf_counter() - start
        self._planned = path, header, make
        return info_of_file(header)

    def compile(self) -> Compiled:
        """See `ipu_utils.backends.contract.LatencyBackend`.

        Raises:
          UserError: the file cannot be written.
        """
        if self._compiled is None:
            path, header, make = self._planned
            start = time.perf_counter()
            make(path)
            seconds = self._build_seconds + time.perf_counter() - start
            self._planned = None  # and with it goes the network
            executable = read_executable(path)
            reasons = differences(executable.header, header)
            if reasons:
                raise ExecutableError(
                    f"{path} was written by another run in the meantime ({'; '.join(reasons)}): give each a folder of "
                    "its own."
                )
            self._compiled = Compiled(path, header, "compiled", executable, seconds)
        return self._compiled

    def start(self) -> HostRuntime:
        """See `ipu_utils.backends.contract.LatencyBackend`."""
        compiled = self.compile()
        return HostRuntime(compiled, self._config, *self._compiler.detector(compiled.header))

    def loop(self) -> Loop:
        """See `ipu_utils.backends.contract.ThroughputBackend`."""
        config = self._config
        return Loop(self.start(), self._feed, config.benchmark.benchmark_repeats, config.nms.onchip_nms)


def folders_of(config: RunConfig) -> Tuple[Optional[Path], Optional[Path]]:
    """Where executables are kept: in the first folder under a name for people, else in the second."""
    return None if config.embedded is None else config.embedded.exec_output_dir, config.device.executable_cache_dir


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


def _fits(path: Path, header: Header, config: RunConfig) -> bool:
    """Is a file the executable that a run asks for, as far as its header says?"""
    try:
        return not cache.reasons_to_compile(read_header(path), header, config)
    except ExecutableError:
        return False


def kept_size(config: RunConfig, header: Header) -> Optional[int]:
    """Bytes of the executable that is there already and is going to be used; None where one has to be built.

    Asks its header alone: a network that turns out to be damaged is compiled again.

    Args:
      header: what the run asks for.
    """
    path = place_of(config, header)
    return path.stat().st_size if path is not None and _fits(path, header, config) else None


def kept(config: RunConfig, header: Header, path: Path) -> Optional[Compiled]:
    """Return the executable in a file when it is the one that `header` asks for; a warning says why it is not.

    Raises:
      UserError: the run reads or writes the file for something else, which compiling would destroy.
    """
    option = "--executable-cache-dir" if folders_of(config)[0] is None else "--exec-output-dir"
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
        return Compiled(path, cache.told_anew(found.header, config), "kept from an earlier run", found)
    check_writable(path, option)
    log.warning("%s is compiled again: %s.", path, "; ".join(reasons))
    return None
