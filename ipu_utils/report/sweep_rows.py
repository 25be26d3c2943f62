# SPDX-License-Identifier: Apache-2.0
"""The combinations of a sweep as rows of a table, those without numbers too: for its text and its page."""

from typing import Any, List, Mapping, NamedTuple, Optional, Sequence

from ipu_utils.config.run_config import Precision

Record = Mapping[str, Any]


class SweepRow(NamedTuple):
    """One combination."""

    swept: Mapping[str, str]  # option -> value as typed, of the options with a list
    record: Optional[Record] = None  # None where it has no numbers
    remark: str = ""  # why it has none, or what is to be said of its end
    expected: Mapping[str, str] = {}  # column -> what a combination without numbers would have run


# Columns of every row, whether they were swept or not. A swept option whose name has such a word is that column.
ALWAYS = {
    "model": lambda record: record["model"]["name"],
    "batch": lambda record: str(record["samples"]["batch_size"]),
    "precision": lambda record: Precision(record["model"]["precision"]).word,
}
OTHERS = {"nms_mode": lambda record: record["nms"]["mode"]}  # which records tell too


def row_of(record: Record, records: Sequence[Record]) -> SweepRow:
    """The row of a record of which nothing else is known, among others of its sweep."""
    swept = {name: of(record) for name, of in OTHERS.items() if len({of(other) for other in records}) > 1}
    return SweepRow(swept, record)


def heads(rows: Sequence[SweepRow]) -> List[str]:
    """Columns that name a combination."""
    return list(dict.fromkeys((*ALWAYS, *(head_of(name) for row in rows for name in row.swept))))


def head_of(option: str) -> str:
    """The column of a swept option; `model_precision` is the precision."""
    return next((word for word in reversed(option.split("_")) if word in ALWAYS), option)


def cell_text(row: SweepRow, head: str) -> str:
    """What a row says in a column: what ran, else what would have run."""
    if row.record is not None and head in ALWAYS:
        return ALWAYS[head](row.record)
    typed = next((text for option, text in row.swept.items() if head_of(option) == head), "-")
    return row.expected.get(head, typed)


def label(row: SweepRow, columns: Sequence[str]) -> str:
    """A row in one line, such as "d0 batch 4 float"."""
    parts = [f"batch {cell_text(row, head)}" if head == "batch" else cell_text(row, head) for head in columns]
    return " ".join(parts).replace("efficientdet-", "")
