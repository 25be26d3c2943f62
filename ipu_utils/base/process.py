# SPDX-License-Identifier: Apache-2.0
"""What this process has cost so far: time since it was started, and memory."""

import os
import sys
import time
from pathlib import Path
from typing import Optional

_STARTED = time.time()  # when this module was imported: the next best where the kernel does not tell


def seconds_since_start() -> float:
    """Seconds since the process was started, the interpreter's own start included where /proc tells."""
    try:
        # The command's name, in brackets, may hold spaces; start time is the 20th field behind it, in ticks since boot.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.time() - _STARTED


def peak_memory_mib() -> Optional[float]:
    """Largest resident size so far in MiB, None where the system does not tell: of this process or of one it started.

    The other one builds the network, and ends before this one takes memory for it.
    """
    return _peak_mib("RUSAGE_SELF", "RUSAGE_CHILDREN")


def own_peak_memory_mib() -> Optional[float]:
    """As `peak_memory_mib`, of this process alone."""
    return _peak_mib("RUSAGE_SELF")


def _peak_mib(*whose: str) -> Optional[float]:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = max(resource.getrusage(getattr(resource, who)).ru_maxrss for who in whose)
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere
