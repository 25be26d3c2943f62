# SPDX-License-Identifier: Apache-2.0
"""Limits of Linux control groups, versions 1 and 2: what a container may take of its machine.

A process is in one group of every hierarchy; all groups above it limit it too, so the smallest limit on the way up
counts. Inside a container the groups above may not be seen, or the path of the group may be the one outside: what is
there of the path is read.

    version 2   cpu.max: "QUOTA PERIOD" in microseconds, or "max PERIOD"; memory.max, memory.current, memory.stat
    version 1   cpu.cfs_quota_us (-1: none) and cpu.cfs_period_us; memory.limit_in_bytes, memory.usage_in_bytes,
                memory.stat

Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, and man 5 proc for the two files of
/proc.
"""

import math
import re
from pathlib import Path, PurePosixPath
from typing import Callable, Iterator, Optional, Tuple, Union

ROOT = "/"  # folder that has this machine's /proc and /sys below it
# Where hierarchies are mounted by convention: the words of their controllers, comma between them, "" for version 2; the
# group that is seen at the mount point; the mount point.
USUAL_MOUNTS = (
    ("", "/", "/sys/fs/cgroup"),
    ("cpu", "/", "/sys/fs/cgroup/cpu"),
    ("cpu", "/", "/sys/fs/cgroup/cpu,cpuacct"),
    ("memory", "/", "/sys/fs/cgroup/memory"),
)

PathLike = Union[str, Path]


def quota_cores(root: PathLike = ROOT) -> Optional[int]:
    """Return how many cores the CPU quota is worth, at least 1; None where there is no quota.

    A part of a core counts as a whole one, as the JVM, .NET and loky have it: two threads use up 1.5 cores, one does
    not.
    """
    found = _least("cpu", Path(root), _quota_of)
    return None if found is None else max(1, math.ceil(found))


def memory_left(root: PathLike = ROOT) -> Optional[int]:
    """Return the bytes that the memory limits leave, which may be negative; None where there is no limit.

    Cached files that the kernel drops first when memory gets scarce (inactive_file) count as left.
    """
    return _least("memory", Path(root), _memory_of)


def _least(controller: str, root: Path, limit_of: Callable[[Path], Optional[float]]) -> Optional[float]:
    found = (limit_of(group) for group in _groups(controller, root))
    return min((limit for limit in found if limit is not None), default=None)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of this process's groups that may limit a controller, each with all above it."""
    lines = (line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines())
    own = [(names.split(","), path) for _, names, path in (line for line in lines if len(line) == 3)]
    for controllers, mounted, point in [*_mounts(root), *USUAL_MOUNTS]:
        word = controller if controllers else ""
        if word in controllers.split(","):
            below = _below(next((path for names, path in own if word in names), "/"), mounted)
            yield from (root / point.lstrip("/") / group for group in (below, *below.parents))


def _mounts(root: Path) -> Iterator[Tuple[str, str, str]]:
    """What is mounted, as in USUAL_MOUNTS."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, behind = line.partition(" - ")
        fields, kind = before.split(" "), behind.split(" ")
        if len(fields) >= 6 and kind[0] in ("cgroup", "cgroup2"):
            # Spaces and the like are octal numbers.
            unescaped = (re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field) for field in fields[3:5])
            yield ("" if kind[0] == "cgroup2" else kind[-1], *unescaped)


def _below(group: str, mounted: str) -> PurePosixPath:
    """The part of a group's path that lies below the group at the mount point; nothing where it lies elsewhere."""
    try:
        found = PurePosixPath(group).relative_to(mounted)
    except ValueError:
        return PurePosixPath()
    return PurePosixPath() if ".." in found.parts else found


def _quota_of(group: Path) -> Optional[float]:
    """Cores that a group's quota is worth; None where it has none."""
    quota, _, period = _read(group / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    microseconds, of = _number(quota), _number(period)
    return microseconds / of if microseconds is not None and of is not None and microseconds > 0 and of > 0 else None


def _memory_of(group: Path) -> Optional[int]:
    """Bytes that a group's limit leaves; None where it has none."""
    limit, used = _number(_read(group / "memory.max")), _number(_read(group / "memory.current"))
    dropped = "inactive_file"
    if limit is None:
        limit, used = _number(_read(group / "memory.limit_in_bytes")), _number(_read(group / "memory.usage_in_bytes"))
        dropped = "total_inactive_file"
    if limit is None or used is None:
        return None
    counts = dict(line.partition(" ")[::2] for line in _read(group / "memory.stat").splitlines())
    return limit - max(0, used - (_number(counts.get(dropped, "")) or 0))


def _number(text: str) -> Optional[int]:
    return int(text) if re.fullmatch(r"\s*-?[0-9]{1,20}\s*", text) else None


def _read(path: Path) -> str:
    """A file's text, nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
