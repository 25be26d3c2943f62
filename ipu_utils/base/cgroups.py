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
from typing import Callable, Iterator, List, NamedTuple, Optional, Union

ROOT = "/"
# Where hierarchies are mounted by convention, with their controllers; "" is version 2.
USUAL_MOUNTS = (
    ("", "/sys/fs/cgroup"),
    ("cpu", "/sys/fs/cgroup/cpu"),
    ("cpu", "/sys/fs/cgroup/cpu,cpuacct"),
    ("memory", "/sys/fs/cgroup/memory"),
)

PathLike = Union[str, Path]


class _Mount(NamedTuple):
    """A hierarchy that is mounted."""

    controllers: str  # the words of its controllers, comma between them; "" for version 2
    group: str  # the group that is seen at the mount point
    point: str


def quota_cores(root: PathLike = ROOT) -> Optional[int]:
    """Return how many cores the CPU quota is worth, at least 1; None where there is no quota.

    A part of a core counts as a whole one, as the JVM, .NET and loky have it: two threads use up 1.5 cores, one does
    not.

    Args:
      root: folder that has this machine's /proc and /sys below it.
    """
    found = _least("cpu", root, _quota_of)
    return None if found is None else max(1, math.ceil(found))


def memory_left(root: PathLike = ROOT) -> Optional[int]:
    """Return the bytes that the memory limits leave, which may be negative; None where there is no limit.

    Cached files that the kernel drops first when memory gets scarce (inactive_file) count as left.

    Args:
      root: as of `quota_cores`.
    """
    found = _least("memory", root, _memory_of)
    return None if found is None else int(found)


def _least(controller: str, root: PathLike, limit_of: Callable[[Path], Optional[float]]) -> Optional[float]:
    found = (limit_of(group) for group in _groups(controller, Path(root)))
    return min((limit for limit in found if limit is not None), default=None)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of this process's groups that may limit a controller, each with all above it."""
    own = _own_groups(root)
    for mount in [*_mounts(root), *(_Mount(controllers, "/", point) for controllers, point in USUAL_MOUNTS)]:
        if mount.controllers and controller not in mount.controllers.split(","):
            continue
        top = root / mount.point.lstrip("/")
        group = next((path for names, path in own if _same_hierarchy(names, mount.controllers, controller)), "/")
        yield from _upwards(top, _below(group, mount.group))


def _same_hierarchy(names: str, mounted: str, controller: str) -> bool:
    return controller in names.split(",") if mounted else not names


def _own_groups(root: Path) -> List[List[str]]:
    """[controllers, path] of every hierarchy, from lines `number:controllers:path`."""
    fields = (line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines())
    return [field[1:] for field in fields if len(field) == 3]


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, behind = line.partition(" - ")
        fields, kind = before.split(" "), behind.split(" ")
        if len(fields) < 6 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        group, point = (_unescaped(field) for field in fields[3:5])
        controllers = "" if kind[0] == "cgroup2" else kind[-1]
        yield _Mount(controllers, group, point)


def _unescaped(field: str) -> str:
    """A path of mountinfo, in which spaces and the like are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _below(group: str, mounted: str) -> PurePosixPath:
    """The part of a group's path that lies below the group at the mount point; nothing where it lies elsewhere."""
    try:
        found = PurePosixPath(group).relative_to(mounted)
    except ValueError:
        return PurePosixPath()
    return PurePosixPath() if ".." in found.parts else found


def _upwards(top: Path, path: PurePosixPath) -> Iterator[Path]:
    for folder in [path, *path.parents] if path.parts else [path]:
        yield top / folder


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
