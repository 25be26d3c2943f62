# SPDX-License-Identifier: Apache-2.0
"""A case: what is given, and what must come out."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

MODEL = ["--model-name", "efficientdet-lite0", "--image-size", "64", "--random-weights"]
TINY = [*MODEL, "--num-repeats", "2", "--benchmark-repeats", "2"]
# What TensorFlow says of its start, on its own: lines such as "E0000 00:00:17 123 cuda_platform.cc:52] failed".
NOISE = re.compile(r"[IWEF]\d{4} |WARNING: All log messages before absl::InitializeLog")
TENSORFLOW = [*TINY, "--engine", "tensorflow"]


@dataclass(frozen=True, eq=False)
class Case:
    """One thing that goes wrong, or looks as if it should.

    `arguments` and the values of `environ` may hold {folder}, the case's own empty folder; {executable}, a small
    executable that fits this machine; {images}, the test photographs; and {root}, the project.
    """

    given: str  # what the user does, for people
    arguments: Sequence[str] = ()
    status: int = 2
    words: Sequence[str] = ()  # that the message must hold
    script: str = "throughput"  # or "embedded"; or the path of a program in the project
    prepare: Callable[[Path], Any] = lambda folder: None  # puts files into the case's folder
    environ: Mapping[str, Optional[str]] = field(default_factory=dict)  # None: the variable is unset
    own_process: bool = False  # where the state of a process matters
    run: Optional[Callable[[Any], Any]] = None  # does it all: takes a `Stage`, returns an `Outcome`
    check: Callable[[Any], None] = lambda stage: None  # what else must hold afterwards
    needs: Sequence[str] = ()  # "openvino", "executable", "operators", "root", "linux"
    slow: bool = False

    @classmethod
    def own(cls, given: str, script: str, arguments: Sequence[str], status: int, words: Sequence[str], **more: Any):
        """A case in a process of its own."""
        return cls(given, arguments, status, words, script, own_process=True, **more)

    @property
    def name(self) -> str:
        """An identifier for pytest."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.given)[:70].strip("_")


@dataclass
class Outcome:
    """What came out."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What the user reads last about the problem: the error and what belongs to it, else the remarks of the run."""
        lines = [line for line in self.err.splitlines() if not NOISE.match(line)]
        starts = [number for number, line in enumerate(lines) if "error: " in line or line.startswith("interrupted")]
        if starts:
            return "\n".join(lines[starts[-1] :])
        found = [line for line in lines if line.startswith(("note: ", "WARNING "))]
        found += [line for line in self.out.splitlines() if line.startswith(("skipped", "\tthroughput", "partial"))]
        return "\n".join(found)

    def problems(self, case: "Case") -> List[str]:
        """Why this is not what must come out; empty when it is."""
        found = []
        if "Traceback (most recent call last)" in self.err:
            found.append("there is a traceback")
        if self.status != case.status:
            found.append(f"status {self.status}, expected {case.status}")
        everything = self.out + self.err
        found += [f"no word of {word!r}" for word in case.words if word not in everything]
        if case.status == 2 and not self.message:
            found.append("no error is named")
        return [*found, f"standard output:\n{self.out}", f"standard error:\n{self.err}"] if found else []


@dataclass
class Stage:
    """Where a case is played."""

    case: Case
    folder: Path
    values: Dict[str, str]  # of the placeholders

    def filled(self, texts: Sequence[str]) -> List[str]:
        """Texts with their placeholders replaced; other braces stay."""
        return [_fill(str(text), self.values) for text in texts]


def _fill(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text
