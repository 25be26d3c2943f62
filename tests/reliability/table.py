# SPDX-License-Identifier: Apache-2.0
"""docs/RELIABILITY.md: what was given and what came out, from a run."""

import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from reliability.case import Case, Stage

TITLES = {
    "arguments": "Arguments",
    "images": "Images",
    "files": "Checkpoints and executables",
    "environment": "Environment",
    "faults": "Faults while running",
}
MARK = "<!-- generated below this line by `make reliability`: do not edit -->"
LONGEST = 420  # letters of a message; TensorFlow's own can fill a page


class Row(NamedTuple):
    """What came out of a case."""

    status: int
    message: str


def tidy(message: str, stage: Stage) -> str:
    """A message without what differs from machine to machine and from run to run."""
    for name in ("executable", "folder", "images", "root"):
        value = stage.values.get(name)
        if value:
            message = message.replace(value, "PROJECT" if name == "root" else name.upper())
    message = re.sub(r"/\S*/(python[0-9.]*|site-packages)(?=[/\s).,]|$)", r".../\1", message)
    message = re.sub(r"/tmp/[^\s,:)]*", "/tmp/...", message)
    message = re.sub(r"\b\d+\.\d+(?= (ms|s|samples|MiB|GiB)\b)", "...", message)
    message = "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in message)
    return message if len(message) <= LONGEST else message[:LONGEST] + " ..."


def _cell(text: str) -> str:
    shown = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'").replace("*", "\\*")
    return "<br>".join(line.strip() for line in shown.splitlines() if line.strip()) or "(nothing)"


def rows(subjects: Mapping[str, Sequence[Case]], outcomes: Mapping[Case, Row]) -> List[str]:
    """Lines of one table a subject."""
    lines: List[str] = []
    for subject, cases in subjects.items():
        lines += ["", f"## {TITLES[subject]}", "", "| given | status | message |", "| --- | --- | --- |"]
        for case in cases:
            row = outcomes[case]
            lines.append(f"| {_cell(case.given)} | {row.status} | {_cell(row.message)} |")
    return lines


def write(path: Path, subjects: Mapping[str, Sequence[Case]], outcomes: Dict[Case, Any]) -> None:
    """Put the tables behind the mark of the document; not when a case was left out or failed."""
    left_out = [case.given for cases in subjects.values() for case in cases if case not in outcomes]
    if left_out:
        raise RuntimeError(f"{path} stays as it is, because these cases were not played: {'; '.join(left_out)}")
    head = path.read_text(encoding="utf-8").partition(MARK)[0]
    text = "\n".join([head.rstrip("\n"), "", MARK, f"\n{len(outcomes)} cases.", *rows(subjects, outcomes)])
    path.write_text(text + "\n", encoding="utf-8")
