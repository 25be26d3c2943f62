# SPDX-License-Identifier: Apache-2.0
"""What of a folder is not taken for an image, counted by kind. Its size does not grow with the folder's."""

from pathlib import Path
from typing import Dict, List, Optional

NAMES_OF_A_KIND = 3
KINDS = 10
OTHER = "other"  # what kinds beyond the first `KINDS` are counted as


class LeftOut:
    """Files and folders that were left out, and why.

    Attributes:
      count: how many. counts: the same by kind, an extension or a few words. names: the first of each kind, as paths
        below the root.
    """

    def __init__(self, root: Optional[Path] = None):
        """Nothing is left out of the folder `root` yet."""
        self._root = root
        self.counts: Dict[str, int] = {}
        self.names: Dict[str, List[str]] = {}

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def add(self, kind: str, path: Path) -> None:
        """Count a file below the root."""
        if kind not in self.counts and len(self.counts) >= KINDS:
            kind = OTHER
        self.counts[kind] = self.counts.get(kind, 0) + 1
        names = self.names.setdefault(kind, [])
        if len(names) < NAMES_OF_A_KIND:
            names.append(path.relative_to(self._root).as_posix())

    def kinds(self) -> str:
        """Such as "12 .heic, 1 .txt", the most frequent first."""
        return ", ".join(f"{self.counts[kind]} {_shown(kind)}" for kind in self._ordered())

    def describe(self) -> str:
        """Lines for the report: how many, of which kinds, and the first names of each; nothing when there are none."""
        if not self.count:
            return ""
        lines = [f"left out:  {self.count} files or folders that are not read as images"]
        for kind in self._ordered():
            names = ", ".join(map(_shown, self.names[kind]))
            more = self.counts[kind] - len(self.names[kind])
            lines.append(f"\t{self.counts[kind]} {_shown(kind)}: {names}{f' and {more} more' if more else ''}")
        return "\n".join(lines) + "\n"

    def _ordered(self) -> List[str]:
        return sorted(self.counts, key=lambda kind: (kind == OTHER, -self.counts[kind], kind))


def _shown(name: str) -> str:
    """A name on one line, whatever is in it."""
    return name if name.isprintable() else repr(name)
