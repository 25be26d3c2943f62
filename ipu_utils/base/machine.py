# SPDX-License-Identifier: Apache-2.0
"""The machine, the installed software and the state of this project's sources, as plain data. No TensorFlow."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterable, Optional

from ipu_utils import __version__
from ipu_utils.base import hardware, process

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tensorflow", "tf-keras", "keras", "openvino", "ai-edge-litert", "onnxruntime", "onnxruntime-gpu", "numpy",
            "Pillow", "mpi4py")  # fmt: skip
GIT_SECONDS = 5  # a repository on a slow network drive must not hold up a run


def describe_machine() -> Dict[str, Any]:
    """Processor, memory and operating system."""
    return {
        "cpu": hardware.cpu_name(),
        "cpu_flags": sorted(hardware.cpu_flags()),
        "cores": os.cpu_count(),
        "usable_cores": hardware.usable_cores(),
        "memory_mib": memory_mib(),
        "peak_memory_mib": process.peak_memory_mib(),  # so far
        "own_peak_memory_mib": process.own_peak_memory_mib(),
        "system": platform.platform(),
    }


def memory_mib() -> Optional[int]:
    """Memory of the machine in MiB, None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    except (AttributeError, ValueError, OSError):
        return None


def versions() -> Dict[str, str]:
    """Versions of Python and of the packages that are installed among PACKAGES."""
    return {"python": platform.python_version(), **package_versions(PACKAGES)}


def package_versions(names: Iterable[str]) -> Dict[str, str]:
    """Versions of those packages that are installed, without importing them."""
    found = {name: package_version(name) for name in names}
    return {name: version for name, version in found.items() if version is not None}


def package_version(name: str) -> Optional[str]:
    """Version of an installed package, without importing it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def describe_version() -> str:
    """Two lines: this benchmark with its commit, and what it runs on."""
    state = git_state()
    commit = "" if state is None else f", commit {state['commit'][:12]}{', changed since' if state['modified'] else ''}"
    engines = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"EfficientDet inference benchmark {__version__}{commit}\n{engines}"


def git_state() -> Optional[Dict[str, Any]]:
    """Commit of the sources, and whether files were changed since; None outside a git checkout."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "modified": _git("status", "--porcelain", "--untracked-files=no") != ""}


def _git(*arguments: str) -> Optional[str]:
    # Without optional locks: a run that is stopped here, or a git that is too slow, would leave the repository locked.
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
