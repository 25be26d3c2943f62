# SPDX-License-Identifier: Apache-2.0
"""An IPU's executable for a run: the same steps as on a host, with Poplar's file and a description beside it."""

import dataclasses
import hashlib
import logging
import time
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np

import ipu_nms
from ipu_utils.backends import ipu
from ipu_utils.backends.contract import TO_BE_COMPILED, Compiled, Hardware, Preview
from ipu_utils.backends.ipu_build import build_program, on_chip, signature_of, step_of
from ipu_utils.backends.ipu_step import Step
from ipu_utils.base.detections import Detections
from ipu_utils.base.files import check_writable, write_atomically
from ipu_utils.base.keras2 import tf
from ipu_utils.config.run_config import RunConfig, options_dict
from ipu_utils.config.sections import names_where
from ipu_utils.executable import cache
from ipu_utils.executable.file import Header, describe, parse
from ipu_utils.executable.model_info import ModelInfo, info_of_file
from ipu_utils.model.network import preview_weights
from ipu_utils.outputs.claims import Claim, check_run

log = logging.getLogger(__name__)
FILE_NAME = "application.poplar_exec"


class IpuSession:
    """One request at a time; the runtime takes requests from any number of sessions."""

    def __init__(self, executable: ipu.Executable, step: Step, signature: Tuple[tf.TensorSpec, ...]):
        self._executable, self._step = executable, step
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
        return self._step.results(self._outputs).detections

    def candidates(self) -> None:
        """An IPU may keep the outputs of the heads to itself."""


class IpuRuntime:
    """An executable that is started on an IPU. See `ipu_utils.backends.contract.Runtime`."""

    def __init__(self, device: ipu.IpuDevice, step: Step, compiled: Compiled):
        self._step, self._signature = step, signature_of(compiled.header)
        self._executable = device.start(compiled.path, self._signature)
        self.hardware = Hardware("ipu", device.name, device.description, None, step.post_processing)

    def sessions(self, count: int) -> List[IpuSession]:
        return [IpuSession(self._executable, self._step, self._signature) for _ in range(count)]

    def close(self) -> None:
        self._executable.close()


class Backend:
    """An IPU through Poplar's embedded runtime. See `ipu_utils.backends.contract.LatencyBackend`."""

    def __init__(self, config: RunConfig, folder: Path):
        """Open the IPU; `folder` holds an executable that goes with the run."""
        self._config, self._device = config, ipu.create(config)
        self._hparams = cache.hparams_of(config)
        self._path = (config.embedded.exec_output_dir or folder) / FILE_NAME
        self._compiled: Optional[Compiled] = None

    def _find(self) -> Header:
        """Look for the executable; returns what is wanted."""
        wanted, given = self._wanted(), self._config.embedded.exec_file
        if given is None:
            self._compiled = self._kept(wanted)
        else:
            # Poplar's file says nothing about the model: without a description the options have to be those it has.
            self._compiled = Compiled(given, _described(given) or _undescribed(wanted), "given")
        return wanted

    def _kept(self, wanted: Header) -> Optional[Compiled]:
        """The executable that is kept when it is the one that is wanted; a warning says why it is not."""
        path = self._path
        check_run(self._config, [Claim(file, "--exec-output-dir") for file in (path, _description(path))])
        found = _described(path)
        reasons = cache.reasons_to_compile(found, wanted, self._config)
        if not reasons:
            return Compiled(path, cache.told_anew(found, self._config), "kept from an earlier run")
        check_writable(path, "--exec-output-dir")
        if path.exists():
            log.warning("%s is compiled again: %s.", path, "; ".join(reasons))
        return None

    def preview(self) -> Preview:
        self._find()
        if self._compiled is None:
            return Preview(preview_weights(self._config, self._hparams, self._device), TO_BE_COMPILED)
        path, header, origin = self._compiled[:3]
        return Preview(header.weights, f"{path} ({origin})", header if origin == "given" else None)

    def prepare(self) -> ModelInfo:
        """Find the executable, or build and compile it: the two are one step here."""
        wanted = self._find()
        if self._compiled is None:
            start = time.perf_counter()
            header = self._compile(wanted, self._path)
            self._compiled = Compiled(self._path, header, "compiled", seconds=time.perf_counter() - start)
        return info_of_file(self._compiled.header)

    def compile(self) -> Compiled:
        return self._compiled

    def start(self) -> IpuRuntime:
        step = step_of(self._config, self._hparams, None, self._compiled.header.precision)
        return IpuRuntime(self._device, step, self._compiled)

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


def _described(path: Path) -> Optional[Header]:
    """Header of an executable, or None when there is no file that is whole and described."""
    try:
        header, size, checksum = parse(_description(path).read_bytes())
        content = path.read_bytes()
    except (OSError, ValueError):
        return None
    whole = len(content) == size and hashlib.sha256(content).hexdigest() == checksum
    return header if whole else None
