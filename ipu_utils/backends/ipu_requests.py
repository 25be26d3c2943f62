# SPDX-License-Identifier: Apache-2.0
"""An IPU's executable for a run: the same steps as on a host, with Poplar's file and a description beside it."""

import dataclasses
import hashlib
import logging
import time
from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np

import ipu_nms
from ipu_utils.backends.contract import Device
from ipu_utils.backends.devices import get_device
from ipu_utils.backends.foreseen import Foreseen, foresee_network
from ipu_utils.backends.ipu_build import build_program, on_chip, pipeline_of, signature_of
from ipu_utils.backends.requests_contract import Opened
from ipu_utils.backends.tensorflow_pipeline import TensorFlowPipeline
from ipu_utils.base.detections import Detections
from ipu_utils.base.files import check_writable, write_atomically
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import RunConfig, options_dict
from ipu_utils.config.sections import names_where
from ipu_utils.executable import cache
from ipu_utils.executable.file import Header, describe, parse
from ipu_utils.outputs.claims import Claim, check_run

log = logging.getLogger(__name__)
FILE_NAME = "application.poplar_exec"


class IpuSession:
    """One request at a time; the runtime takes requests from any number of sessions."""

    def __init__(self, executable: Any, pipeline: TensorFlowPipeline, signature: Tuple[tf.TensorSpec, ...]):
        self._executable, self._pipeline = executable, pipeline
        self._arguments = [np.zeros(spec.shape, spec.dtype.as_numpy_dtype) for spec in signature]
        self._outputs: Tuple[np.ndarray, ...] = ()

    def load(self, images: np.ndarray, scales: np.ndarray) -> None:
        """Take a batch of images of the network's size, and their scales back to the original."""
        np.copyto(self._arguments[0], images, casting="unsafe")
        self._arguments[1][:] = scales

    def run(self) -> None:
        """Send the batch, wait for the outputs."""
        self._outputs = self._executable.call(*self._arguments)

    def detections(self) -> Detections:
        """Read the detections from the outputs, or compute them here when the IPU did not."""
        return self._pipeline.postprocess(self._outputs).detections

    def candidates(self) -> None:
        """An IPU may keep the outputs of the heads to itself."""


class IpuRuntime:
    """An executable that is started on an IPU. See `ipu_utils.backends.requests_contract`."""

    num_threads = num_streams = None

    def __init__(self, device: Device, pipeline: TensorFlowPipeline, opened: Opened):
        start = time.perf_counter()
        self.header, self._pipeline = opened.header, pipeline
        self._signature = signature_of(opened.header)
        self._executable = device.start(opened.path, self._signature)
        self.load_seconds = time.perf_counter() - start
        self.device = f"{device.name}, {device.description}"
        self.post_processing = pipeline.nms_implementation

    def sessions(self, count: int) -> List[IpuSession]:
        return [IpuSession(self._executable, self._pipeline, self._signature) for _ in range(count)]

    def close(self) -> None:
        self._executable.close()


class IpuBackend:
    """An IPU through Poplar's embedded runtime. See `ipu_utils.backends.requests_contract`."""

    def __init__(self, config: RunConfig):
        self._config, self._device = config, get_device("ipu", config)
        self._hparams = cache.hparams_of(config)

    def executable(self, folder: Path) -> Opened:
        wanted = self._wanted()
        given = self._config.embedded.exec_file
        if given is not None:
            # Poplar's file says nothing about the model: without a description the options have to be those it has.
            header = _kept(given) or _undescribed(wanted)
            return Opened(given, header, 0.0, "given")
        path = folder / FILE_NAME
        kept = self._kept_or_none(path, wanted)
        if kept is not None:
            return kept
        start = time.perf_counter()
        header = self._compile(wanted, path)
        return Opened(path, header, time.perf_counter() - start, "compiled")

    def _kept_or_none(self, path: Path, wanted: Header) -> Optional[Opened]:
        """The executable in a file when it is the one that is wanted; a warning says why it is not."""
        check_run(self._config, [Claim(file, "--exec-output-dir") for file in (path, _description(path))])
        found = _kept(path)
        reasons = cache.reasons_to_compile(found, wanted, self._config)
        if not reasons:
            return Opened(path, cache.told_anew(found, self._config), 0.0, "kept from an earlier run")
        check_writable(path, "--exec-output-dir")
        if path.exists():
            log.warning("%s is compiled again: %s.", path, "; ".join(reasons))
        return None

    def foresee(self, folder: Path) -> Foreseen:
        if self._config.embedded.exec_file is not None:
            opened = self.executable(folder)
            return Foreseen(opened.header.weights, f"{opened.path} ({opened.origin})", opened.header)
        found = self._kept_or_none(folder / FILE_NAME, self._wanted())
        if found is not None:
            return Foreseen(found.header.weights, f"{found.path} ({found.origin})")
        return foresee_network(self._config, self._hparams, self._device)

    def start(self, opened: Opened) -> IpuRuntime:
        return IpuRuntime(self._device, self._pipeline(None, opened.header.precision), opened)

    def _wanted(self) -> Header:
        config = self._config
        chosen = config.model.model_precision
        precision = self._device.default_precision() if chosen is None else chosen.value
        compiled = names_where(lambda facets: facets.compiled.by_value and "ipu" in facets.compiled.devices)
        options = {name: value for name, value in options_dict(config).items() if name in compiled}
        options.update(on_chip=on_chip(config))
        operator = ipu_nms.operator_files(config.nms.nms_mode.value) if on_chip(config) else ()
        engine, target = self._device.description, ("ipu",)
        header = cache.plan(config, precision, precision, engine, target, options, cache.PROGRAM, operator)
        return dataclasses.replace(header, versions={**header.versions, **self._device.versions()})

    def _pipeline(self, network: Any, precision: str) -> TensorFlowPipeline:
        return pipeline_of(self._config, self._hparams, self._device, network, precision)

    def _compile(self, header: Header, path: Path) -> Header:
        """Compile, and describe the file once it is there."""
        header = build_program(self._config, self._hparams, self._device, header, path)
        content = path.read_bytes()
        description = describe(header, len(content), hashlib.sha256(content).hexdigest())
        write_atomically(_description(path), (description,), "--exec-output-dir")
        return header


def _undescribed(wanted: Header) -> Header:
    """The header of a file of which nothing is known but that the options are said to be those it has."""
    told = {part: value for part, value in wanted.fingerprint.items() if part in ("weights", "settings")}
    header = cache.with_weights(wanted, "those of the executable", False)
    return dataclasses.replace(header, fingerprint=told, versions={})


def _description(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _kept(path: Path) -> Optional[Header]:
    """Header of an executable, or None when there is no file that is whole and described."""
    try:
        header, size, checksum = parse(_description(path).read_bytes())
        content = path.read_bytes()
    except (OSError, ValueError):
        return None
    whole = len(content) == size and hashlib.sha256(content).hexdigest() == checksum
    return header if whole else None
