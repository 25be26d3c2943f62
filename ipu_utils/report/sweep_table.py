# SPDX-License-Identifier: Apache-2.0
"""The table that ends a sweep: every combination in a line of at most 120 letters, and what its columns mean."""

from typing import Optional, Sequence

from ipu_utils.base.printable import report_line
from ipu_utils.measure.throughput import WHAT_TO_DO
from ipu_utils.report.sweep_rows import NUMBERS, SweepRow, cell_text, explained, heads, number_names, status
from ipu_utils.report.text import RANDOM

WIDTH = 120
ONLY_ON_THE_PAGE = ("mean", "p99")  # for which there is no room
NOTES = {
    "UNSTABLE": f"UNSTABLE: {WHAT_TO_DO}",
    "FAILED": "FAILED: what a combination said is above; the others are complete.",
}


def format_table(rows: Sequence[SweepRow], total: Optional[int] = None) -> str:
    """All combinations with their most important numbers, in ASCII, and what they mean below them.

    Args:
      rows: of the combinations. total: how many of them were to be measured; None: none was.
    """
    columns, names = heads(rows), [name for name in number_names(rows) if name not in ONLY_ON_THE_PAGE]
    words = [[cell_text(row, head).replace("efficientdet-", "") for head in columns] for row in rows]
    states = [status(row) for row in rows]
    numbers = {at: [NUMBERS[name][1](row.record) for name in names] for at, row in enumerate(rows) if row.record}
    units = [NUMBERS[name][0] for name in names]
    left = [max(map(len, texts)) for texts in zip(columns, *words)]
    left.append(max(map(len, ["status", *(states[at] for at in numbers)])))
    right = [max(map(len, texts)) for texts in zip(names, units, *numbers.values())]

    def line(number: str, texts: Sequence[str], values: Sequence[str]) -> str:
        parts = [f"{number:>3}", *(f"{text:{width}}" for text, width in zip(texts, left))]
        return "  ".join([*parts, *(f"{value:>{width}}" for value, width in zip(values, right))]).rstrip()

    lines = [line("", [*columns, "status"], names), line("", [""] * len(left), units)]
    reasons = []
    for at, (texts, state) in enumerate(zip(words, states)):
        text = line(str(at + 1), [*texts, state], numbers.get(at, ()))  # a reason takes the place of the numbers
        if len(text) > WIDTH:
            text = text[: WIDTH - 3] + "..."
            reasons.append(f"{at + 1:>3}: {state}")
        lines.append(text)
    notes = [note for word, note in NOTES.items() if any(f" {word}" in text for text in lines)]
    lines += [*reasons, *(report_line(*told) for told in explained(rows)), *notes]
    if any(row.record["weights"]["random"] for row in rows if row.record):
        lines.append(f"random weights: {RANDOM}")
    if total is not None and len(numbers) < total:
        lines.append(f"{total - len(numbers)} of {total} combinations have no numbers")
    return "\n".join(lines)
