# SPDX-License-Identifier: Apache-2.0
"""Which devices this machine offers, found out without attaching to any of them.

TensorFlow is imported only when a GPU may be there, so that a CPU run that can do without it does not pay for it.
"""

import glob
import importlib.util
import os
from pathlib import Path
from typing import List, NamedTuple, Optional, Union

from ipu_utils.base import cgroups, instruction_sets
from ipu_utils.base.errors import UserError
from ipu_utils.base.gpu_driver import has_gpu_driver

DEVICES = ("ipu", "gpu", "cpu")  # in the order in which `auto` prefers them
IPU_PARTITION_VARIABLES = ("IPUOF_CONFIG_PATH", "IPUOF_VIPU_API_PARTITION_ID", "IPUOF_VIPU_API_PARTITION_NAME")


class Availability(NamedTuple):
    """One kind of device."""

    name: str
    available: bool
    detail: str  # what was found, or why it cannot be used


def cpu_flags(root: Union[str, Path] = cgroups.ROOT) -> frozenset:
    """Instruction-set flags as the kernel reports them; empty where it does not (macOS, Windows)."""
    for line in _lines_of(root, "proc/cpuinfo"):
        if line.startswith(("flags", "Features")):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def cpu_name(root: Union[str, Path] = cgroups.ROOT) -> str:
    """Model name of the processor as the kernel reports it; on ARM that of the board, or the numbers of the core."""
    lines = (line.partition(":") for line in _lines_of(root, "proc/cpuinfo"))
    found = {name.strip(): value.strip() for name, _, value in lines}
    if "model name" in found:
        return found["model name"]
    import platform

    board = "".join(_lines_of(root, "proc/device-tree/model")).strip("\0 ")
    name = board or platform.processor() or platform.machine()
    core = [f"{word} {found[f'CPU {word}']}" for word in ("implementer", "part") if f"CPU {word}" in found]
    return f"{name} ({', '.join(core)})" if core else name


def _lines_of(root: Union[str, Path], name: str) -> List[str]:
    try:
        return Path(root, name).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def default_precision(kind: str = "cpu") -> str:
    """Type name of the precision that suits a "cpu" or "gpu": bfloat16 only with matrix units of this CPU for it."""
    has_units = kind == "cpu" and "amx_bf16" in instruction_sets.effective(cpu_flags())
    return "bfloat16" if has_units else "float32"


def usable_cores(root: Union[str, Path] = cgroups.ROOT) -> int:
    """Cores that this process may use; fewer than the machine's under taskset or with a container's CPU quota."""
    quota = cgroups.quota_cores(root)
    return allowed_cores() if quota is None else min(quota, allowed_cores())


def allowed_cores() -> int:
    """Logical processors that this process may run on, whatever a quota lets it use of their time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def quota_threads(root: Union[str, Path] = cgroups.ROOT) -> Optional[int]:
    """Threads for an engine that sees processors but no quota; None where it may decide by itself."""
    cores = usable_cores(root)
    return cores if cores < allowed_cores() else None


def has_ipu_wheel() -> bool:
    """Is the TensorFlow that is installed Graphcore's? Found without importing it."""
    spec = importlib.util.find_spec("tensorflow")
    folders = () if spec is None else spec.submodule_search_locations or ()
    return any((Path(folder) / "python" / "ipu").is_dir() for folder in folders)


def _ipu() -> Availability:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None:
        return Availability("ipu", False, "TensorFlow is not installed")
    if not has_ipu_wheel():
        return Availability("ipu", False, "this TensorFlow is not Graphcore's: install the wheel of the Poplar SDK")
    if "--use_ipu_model" in os.environ.get("TF_POPLAR_FLAGS", ""):
        return Availability("ipu", True, "IPU model (TF_POPLAR_FLAGS)")
    nodes = sorted(glob.glob("/dev/ipu*"))
    if nodes:
        return Availability("ipu", True, ", ".join(nodes))
    partitions = [name for name in IPU_PARTITION_VARIABLES if os.environ.get(name)]
    if partitions or glob.glob(os.path.expanduser("~/.ipuof.conf.d/*")):
        return Availability("ipu", True, "V-IPU partition")
    return Availability("ipu", False, "Graphcore's TensorFlow is installed, but no IPU is attached")


def _has_ipu_module() -> bool:
    """Import TensorFlow to see whether it is Graphcore's; only for a user who asked for an IPU."""
    try:
        import ipu_utils.base.keras2  # noqa: F401 - the first import of TensorFlow, so that its log level is ours

        return importlib.util.find_spec("tensorflow.python.ipu") is not None
    except ImportError:
        return False


def _gpu() -> Availability:
    if not has_gpu_driver():
        return Availability("gpu", False, "no GPU driver on this machine")
    from ipu_utils.base.keras2 import tf

    found = tf.config.list_physical_devices("GPU")
    if not found:
        return Availability("gpu", False, "TensorFlow finds no GPU; it may lack CUDA: pip install tensorflow[and-cuda]")
    return Availability("gpu", True, ", ".join(device.name for device in found))


def _cpu() -> Availability:
    told, flags = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimdhp", "asimddp", "i8mm", "bf16"), cpu_flags()
    extras = [flag for flag in told if flag in flags]
    quota = "" if quota_threads() is None else f" (a CPU quota; it may run on {allowed_cores()})"
    return Availability("cpu", True, " ".join([f"{cpu_name()}, {usable_cores()} cores{quota}"] + extras))


PROBES = {"ipu": _ipu, "gpu": _gpu, "cpu": _cpu}


def choose_device(requested: str) -> str:
    """Resolve `auto` to an attached IPU, else a GPU, else the CPU; check any other word.

    Raises UserError where the requested device is not there; says why and what is.
    """
    if requested == "auto":
        return next(name for name in DEVICES if PROBES[name]().available)
    # With the SDK there, it waits for a device, compiles without one, or says best what is wrong.
    if requested == "ipu" and _has_ipu_module():
        return requested
    found = PROBES[requested]()
    if not found.available:
        raise UserError(f"--device {requested} cannot be used: {found.detail}. Try --device auto or --list-devices.")
    return requested


def list_devices() -> str:
    """One line a kind of device, as --list-devices prints them."""
    found = [PROBES[name]() for name in DEVICES]
    chosen = next(device.name for device in found if device.available)
    return "\n".join(
        f"{device.name:4} {'yes' if device.available else 'no ':3} {device.detail}"
        + (" (auto takes this one)" if device.name == chosen else "")
        for device in found
    )
