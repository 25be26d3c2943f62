# SPDX-License-Identifier: Apache-2.0
"""What benchmarks leave behind: children's answers, tables between markers of a document, charts as SVG files."""

import subprocess
import sys
from pathlib import Path
from typing import List, Sequence

from ipu_utils.base.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "PERFORMANCE.md"
STYLE = (
    "<style>text{font-family:sans-serif}.label{font-size:13px;fill:#5c636b}.strong{fill:#1c1f23}"
    ".axis{stroke:#5c636b}.grid{stroke:#dfe2e5}.s1{fill:#2f6fb5}.s2{fill:#d9762b}"
    ".halo{paint-order:stroke;stroke:#fff;stroke-width:4px}</style>"
)


def child(script: Path, arguments: Sequence[str]) -> str:
    """Run a script in a process of its own and return the last line of its output."""
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def tell(text: str) -> None:
    """Say on standard error how far a measurement that takes long is; standard output has the results alone."""
    print(text, file=sys.stderr, flush=True)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_section(document: Path, name: str, content: str) -> None:
    """Put `content` between the markers of `name`, which are added at the end where the document has none.

    Args:
      name: of the script that writes it, or with a dash a part of what that writes: "growth-batch".
    """
    script = name.split("-")[0]
    begin, end = f"<!-- {name}: begin, written by benchmarks/{script}.py -->", f"<!-- {name}: end -->"
    text = document.read_text(encoding="utf-8") if document.exists() else "# Performance\n"
    if (begin in text) != (end in text) or text.find(end) < text.find(begin):
        raise ValueError(f"{document}: the markers of {name} are not a pair")
    if begin not in text:
        text += f"\n{begin}\n{end}\n"
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    write_atomically(document, (f"{before}{begin}\n{content.strip()}\n{end}{after}".encode(),), "--document")


def write_chart(path: Path, svg: str) -> None:
    """Write a chart of `ipu_utils.report.charts` as a picture that stands by itself, on white."""
    svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff" ', 1)
    write_atomically(path, (svg.replace("</title>", "</title>" + STYLE, 1).encode(),), "--document")


def parse_numbers(text: str) -> List[int]:
    """Numbers of a comma list."""
    return [int(part) for part in text.split(",")]
