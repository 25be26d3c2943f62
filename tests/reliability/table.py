# SPDX-License-Identifier: Apache-2.0
"""docs/RELIABILITY.md: what was given and what came out, from a run."""

import re
from pathlib import Path
from typing import List, Mapping, NamedTuple, Sequence

from reliability.case import Case, Stage

TITLES = {
    "arguments": "Arguments",
    "options": "Every option (the message of the last value)",
    "images": "Images",
    "annotations": "COCO annotations",
    "files": "Checkpoints and executables",
    "packages": "TensorFlow, Keras, OpenVINO and the NMS libraries",
    "disk": "Disks and folders",
    "outputs": "Outputs and names",
    "environment": "Streams, terminals and variables",
    "faults": "Faults while running",
    "processes": "Faults in a run of several processes",
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
    message = re.sub(r"(?<=m[ia][nx] = )\d+\.\d+", "...", message)
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
            if case in outcomes:
                lines.append(f"| {_cell(case.given)} | {outcomes[case].status} | {_cell(outcomes[case].message)} |")
    return lines


def write(path: Path, subjects: Mapping[str, Sequence[Case]], outcomes: Mapping[Case, Row]) -> None:
    """Put the tables behind the mark of the document, and name the cases that were not played or failed."""
    every = [case for cases in subjects.values() for case in cases]
    missed = [_cell(case.given) for case in every if case not in outcomes]
    count = f"{len(outcomes)} of {len(every)} cases were played and came out as they must."
    if missed:
        count += f" Not among them: {'; '.join(missed)}."
    head = path.read_text(encoding="utf-8").partition(MARK)[0]
    text = "\n".join([head.rstrip("\n"), "", MARK, "", count, *rows(subjects, outcomes)])
    path.write_text(text + "\n", encoding="utf-8")
